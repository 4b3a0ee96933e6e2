"""A check's outcome in a sentence or two, the same in every output. It holds numbers and names, no text of a probe."""

from __future__ import annotations

from buckler.gate.decide import Outcome


def sentences(outcome: Outcome) -> str:
    """What was found, why it was decided so, and what to do if it was not."""
    test = outcome.test
    if outcome.state == "off":
        return f"switched off; {outcome.probes} probes not compared"
    if test is None:
        return "not asked: no document is among the probes"
    if test.high is None:
        return f"there are no such probes: {outcome.check.mend}, or switch the check off ({outcome.check.id}: off)"
    if test.loss is None:
        return (
            f"none of {outcome.probes} probes could be read on both sides (verdicts.jsonl says why): take a judge that can, "
            f"ask again what was not answered, or switch the check off ({outcome.check.id}: off)"
        )
    found = f"{outcome.base:.2f} -> {outcome.tuned:.2f}, {change(outcome)}"
    return f"{found}: {_why(outcome)}{_unread(outcome)}"


def change(outcome: Outcome) -> str:
    """The loss with its interval."""
    test = outcome.test
    if test is None or test.low is None or test.high is None:
        return "-"
    value = "?" if test.loss is None else signed(test.loss)
    return f"worse by {value} [{signed(test.low)}, {signed(test.high)}] on {test.n} probes"


def signed(value: float) -> str:
    """Two decimals, with a plus before a loss and no sign before nothing."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def _why(outcome: Outcome) -> str:
    test = outcome.test
    assert test is not None
    if test.decision == "pass":
        sure = "; a sure loss all the same" if test.is_loss else "; a sure gain" if test.is_gain else ""
        return f"within the margin of {test.margin:.2f}{sure}"
    if test.decision == "fail":
        return f"the whole interval is beyond the margin of {test.margin:.2f}"
    return f"the interval reaches across the margin of {test.margin:.2f}; {_needs(outcome)}"


def _needs(outcome: Outcome) -> str:
    test = outcome.test
    assert test is not None
    if test.held_up_by_unread:
        return "what was read decides by itself, so have the rest read"
    if test.needed is not None:
        needs = f"about {test.needed} probes would decide, if they go on as these {outcome.probes}"
    elif test.unread:
        needs = "no number of probes will decide with so many unread; have them read"
    else:
        needs = "the loss lies on the margin, and no number of probes will decide"
    seen = f"; changes below {outcome.visible:.2f} are easily missed with {test.n} probes" if outcome.visible else ""
    return needs + seen


def _unread(outcome: Outcome) -> str:
    test = outcome.test
    assert test is not None
    return f" ({test.unread} unread, taken at their worst and best in the interval)" if test.unread else ""
