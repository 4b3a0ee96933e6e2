"""Findings of a search: what the fixed attack hid, and what a defence is worth before the worst attack found."""

from __future__ import annotations

from buckler.experiments.attack_search.tables import RecordedSearch, Victim, understated, victims
from buckler.experiments.results import RunResult
from buckler.experiments.results_view import Metric, gain
from buckler.report.claims import D2D, Finding, Part, finding, negative, part, spell_difference, spell_level


def search_claims(results: RunResult) -> list[Finding]:
    """Each finding for every model that was attacked."""
    found, search = victims(results), RecordedSearch.of(results)
    bare = {one.model: one for one in found if one.defence == "none"}
    return [
        *finding(
            "A fixed attack understates: an attacker who searches does better.",
            "arXiv 2310.03693: what a fine-tuning attack does depends on its learning rate and batch size. "
            f"Here: {search.budget}.",
            [_understated(one, search.metric) for one in found],
        ),
        *finding(
            "The defence lowers the success of the worst attack found, not only that of the fixed one.",
            f"{D2D} attacks each defence with fixed settings.",
            [_lowered(bare[one.model], one, search.metric) for one in found if one.defence != "none" and one.model in bare],
        ),
    ]


def _understated(one: Victim, metric: Metric) -> Part | None:
    if one.fixed is None or one.worst is None:
        return None
    levels = f"fixed {spell_level(one.fixed.cell(metric))}, worst found {spell_level(one.worst.cell(metric))}"
    where = f"{one.model}, {one.name}"
    return part(where, {"worst found minus fixed": understated(one, metric)}, f"Attack success {levels};")


def _lowered(bare: Victim, one: Victim, metric: Metric) -> Part | None:
    if one.worst is None or bare.worst is None:
        return None
    said = "Fall of attack success against no defence, each before the worst attack found on it:"
    under_fixed = negative(gain(bare.fixed, one.fixed, metric))
    tail = "" if under_fixed.value is None else f"Before the fixed attack the fall is {spell_difference(under_fixed)}."
    return part(f"{one.model}, {one.name}", {"worst found": negative(gain(bare.worst, one.worst, metric))}, said, tail)
