"""Names of the previous release that are gone, and what to write instead. An entry stays for one release.

An old name is refused with the new one in the message; it is never read as the new one in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

OPTIONS: dict[str, str] = {}
"""Old option to new one, by command: `"curate --old": "--new"`. A value with a space is said as it is (`removed; use ...`)."""
KEYS: dict[str, str] = {}
"""Old key of a recipe or setting to new one; the old one dotted as far as it takes to tell it from others of its name."""


def now_called(old: str, table: Mapping[str, str], among: str = "") -> str | None:
    """The sentence that says what became of `old`; None where nothing did.

    Args:
        old: An option, or the dotted path of a key.
        table: `OPTIONS` or `KEYS`.
        among: The command of an option.
    """
    ends = [old.split(".", at)[-1] for at in range(old.count(".") + 1)]
    new = next((table[name] for name in (f"{among} {old}", *ends) if name in table), None)
    if new is None:
        return None
    return f"`{old}` is {new}" if " " in new else f"`{old}` is now `{new}`"
