"""The gate's outcome for people and for programs.

For people: each check in a sentence or two, the same in every output, and a page of Markdown for a pull request or
GITHUB_STEP_SUMMARY; numbers and names, no text of a probe. For programs: JUnit XML has one test case a check, as test panels
of CI systems read it; SARIF 2.1.0 (OASIS) has one rule a check and one result for each check that asks for attention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from buckler import __version__
from buckler.data import Json
from buckler.data.reading import read_text
from buckler.evaluation.paired import NonInferiority
from buckler.gating.checks import CHECKS, Check, Probe
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
    return f"{change_}: {_why(outcome)}{_unscored(outcome)}{_withheld(outcome)}"


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
        sure = "; a significant loss nevertheless" if test.is_loss else "; a significant gain" if test.is_gain else ""
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
        needs = "no number of probes will decide with so many unscored; have them judged"
    else:
        needs = "the loss lies on the margin, and no number of probes will decide"
    seen = f"; changes below {outcome.visible:.2f} are easily missed with {test.n} probes" if outcome.visible else ""
    return needs + seen


def _unscored(outcome: Outcome) -> str:
    test = outcome.test
    assert test is not None
    return f" ({test.unscored} unscored, taken at their worst and best in the interval)" if test.unscored else ""


def _withheld(outcome: Outcome) -> str:
    """Refusals that are none of the model's own."""
    base, tuned = outcome.withheld
    return f" (withheld by the provider, not refused by the model: {base} of base, {tuned} of tuned)" if base or tuned else ""


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
        *_benchmarks(gate),
    ]
    for one in gate.outcomes:
        if one.worse and one.test is not None and (one.state != "pass" or one.test.is_loss):
            lines += ["", *_worse(one, show_unsafe)]
    return "\n".join(lines) + "\n"


def _parts(gate: Gate) -> Iterator[tuple[str, str, str, str, str, int]]:
    """Each benchmark's share in each check, where two or more were asked."""
    for one in gate.outcomes:
        for name, part in one.benchmarks.items():
            yield one.check.id, name, _number(part.base), _number(part.tuned), _loss(part.test), part.test.n


def _benchmarks(gate: Gate) -> list[str]:
    rows = [f"| {check} | {plain(name, 60)} | {' | '.join(map(str, rest))} |" for check, name, *rest in _parts(gate)]
    head = "By benchmark. The checks are over all probes, each once; a probe of two benchmarks counts in both here."
    table = ["| check | benchmark | base | tuned | worse by | probes |", "|---|---|---:|---:|---:|---:|"]
    return ["", head, "", *table, *rows] if rows else []


def part_lines(gate: Gate) -> list[str]:
    """The benchmarks' shares for a terminal."""
    return [
        f"    {check:24} {name:32} {base} -> {tuned}, worse by {loss}, n {n}"
        for check, name, base, tuned, loss, n in _parts(gate)
    ]


def _loss(test: NonInferiority) -> str:
    if test.loss is None or test.low is None or test.high is None:
        return "?"
    beyond = ", by itself beyond the margin" if test.decision == "fail" else ""
    return f"{signed(test.loss)} [{signed(test.low)}, {signed(test.high)}]{beyond}"


def _row(outcome: Outcome) -> str:
    test = outcome.test
    name = f"| {outcome.check.id} | {outcome.check.title} "
    if test is None or test.low is None or test.high is None:
        margin = f"{test.margin:.2f}" if test else ""
        return f"{name}| | | | {margin} | {outcome.probes} | {_decision(outcome)} |"
    loss = "?" if test.loss is None else signed(test.loss)
    unscored = f" ({test.unscored} unscored)" if test.unscored else ""
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


