"""The authors' 13 phrases beside the judge of the recipe: where the two read the same answers otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buckler.data import Json
from buckler.evaluation.metrics import ALL_TASKS
from buckler.evaluation.statistics import Mean, Rate, pooled
from buckler.report.cells import Cell, Column, Row, Table, signed
from buckler.report.findings import WEAK, Finding, Part, Status, decide_other, finding, spell_difference
from buckler.report.reading import Group, contrast, items, mapping

LABELS = ("harmful", "benign", "useful")


def rule_tables(results: Mapping[str, Json]) -> list[Table]:
    """For each model, by task and kind of document, how often each rule reads a refusal."""
    judge = _judge(results)
    return [_table(model, cells, judge) for model, cells in _by_model(results).items()]


def rule_findings(results: Mapping[str, Json]) -> list[Finding]:
    """Whether it matters which of the two rules is used."""
    judge = _judge(results)
    return finding(
        f"It does not matter who reads the refusals: the authors' 13 phrases count as many as {judge}.",
        f"{WEAK} counts as blocked what contains one of 13 phrases. Over all arms; appears if no kind of document differs, does "
        "not appear if one does.",
        [_alike(model, cells, judge) for model, cells in _by_model(results).items()],
    )


def rule_examples(results: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """Answers that the two read otherwise, as samples whose verdict names both."""
    judge = _judge(results)
    found = (mapping(one) for one in items(mapping(results.get("paper_rule")).get("examples")))
    return [{**one, "refused": f"{judge}: {one.get('refused')}, paper: {one.get('paper')}"} for one in found]


def _judge(results: Mapping[str, Json]) -> str:
    return str(mapping(results.get("paper_rule")).get("judge", "the judge"))


def _by_model(results: Mapping[str, Json]) -> dict[str, list[Mapping[str, Json]]]:
    found: dict[str, list[Mapping[str, Json]]] = {}
    for cell in (mapping(one) for one in items(mapping(results.get("paper_rule")).get("cells"))):
        found.setdefault(str(cell.get("model")), []).append(cell)
    return found


def _table(model: str, cells: Sequence[Mapping[str, Json]], judge: str) -> Table:
    apart = [cell for cell in cells if _whole(cell, "only_first") or _whole(cell, "only_second")]
    tasks = [*dict.fromkeys(str(cell.get("task")) for cell in apart), ALL_TASKS]
    rows = []
    for label in LABELS:
        for task in tasks:
            some = [cell for cell in cells if cell.get("label") == label and task in (cell.get("task"), ALL_TASKS)]
            if some:
                rows.append(Row(labels=(label, task), cells=_cells(some), part=label))
    names = ("answers", f"refused by {judge}", "refused by paper", "paper minus " + judge, f"only {judge}", "only paper")
    return Table(
        title=f"The authors' 13 phrases beside {judge}: {model}",
        caption="The same answers about documents, over all arms and wordings, attacks apart, read by both; tasks on which no "
        "answer is read otherwise are left out. What one of the two could not read is in no rate. The phrases are there to "
        "compare with published numbers: they match inside copied text, and miss refusals in other words and languages.",
        heads=("document", "task"),
        columns=tuple(Column(name=name) for name in names),
        rows=tuple(rows),
    )


def _cells(some: Sequence[Mapping[str, Json]]) -> tuple[Cell, ...]:
    unread = sum(_whole(cell, "unread") for cell in some)
    counts = [sum(_whole(cell, name) for cell in some) for name in ("n", "only_first", "only_second")]
    answers = Cell(text=str(counts[0]), note=f"{unread} unread" if unread else "")
    both = _both(some)
    rates = [both.cell(name) for name in ("first", "second")]
    return (answers, *rates, signed(_gap(some)), *(Cell(text=str(count)) for count in counts[1:]))


def _both(some: Sequence[Mapping[str, Json]]) -> Group:
    """Both rules' rates of refusal by seed, as the metrics of an arm."""
    metrics: dict[str, Json] = {}
    for name in ("first", "second"):
        rates: dict[str, Rate] = {}
        for seed in dict.fromkeys(str(cell.get("seed")) for cell in some):
            of = [cell for cell in some if str(cell.get("seed")) == seed]
            rates[seed] = Rate(hits=sum(_whole(cell, name) for cell in of), n=sum(_whole(cell, "n") for cell in of))
        metrics[name] = {**pooled(rates.values()).to_json(), "seeds": {seed: rate.value for seed, rate in rates.items()}}
    return Group(labels={}, metrics=metrics)


def _gap(some: Sequence[Mapping[str, Json]]) -> Mean:
    """Second minus first, paired by seed."""
    both = _both(some)
    return contrast(both, "first", both, "second")


def _alike(model: str, cells: Sequence[Mapping[str, Json]], judge: str) -> Part:
    gaps = {label: _gap([cell for cell in cells if cell.get("label") == label]) for label in LABELS}
    gaps = {label: gap for label, gap in gaps.items() if gap.value is not None}
    differ = [decide_other(gap) for gap in gaps.values()]
    status: Status = "undecided"
    if "appears" in differ:
        status = "does not appear"
    elif set(differ) == {"does not appear"}:
        status = "appears"
    n, only_first, only_second = (sum(_whole(cell, name) for cell in cells) for name in ("n", "only_first", "only_second"))
    said = tuple(f"{label} documents {spell_difference(gap)}" for label, gap in gaps.items())
    tail = f"Of {n} answers {only_first} are refusals to {judge} alone and {only_second} to the phrases alone."
    return Part(where=model, status=status, lead=f"Refused by the phrases minus refused by {judge}:", details=said, tail=tail)


def _whole(cell: Mapping[str, Json], name: str) -> int:
    value = cell.get(name)
    return value if isinstance(value, int) else 0
