"""Options that take several values at once: `--probes a.csv b.csv` is `--probes a.csv --probes b.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand


class Several(TyperCommand):
    """A command whose list options may be followed by several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the context of whichever click typer brings
        """As typer's, with every value under an option of its own."""
        parsed: list[str] = super().parse_args(ctx, spread(args, self.params))
        return parsed


def spread(args: Sequence[str], params: Sequence[Any]) -> list[str]:
    """`args` with every value of a list option under an option of its own.

    Such an option takes what follows it up to the next option. Where that leaves the command without an argument it needs, its
    last values are those arguments, as in `buckler evaluate --probes a.csv MODEL`.

    Args:
        args: The words of the command line, after the command.
        params: What the command takes, as click describes it. With an argument of any number of words there is no telling whose
            a word is: nothing is changed then.
    """
    arguments = [one for one in params if one.param_type_name == "argument"]
    if any(one.nargs == -1 for one in arguments):
        return list(args)
    options = {name: one for one in params if one.param_type_name == "option" for name in (*one.opts, *one.secondary_opts)}
    found: list[str] = []
    plain = 0
    value_of: str | None = None
    several: str | None = None
    more: dict[int, list[int]] = {}
    """Where the further values of a list option stand in `found`, each after the option's name, by where the option stood."""
    opened = 0
    for at, word in enumerate(args):
        if word == "--":
            found += args[at:]
            break
        if value_of is not None:
            several, value_of = value_of if options[value_of].multiple else None, None
        elif word.startswith("-") and len(word) > 1:
            value_of, several, opened = word if word in options and not options[word].is_flag else None, None, at
        elif several is not None:
            more.setdefault(opened, []).append(len(found))
            found.append(several)
        else:
            plain += 1
        found.append(word)
    lacking = max(0, sum(one.nargs for one in arguments if one.required) - plain)
    for start in reversed(next(reversed(more.values()), [])[-lacking:] if lacking else []):
        del found[start]
    return found