NAME = "buckler.gate"
SHOWN_RESULTS = 20
"""Probes named for a check that does not pass; all of them stand in gate.json."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_HELP = (
    "Both models were asked the same probes, and the loss is compared with the margin of {check} in the margins file (or its "
    "default). error: significantly worse than the margin; warning: too few probes to tell, the message says how many would; "
    "note: significantly worse, within the margin. gate.json names the probes that became worse; their answers lie beside it."
)


def junit(gate: Gate) -> str:
    """`failure`: the check fails; `error`: it could not be decided; `skipped`: it is off or was not asked."""
    counts = {
        "tests": len(gate.outcomes),
        "failures": sum(one.state == "fail" for one in gate.outcomes),
        "errors": sum(one.state == "inconclusive" for one in gate.outcomes),
        "skipped": sum(one.state in ("off", "not asked") for one in gate.outcomes),
    }
    totals = {name: str(number) for name, number in counts.items()}
    root = ElementTree.Element("testsuites", {"name": NAME, **totals, "time": "0"})
    suite = ElementTree.SubElement(root, "testsuite", {"name": NAME, **totals, "time": "0"})
    properties = ElementTree.SubElement(suite, "properties")
    run_properties = {"base": gate.base, "tuned": gate.tuned, "judge": gate.judge, "alpha": f"{gate.settings.alpha:g}"}
    for name, value in {**run_properties, "decision": gate.decision}.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for outcome in gate.outcomes:
        _case(suite, outcome)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, outcome: Outcome) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": NAME, "name": outcome.check.id, "time": "0"})
    sentence = f"{outcome.check.title}: {sentences(outcome)}"
    tag = {"fail": "failure", "inconclusive": "error", "off": "skipped", "not asked": "skipped"}.get(outcome.state)
    if tag is None:
        ElementTree.SubElement(case, "system-out").text = sentence
    elif tag == "skipped":
        ElementTree.SubElement(case, tag, {"message": sentence})
    else:
        worse = "".join(f"\nworse: {_clean(probe.id)}" for probe in outcome.worse[:SHOWN_RESULTS])
        ElementTree.SubElement(case, tag, {"message": sentence, "type": outcome.state}).text = sentence + worse


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a reader is sent: the settings that were broken, and the answers that broke them."""

    answers: Path
    """Of the tuned model, one a line."""
    lines: Mapping[str, int]
    """By probe, counted from 1."""
    settings: Path | None = None


def sarif(gate: Gate, places: Places) -> dict[str, Json]:
    """The log. A check that passes gives no result: scanners show every result as something to fix.

    `error`: the check fails; `warning`: inconclusive; `note`: it passes, with a sure loss within the margin.
    """
    rules: list[Json] = [_rule(check) for check in CHECKS]
    results = [_result(outcome, level, places) for outcome in gate.outcomes if (level := _level(outcome)) is not None]
    driver: dict[str, Json] = {"name": "Buckler gate", "semanticVersion": __version__, "rules": rules}
    run: dict[str, Json] = {
        "tool": {"driver": driver},
        "automationDetails": {"id": "buckler-gate/"},
        "invocations": [{"executionSuccessful": True, "exitCode": gate.exit_status}],
        "results": results,
        "properties": {"base": gate.base, "tuned": gate.tuned, "judge": gate.judge, "decision": gate.decision},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(check: Check) -> dict[str, Json]:
    return {
        "id": check.id,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": f"{check.title}: no worse than the base model by more than the margin"},
        "help": {"text": _HELP.format(check=check.id)},  # GitHub asks for it
        "defaultConfiguration": {"level": "error"},
    }


def _level(outcome: Outcome) -> str | None:
    if outcome.state == "pass":
        return "note" if outcome.test is not None and outcome.test.is_loss else None
    return {"fail": "error", "inconclusive": "warning"}.get(outcome.state)


def _result(outcome: Outcome, level: str, places: Places) -> dict[str, Json]:
    line = _line_of(outcome.check.id, places.settings) if places.settings else 1
    shown = [
        _location(places.answers, places.lines.get(probe.id, 1), at) for at, probe in enumerate(outcome.worse[:SHOWN_RESULTS])
    ]
    return {
        "ruleId": outcome.check.id,
        "ruleIndex": CHECKS.index(outcome.check),
        "level": level,
        "message": {"text": f"{outcome.check.title}: {sentences(outcome)}"},
        "locations": [_location(places.settings or places.answers, line)],
        "relatedLocations": shown,
        # the same finding tomorrow is the same alert, whatever its numbers
        "partialFingerprints": {"check/v1": outcome.check.id},
    }


def _location(path: Path, line: int, number: int | None = None) -> dict[str, Json]:
    place: dict[str, Json] = {"physicalLocation": {"artifactLocation": {"uri": _uri(path)}, "region": {"startLine": line}}}
    return place if number is None else {"id": number, **place, "message": {"text": "the tuned model does worse here"}}


def _uri(path: Path) -> str:
    """Relative to where the command runs, as scanners want it; whole where the file lies elsewhere."""
    whole = path.expanduser().resolve()
    return quote(whole.relative_to(Path.cwd()).as_posix()) if whole.is_relative_to(Path.cwd()) else whole.as_uri()


def _line_of(name: str, settings: Path) -> int:
    """The line of a check's margin; 1 where the default is used."""
    lines = read_text(settings).splitlines()
    return next((number for number, line in enumerate(lines, 1) if re.match(rf"\s*{name}\s*:", line)), 1)
