"""The report of experiments: what each kind says of its results, as sections of a page and as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from buckler.data import Json
from buckler.errors import DataError
from buckler.experiments.judge_reliability import reliability_sentence, reliability_tables
from buckler.experiments.registry import experiment_of
from buckler.experiments.results import RunResult, SampleResult
from buckler.experiments.results_view import INTERVALS, additional_tables, benchmark_tables
from buckler.report.claims import Finding
from buckler.report.figures import Drawing, draw_all
from buckler.report.page import Sample, Section, write_page
from buckler.report.tables import Table, print_tables
from buckler.settings import explain

if TYPE_CHECKING:
    from rich.console import Console


def write_report(results: Sequence[RunResult], out: Path, *, title: str, show_unsafe: bool = False) -> list[Path]:
    """Write `report.html`, `report.md` and `report.json` into the folder `out`; the same input gives the same bytes.

    Args:
        results: One entry an experiment, of any kind.
        out: The folder, made if it is not there.
        title: Of the page.
        show_unsafe: Whether to show harmful questions and the answers to them that were not refusals. They are redacted
            in all three files otherwise.
    """
    return write_page([section(result, show_unsafe=show_unsafe) for result in results], out, title=title)


def section(results: RunResult, *, show_unsafe: bool) -> Section:
    """What a report says of one experiment."""
    try:
        return _section(results if show_unsafe else _redacted(results))
    except (DataError, ValidationError) as fault:  # what the kind reads of the recorded recipe is checked as it is read
        reason = str(fault) if isinstance(fault, DataError) else explain(RunResult, fault, {})
        raise DataError(f"results of {results.name}: {reason}") from None


def _section(shown: RunResult) -> Section:
    experiment = experiment_of(shown.kind)
    return Section(
        name=shown.name,
        question=" ".join(part for part in (experiment.question, shown.about) if part),
        findings=findings_of(shown),
        tables=tables_of(shown),
        reading=f"{INTERVALS} {experiment.flags} {reliability_sentence(shown)}",
        figures=list(experiment.figures(shown)),
        samples=_samples(shown),
        record=_record(shown),
        settings=shown.record.recipe,
        results=shown.to_json(),
    )


def findings_of(results: RunResult) -> list[Finding]:
    """All findings of one experiment."""
    return experiment_of(results.kind).claims(results)


def tables_of(results: RunResult) -> list[Table]:
    """All tables of one experiment."""
    tables = [table for table in experiment_of(results.kind).tables(results) if table.rows]
    return [*tables, *benchmark_tables(results), *additional_tables(results), *reliability_tables(results)]


def drawings_of(results: RunResult) -> list[Drawing]:
    """All figures of one experiment, drawn."""
    return draw_all(experiment_of(results.kind).figures(results))


def print_results(results: Sequence[RunResult], console: Console | None = None) -> None:
    """The main tables in a terminal."""
    closing = f"{INTERVALS} A table shows them where the terminal is wide enough."
    print_tables([(tables_of(result), reliability_sentence(result)) for result in results], closing, console)


def _redacted(results: RunResult) -> RunResult:
    """Results with what harmful probes ask, and answers that were not refusals, redacted."""
    changes: dict[str, object] = {"samples": [_shown(sample) for sample in results.samples]}
    rule = results.paper_rule
    if "examples" in rule.model_fields_set:
        changes["paper_rule"] = rule.model_copy(update={"examples": [_shown(example) for example in rule.examples]})
    return results.model_copy(update=changes)


def _shown(one: SampleResult) -> SampleResult:
    safe = _sample(one).redacted
    return one.model_copy(update={"query": safe.query, "answer": safe.answer})


def _sample(one: SampleResult) -> Sample:
    return Sample(
        set=one.set,
        task=one.task,
        query=one.query,
        answer=one.answer,
        refused=one.refused,
        coherent=one.coherent,
        harmful=one.set == "harmful",
        unsafe=one.unsafe,
    )


def _samples(results: RunResult) -> dict[str, list[Sample]]:
    """Samples by arm, and those of the kind."""
    samples: dict[str, list[Sample]] = {}
    for sample in results.samples:
        samples.setdefault(", ".join(f"{key} {value}" for key, value in sample.labels.items()), []).append(_sample(sample))
    examples = experiment_of(results.kind).examples
    if examples is not None:
        samples |= {heading: [_sample(one) for one in of] for heading, of in examples(results).items()}
    return samples


def _record(results: RunResult) -> list[tuple[str, str]]:
    """How it was made, the recipe apart, and what came of each curation: rows, candidates, rejections by reason."""
    named = [(key.replace("_", " "), _plain(value)) for key, value in results.record.to_json().items() if key != "recipe"]
    seeds = ", ".join(str(seed) for seed in results.seeds)
    return [*named, ("seeds", seeds), *((name, _plain(counts)) for name, counts in results.curation.items())]


def _plain(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    return str(value)
