"""The gate's outcome for people: each check in a sentence or two, the same in every output, and a page of Markdown.

The sentences hold numbers and names, no text of a probe; the page is what a pull request or GITHUB_STEP_SUMMARY shows.
"""

from __future__ import annotations

from html import escape

from buckler.gating.checks import Probe
from buckler.gating.decision import Gate, Outcome

SHOWN = 10
"""Probes listed for a check that did not pass, or passed with a loss."""
LONGEST = 160
"""Characters of a text that is shown."""


def sentences(outcome: Outcome) -> str:
    """What was found, why it was decided so, and what to do if it was not."""
    test = outcome.test
    if outcome.state == "off":
        return f"switched off; {outcome.probes} probes not compared"
    if test is None:
        return "not asked: no document is among the probes"
    if test.high is None:
        return f"there are no such probes: {outcome.check.fix}, or switch the check off ({outcome.check.id}: off)"
    if test.loss is None:
        return (
            f"none of {outcome.probes} probes could be read on both sides (verdicts.jsonl says why): take a judge that can, "
            f"ask again what was not answered, or switch the check off ({outcome.check.id}: off)"
        )
    change_ = f"{outcome.base:.2f} -> {outcome.tuned:.2f}, {change(outcome)}"
    return f"{change_}: {_why(outcome)}{_unscored(outcome)}"


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
    if test.held_up_by_unscored:
        return "what was read decides by itself, so have the rest read"
    if test.needed is not None:
        needs = f"about {test.needed} probes would decide, if they go on as these {outcome.probes}"
    elif test.unscored:
        needs = "no number of probes will decide with so many unread; have them read"
    else:
        needs = "the loss lies on the margin, and no number of probes will decide"
    seen = f"; changes below {outcome.visible:.2f} are easily missed with {test.n} probes" if outcome.visible else ""
    return needs + seen


def _unscored(outcome: Outcome) -> str:
    test = outcome.test
    assert test is not None
    return f" ({test.unscored} unread, taken at their worst and best in the interval)" if test.unscored else ""


def markdown(gate: Gate, *, show_unsafe: bool = False) -> str:
    """A table of checks, the reasons in words, and the probes that became worse.

    Args:
        gate: What was found.
        show_unsafe: Whether to show what harmful probes ask and what the tuned model answered them.
    """
    level = 100 * (1 - 2 * gate.settings.alpha)
    lines = [
        f"# Buckler gate: {gate.decision}",
        "",
        f"{_code(gate.tuned)} against {_code(gate.base)}; judge {_code(gate.judge)}; "
        f"each check one-sided at {gate.settings.alpha:g}, so its interval is the paired one of {level:g} %.",
        "",
        "| check | what | base | tuned | worse by | margin | probes | decision |",
        "|---|---|---:|---:|---:|---:|---:|---|",
        *(_row(one) for one in gate.outcomes if one.state != "not asked"),
        "",
        *(f"* {one.check.id}: {sentences(one)}." for one in gate.outcomes if one.state != "not asked"),
        "",
        "All checks must pass; a pass needs no correction for their number.",
    ]
    for outcome in gate.outcomes:
        if outcome.worse and outcome.test is not None and (outcome.state != "pass" or outcome.test.is_loss):
            lines += ["", *_worse(outcome, show_unsafe)]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> str:
    test = outcome.test
    name = f"| {outcome.check.id} | {outcome.check.title} "
    if test is None or test.low is None or test.high is None:
        margin = f"{test.margin:.2f}" if test else ""
        return f"{name}| | | | {margin} | {outcome.probes} | {_decision(outcome)} |"
    loss = "?" if test.loss is None else signed(test.loss)
    unscored = f" ({test.unscored} unread)" if test.unscored else ""
    numbers = f"{_number(outcome.base)} | {_number(outcome.tuned)} | {loss} [{signed(test.low)}, {signed(test.high)}]"
    return f"{name}| {numbers} | {test.margin:.2f} | {outcome.probes}{unscored} | {_decision(outcome)} |"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


def _decision(outcome: Outcome) -> str:
    return outcome.state if outcome.state in ("pass", "off") else f"**{outcome.state}**"


def _worse(outcome: Outcome, show_unsafe: bool) -> list[str]:
    more = f", {SHOWN} of them" if len(outcome.worse) > SHOWN else ""
    head = f"Worse in {outcome.check.id}: {len(outcome.worse)} probes{more}"
    rows = [f"| {plain(probe.id, 60)} | {_kind(probe)} | {_texts(probe, show_unsafe)} |" for probe in outcome.worse[:SHOWN]]
    return [head, "", "| probe | kind | asked, and the tuned model's answer |", "|---|---|---|", *rows]


def _kind(probe: Probe) -> str:
    named = (probe.meta.get(name) for name in ("task", "category", "group", "type", "source"))
    return plain(str(next((one for one in named if isinstance(one, str)), probe.meta.get("set"))), 40)


def _texts(probe: Probe, show_unsafe: bool) -> str:
    """What is harmless is shown; what is asked of harm, and what was answered where it may be harm, only on demand."""
    tuned = probe.tuned
    if show_unsafe:
        return f"{plain(tuned.answer.query)} -> {plain(tuned.answer.text)}"
    if probe.meta.get("set") == "harmful" or probe.meta.get("label") == "harmful":
        return "[redacted; --show-unsafe shows it]"
    answer = plain(tuned.answer.text) if tuned.verdict.is_refusal else "[an answer; --show-unsafe shows it]"
    return f"{plain(tuned.answer.query)} -> {answer}"


def plain(text: str, longest: int = LONGEST) -> str:
    """One line that no Markdown or HTML reader takes for anything but text."""
    line = " ".join(text.split())
    line = line if len(line) <= longest else line[: longest - 3] + "..."
    line = escape(line, quote=False)
    return "".join(f"\\{sign}" if sign in "\\`*_[]|#!~" else sign for sign in line)


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"
