"""What an experiment found: every arm's numbers, the same over seeds, and paired differences, as one JSON file."""

from buckler.results.assemble import collect, collect_again
from buckler.results.over_seeds import flat
from buckler.results.provenance import record

__all__ = ["collect", "collect_again", "flat", "record"]
