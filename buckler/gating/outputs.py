"""The gate's outcome as files that other programs read.

JUnit XML has one test case a check, as test panels of CI systems read it; SARIF 2.1.0 (OASIS) has one rule a check and one
result for each check that asks for attention, as code scanners show them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from buckler import __version__
from buckler.data import Json
from buckler.gating.checks import CHECKS, Check
from buckler.gating.decision import Gate, Outcome
from buckler.gating.summary import sentences

NAME = "buckler.gate"
SHOWN = 20
"""Probes named for a check that does not pass; all of them stand in gate.json."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_HELP = (
    "Both models were asked the same probes, and the loss is compared with the margin of {check} in the margins file (or its "
    "default). error: surely worse than the margin; warning: too few probes to tell, the message says how many would; "
    "note: surely worse, within the margin. gate.json names the probes that became worse; their answers lie beside it."
)


def junit(gate: Gate) -> str:
    """`failure`: the check fails; `error`: it could not be decided; `skipped`: it is off or was not asked."""
    counts = {
        "tests": len(gate.outcomes),
        "failures": sum(one.state == "fail" for one in gate.outcomes),
        "errors": sum(one.state == "undecided" for one in gate.outcomes),
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
    tag = {"fail": "failure", "undecided": "error", "off": "skipped", "not asked": "skipped"}.get(outcome.state)
    if tag is None:
        ElementTree.SubElement(case, "system-out").text = sentence
    elif tag == "skipped":
        ElementTree.SubElement(case, tag, {"message": sentence})
    else:
        worse = "".join(f"\nworse: {_clean(probe.id)}" for probe in outcome.worse[:SHOWN])
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

    `error`: the check fails; `warning`: undecided; `note`: it passes, with a sure loss within the margin.
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
    return {"fail": "error", "undecided": "warning"}.get(outcome.state)


def _result(outcome: Outcome, level: str, places: Places) -> dict[str, Json]:
    line = _line_of(outcome.check.id, places.settings) if places.settings else 1
    shown = [_location(places.answers, places.lines.get(probe.id, 1), at) for at, probe in enumerate(outcome.worse[:SHOWN])]
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
    lines = settings.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if re.match(rf"\s*{name}\s*:", line)), 1)
