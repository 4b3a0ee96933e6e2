"""The 13 phrases of arXiv 2312.06924 beside the judge of the recipe: where the two read the same answers otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.data import Verdict
from buckler.evaluation.metrics import ALL_TASKS
from buckler.evaluation.scores import about_document
from buckler.evaluation.statistics import Mean, Rate
from buckler.experiments.base import MeasuredArm
from buckler.experiments.cross_task.recipe import WEAK
from buckler.experiments.results import MetricResult, PhraseCell, PhraseRule, RunResult, SampleResult
from buckler.experiments.results_view import cell_of, contrast
from buckler.judges.phrases import compare
from buckler.report.claims import Finding, Part, Status, decide_other, finding, format_difference
from buckler.report.tables import Cell, Column, Table, TableRow, signed

PAPER = "paper"
"""The judge whose verdicts stand beside the recipe's: the authors' phrases."""
MISSING = "No verdicts of the authors' phrases were saved; `buckler run` of this recipe on its store judges the saved answers so."
EXAMPLES = 5
"""Number of shown answers on which the two judges disagree."""
LABELS = ("harmful", "benign", "useful")


def phrase_rule(arms: Sequence[MeasuredArm], first_seed: int, judge: str) -> PhraseRule:
    """The verdicts of both on the answers about documents, documents under attack left out.

    Returns:
        Counts by model, seed, task and label over all arms, and a few answers of the first seed on which the two disagree.
        Empty if there is nothing to compare.
    """
    pairs: dict[tuple[str | int, ...], list[tuple[Verdict, Verdict]]] = {}
    examples: dict[tuple[str | None, ...], SampleResult] = {}
    for arm in arms if judge != PAPER else ():
        if arm.second_verdicts is None:
            continue
        answers = [one for one in arm.answers() if about_document(one.meta) and "attack" not in one.meta]
        ours = arm.verdicts()
        for one, theirs in zip(answers, arm.second_verdicts(answers), strict=True):
            verdict, task, label = ours[one.id], str(one.meta["task"]), str(one.meta["label"])
            pairs.setdefault((arm.labels["model"], arm.seed, task, label), []).append((verdict, theirs))
            if arm.seed == first_seed and None is not verdict.is_refusal != theirs.is_refusal is not None:
                # one of a kind: the same answer comes back in many arms
                examples.setdefault(
                    (verdict.refused, label, task), arm.sample(one, verdict).model_copy(update={"paper": theirs.refused})
                )
    names = ("model", "seed", "task", "label")
    cells = [
        PhraseCell.model_validate({**dict(zip(names, at, strict=True)), **compare(some).to_json()}) for at, some in pairs.items()
    ]
    return PhraseRule(judge=judge, cells=cells, examples=list(examples.values())[:EXAMPLES]) if cells else PhraseRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Some of the cells, summed."""

    cells: Sequence[PhraseCell]

    def sum(self, name: str) -> int:
        """One count over all cells."""
        return sum(int(getattr(cell, name)) for cell in self.cells)

    def metric(self, side: str) -> MetricResult:
        """The rate of refusal by seed that one of the two reads."""
        by_seed = {seed: _Counts(cells=[cell for cell in self.cells if cell.seed == seed]) for seed in self.seeds}
        return MetricResult.of_rates({seed: Rate(hits=of.sum(side), n=of.sum("n")) for seed, of in by_seed.items()})

    @property
    def seeds(self) -> list[int]:
        """Every seed."""
        return list(dict.fromkeys(cell.seed for cell in self.cells))

    @property
    def gap(self) -> Mean:
        """The phrases' rate minus the judge's, paired by seed."""
        return contrast(self.metric("first"), self.metric("second"))


def rule_tables(results: RunResult) -> list[Table]:
    """For each model, by task and kind of document, how often each rule reads a refusal."""
    return [_table(model, cells, results.paper_rule.judge) for model, cells in _by_model(results).items()]


