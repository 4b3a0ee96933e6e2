"""The page of a report: sections in, HTML, Markdown and JSON out; unsafe text is redacted unless asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined

from buckler.data import Json, bounded_json, write_json, write_text
from buckler.data.reading import read_text
from buckler.report.claims import RULE, Finding
from buckler.report.figures import Sketch, draw_all
from buckler.report.tables import Table, escape, to_markdown

TEMPLATE = "template.html.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An answer to look at, with its verdict."""

    set: str
    """The probe set."""
    task: str | None
    query: str
    answer: str
    refused: str | None
    """None where no verdict was given."""
    coherent: bool | None
    harmful: bool
    """Whether the query is shown only if asked for."""
    unsafe: bool
    """Whether neither query nor answer is."""

    @property
    def redacted(self) -> Sample:
        """As it may be shown."""
        query = redacted(self.query) if self.harmful or self.unsafe else self.query
        return replace(self, query=query, answer=redacted(self.answer) if self.unsafe else self.answer)


def redacted(text: str) -> str:
    """What stands for a text that is not shown."""
    return f"[redacted: {len(text)} characters; --show-unsafe shows it]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One study on a page."""

    name: str
    question: str
    """What it asks."""
    findings: Sequence[Finding]
    tables: Sequence[Table]
    reading: str
    """How to read the tables."""
    figures: Sequence[Sketch]
    samples: Mapping[str, Sequence[Sample]]
    """By heading, redacted already where they must be."""
    record: Sequence[tuple[str, str]]
    """How it was made."""
    settings: Mapping[str, Json]
    """What it was asked to do, shown as YAML."""
    results: Mapping[str, Json]
    """What `report.json` repeats of the numbers behind it."""

    @property
    def recipe(self) -> str:
        """The settings as YAML."""
        if not self.settings:
            return ""
        plain = bounded_json(json.dumps(self.settings))  # no anchors for values that stand twice
        return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def write_page(sections: Sequence[Section], out: Path, *, title: str) -> list[Path]:
    """Write `report.html`, `report.md` and `report.json` into the folder `out`; the same input gives the same bytes."""
    files = [out / name for name in ("report.html", "report.md", "report.json")]
    write_text(files[0], to_html(sections, title))
    write_text(files[1], to_markdown_page(sections, title))
    write_json(files[2], to_json(sections, title))
    return files


def to_json(sections: Sequence[Section], title: str) -> dict[str, Json]:
    """`report.json`."""
    experiments: list[Json] = [
        {
            "results": section.results,
            "findings": [finding.to_json() for finding in section.findings],
            "tables": [table.to_json() for table in section.tables],
        }
        for section in sections
    ]
    return {"title": title, "rule": RULE, "experiments": experiments}


def to_html(sections: Sequence[Section], title: str) -> str:
    """`report.html`: one file that needs nothing else."""
    text = read_text(Path(__file__).with_name(TEMPLATE))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pairs = [(one, draw_all(one.figures, f"experiment-{at}")) for at, one in enumerate(sections)]
    return environment.from_string(text).render(title=title, sections=pairs, rule=RULE) + "\n"


def to_markdown_page(sections: Sequence[Section], title: str) -> str:
    """`report.md`: the same without figures."""
    lines = [f"# {escape(title)}", ""]
    for section in sections:
        lines += [f"## {escape(section.name)}", "", escape(section.question), "", "### Findings", "", escape(RULE), ""]
        for finding in section.findings:
            lines.append(f"* **{escape(finding.claim)}** Published: {escape(finding.published)}")
            lines += [f"  * {escape(p.where)}: **{p.status}**. {escape(p.text)}" for p in finding.parts]
        lines += ["", "### Tables", "", escape(section.reading), "", *(to_markdown(table) for table in section.tables)]
        lines += ["### Samples", "", *_markdown_samples(section), "### How it was made", ""]
        lines += [f"* {escape(name)}: {escape(value)}" for name, value in section.record]
        lines += ["", "```yaml", section.recipe.replace("```", "'''").rstrip("\n"), "```", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _markdown_samples(one: Section) -> Iterable[str]:
    for heading, samples in one.samples.items():
        yield from (f"**{escape(heading)}**", "", "| set | query | answer | refused |", "| --- | --- | --- | --- |")
        for sample in samples:
            task = f", {sample.task}" if sample.task else ""
            verdict = "unscored" if sample.refused is None else sample.refused
            cells = (f"{sample.set}{task}", sample.query, sample.answer, verdict)
            yield f"| {' | '.join(escape(cell) for cell in cells)} |"
        yield ""