def rule_claims(results: RunResult) -> list[Finding]:
    """Whether it matters which of the two rules is used."""
    judge = results.paper_rule.judge
    parts = [_alike(model, cells, judge) for model, cells in _by_model(results).items()]
    if not parts and results.record.judge.get("name", PAPER) != PAPER:
        parts, judge = [Part(where="all models", status="inconclusive", lead=MISSING)], str(results.record.judge["name"])
    return finding(
        f"It does not matter who reads the refusals: the authors' 13 phrases count as many as {judge}.",
        f"{WEAK} counts as blocked what contains one of 13 phrases. Over all arms; reproduced if no kind of document differs, "
        "not reproduced if one does.",
        parts,
    )


def rule_examples(results: RunResult) -> Mapping[str, Sequence[SampleResult]]:
    """Answers on which the two disagree, as samples whose verdict names both."""
    rule = results.paper_rule
    examples = [
        example.model_copy(update={"refused": f"{rule.judge}: {example.refused}, paper: {example.paper}"})
        for example in rule.examples
    ]
    return {"Read differently by the authors' 13 phrases": examples} if examples else {}


def _by_model(results: RunResult) -> dict[str, list[PhraseCell]]:
    by_model: dict[str, list[PhraseCell]] = {}
    for cell in results.paper_rule.cells:
        by_model.setdefault(cell.model, []).append(cell)
    return by_model


def _table(model: str, cells: Sequence[PhraseCell], judge: str) -> Table:
    disagreeing = [cell for cell in cells if cell.only_first or cell.only_second]
    tasks = [*dict.fromkeys(cell.task for cell in disagreeing), ALL_TASKS]
    rows = []
    for label in LABELS:
        for task in tasks:
            some = [cell for cell in cells if cell.label == label and task in (cell.task, ALL_TASKS)]
            if some:
                rows.append(TableRow(labels=(label, task), cells=_cells(_Counts(cells=some)), part=label))
    names = ("answers", f"refused by {judge}", "refused by paper", "paper minus " + judge, f"only {judge}", "only paper")
    return Table(
        title=f"The authors' 13 phrases beside {judge}: {model}",
        caption="The same answers about documents, over all arms and wordings, without those under attack, read by both; tasks "
        "on which no answer is read differently are left out. What one of the two could not read is in no rate. The phrases are "
        "there to compare with published numbers: they match inside copied text, and miss refusals in other words and languages.",
        heads=("document", "task"),
        columns=tuple(Column(name=name) for name in names),
        rows=tuple(rows),
    )


def _cells(some: _Counts) -> tuple[Cell, ...]:
    unscored = some.sum("unscored")
    answers = Cell(text=str(some.sum("n")), note=f"{unscored} unscored" if unscored else "")
    rates = [cell_of(some.metric(side)) for side in ("first", "second")]
    return (answers, *rates, signed(some.gap), *(Cell(text=str(some.sum(name))) for name in ("only_first", "only_second")))


def _alike(model: str, cells: Sequence[PhraseCell], judge: str) -> Part:
    gaps = {label: _Counts(cells=[cell for cell in cells if cell.label == label]).gap for label in LABELS}
    gaps = {label: gap for label, gap in gaps.items() if gap.value is not None}
    differ = [decide_other(gap) for gap in gaps.values()]
    status: Status = "inconclusive"
    if "reproduced" in differ:
        status = "not reproduced"
    elif set(differ) == {"not reproduced"}:
        status = "reproduced"
    n, only_first, only_second = (_Counts(cells=cells).sum(name) for name in ("n", "only_first", "only_second"))
    by_label = tuple(f"{label} documents {format_difference(gap)}" for label, gap in gaps.items())
    tail = f"Of {n} answers {only_first} are refusals to {judge} alone and {only_second} to the phrases alone."
    return Part(where=model, status=status, lead=f"Refused by the phrases minus refused by {judge}:", details=by_label, tail=tail)
