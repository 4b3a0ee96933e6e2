"""Tables of a customization: every defence at every stage, controls of the curation, paired differences, perplexities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from buckler.experiments.results import DifferenceResult, MeanResult, PairedResult, RunResult, Saved, SpreadResult
from buckler.experiments.results_view import (
    ATTACK_SUCCESS,
    BENIGN,
    BORDERLINE,
    COHERENCE,
    HARMFUL,
    KINDS,
    LEAST_COHERENT,
    LEAST_UTILITY,
    MOST_REFUSED,
    UTILITY,
    ArmView,
    Metric,
    arms_of,
    blocks,
    by_the_provider,
    first,
    gain,
    unfit,
)
from buckler.experiments.stages.plan import UNTOUCHED
from buckler.report.tables import Cell, Column, Table, TableRow, caution, column_of, format_p, signed

STAGES = ("pre", "in", "post", "all")
STAGE_RANKS = ("none", *STAGES)
DEFENCE_RANKS = ("none", "filter", "uncurated", "safety", "curated", "control")
PARTS = {"none": "reference", "filter": "baselines", "uncurated": "baselines", "safety": "baselines", "control": "controls"}
TEXTS = ("safe answers", "commonsense", "curated", "harmful answers")
"""Kinds of text, as a table of perplexities orders them."""
FLAGS = (
    f"Flagged, with (!): {MOST_REFUSED} or more of harmless questions refused, coherence under {LEAST_COHERENT}, "
    f"or utility under {LEAST_UTILITY} of what the base model had."
)


class _Curation(Saved):
    direction: str | None = None
    words_per_prompt: int | None = None


class _Defence(Saved):
    kind: str | None = None
    curation: _Curation | None = None


class RecordedStages(Saved):
    """What claims and tables read of the recipe that results keep; results of older versions may lack any of it."""

    curation: _Curation = _Curation()
    defences: dict[str, _Defence] = Field(default_factory=dict)
    controls: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, results: RunResult) -> RecordedStages:
        """The recipe of results."""
        return cls.model_validate(results.record.recipe)

    def changed(self, name: str) -> str:
        """What the settings of a control change, against those of the recipe's curation, in words."""
        ours, theirs = self.curation, self.defences.get(name, _Defence()).curation or _Curation()
        changed = []
        if theirs.words_per_prompt == 0 and ours.words_per_prompt != 0:
            changed.append("no seed words")
        if theirs.direction == "random" and ours.direction != "random":
            changed.append("no choice by perplexity")
        elif theirs.direction is not None and theirs.direction != ours.direction:
            changed.append(f"direction {theirs.direction}")
        return ", ".join(changed) or "settings of its own"

    def kinds(self, arms: Sequence[ArmView]) -> dict[str, str]:
        """What kind each defence is: none, filter, uncurated, safety, curated, or control (curated, with settings of its own)."""
        kinds: dict[str, str] = {}
        for arm in arms:
            name = arm.label("defence")
            settings = self.defences.get(name, _Defence())
            kind = settings.kind or name
            kinds[name] = "filter" if kind.endswith("_drop") else "control" if settings.curation else kind
        # A recipe may give its only curation to the defence itself.
        if "curated" not in kinds.values() and not self.controls:
            kinds = {name: "curated" if kind == "control" else kind for name, kind in kinds.items()}
        return kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackCondition:
    """One model under one attack."""

    model: str
    attack: str
    arms: Sequence[ArmView]
    kinds: Mapping[str, str]
    """What kind each defence is."""

    @property
    def where(self) -> str:
        """Both in words."""
        return f"{self.model}, attack {self.attack}"

    @property
    def untouched(self) -> ArmView | None:
        """The base model."""
        return first(self.arms, {"stage": UNTOUCHED})

    @property
    def attacked(self) -> ArmView | None:
        """The customized model without a defence."""
        return first(self.arms, {"defence": "none", "stage": "none"})

    def of_kind(self, kind: str) -> list[str]:
        """Names of the defences of a kind, as the recipe orders them."""
        return [name for name in dict.fromkeys(arm.label("defence") for arm in self.arms) if self.kinds.get(name) == kind]

    def stages(self, name: str) -> dict[str, ArmView]:
        """The arms of a defence in the order of the stages."""
        of = {arm.label("stage"): arm for arm in self.arms if arm.label("defence") == name}
        return {stage: of[stage] for stage in STAGES if stage in of}


def attack_conditions(results: RunResult) -> list[AttackCondition]:
    """Every model under every attack."""
    arms = arms_of(results)
    kinds = RecordedStages.of(results).kinds(arms)
    of_attack = blocks(arms, "model", "attack").items()
    return [AttackCondition(model=model, attack=attack, arms=of, kinds=kinds) for (model, attack), of in of_attack]


def stage_tables(results: RunResult) -> list[Table]:
    """One table for each model and attack, then controls, paired differences and perplexities."""
    seen, recipe = attack_conditions(results), RecordedStages.of(results)
    kinds = seen[0].kinds if seen else {}
    return [
        *(_grid(one) for one in seen),
        *(_controls(one, recipe) for one in seen),
        *_difference_tables(results, kinds),
        *_perplexity_tables(results),
    ]


def _grid(condition: AttackCondition) -> Table:
    kinds, untouched = condition.kinds, condition.untouched
    ordered = sorted(condition.arms, key=lambda one: _rank(one, kinds))
    metrics = [*_harmful_columns(ordered), *_other_columns(ordered)]
    seeds = max((one.cell(metric).n for one in ordered for metric, _, _ in metrics), default=0)
    rows = tuple(_row(one, [metric for metric, _, _ in metrics], untouched, kinds) for one in ordered)
    columns = [column_of(name, [row.cells[at] for row in rows], note) for at, (_, name, note) in enumerate(metrics)]
    return Table(
        title=f"{condition.model} under attack {condition.attack}",
        caption=f"{seeds} seed{'' if seeds == 1 else 's'}. {caution(cell for row in rows for cell in row.cells)}".rstrip(),
        heads=("defence", "stage"),
        columns=tuple(columns),
        rows=rows,
    )


def _rank(arm: ArmView, kinds: Mapping[str, str]) -> tuple[int, str, int]:
    kind, stage = kinds.get(arm.label("defence"), "control"), arm.label("stage")
    place = STAGE_RANKS.index(stage) if stage in STAGE_RANKS else -1
    rank = DEFENCE_RANKS.index(kind) if kind in DEFENCE_RANKS else len(DEFENCE_RANKS)
    return rank, arm.label("defence"), place


def _harmful_columns(arms: Sequence[ArmView]) -> list[tuple[Metric, str, str]]:
    """Refusal by group of kinds where there are groups, else over all."""
    by_kind = [(Metric("refusal_rate", "harmful", kind), f"harmful refused: {words}", "high") for kind, words in KINDS.items()]
    shown = [one for one in by_kind if any(arm.measured(one[0]) for arm in arms)]
    withheld = [one for one in by_the_provider(HARMFUL, "harmful") if any(arm.measured(one[0]) for arm in arms)]
    return [*(shown or [(HARMFUL, "harmful questions refused", "high")]), *withheld]


def _other_columns(arms: Sequence[ArmView]) -> list[tuple[Metric, str, str]]:
    wanted = [
        (ATTACK_SUCCESS, "attack success", "low"),
        (BORDERLINE, "borderline refused", "low"),
        *by_the_provider(BORDERLINE, "borderline"),
        (BENIGN, "benign refused", "low"),
        *by_the_provider(BENIGN, "benign"),
        (COHERENCE, "coherence", "high"),
        (UTILITY, "utility", "high"),
    ]
    return [one for one in wanted if any(arm.measured(one[0]) for arm in arms)]


def _row(arm: ArmView, metrics: Sequence[Metric], untouched: ArmView | None, kinds: Mapping[str, str]) -> TableRow:
    faults = faults_of(arm, untouched)
    cells = [replace(arm.cell(metric), bad=metric in faults) for metric in metrics]
    kind = kinds.get(arm.label("defence"), "")
    flag = "; ".join(dict.fromkeys(faults.values()))
    return TableRow(labels=_labels(arm, kind), cells=tuple(cells), flag=flag, part=PARTS.get(kind, arm.label("defence")))


def _labels(arm: ArmView, kind: str) -> tuple[str, str]:
    defence, stage = arm.label("defence"), arm.label("stage")
    if stage == UNTOUCHED:
        return "base model", "not customized"
    if defence == "none":
        return "no defence", "customized"
    return defence, "drops rows" if kind == "filter" else stage


def faults_of(arm: ArmView, untouched: ArmView | None) -> dict[Metric, str]:
    """What makes an arm unfit however safe it looks: the metrics at fault, each with a word for it."""
    return unfit(arm, untouched, dict.fromkeys((BORDERLINE, BENIGN), "refuses harmless questions"), UTILITY, "utility")


def _controls(condition: AttackCondition, recipe: RecordedStages) -> Table:
    """By control and stage, what it adds to the uncurated rows and what the curation adds to it."""
    curated, uncurated, controls = (
        {name: condition.stages(name) for name in condition.of_kind(kind)} for kind in ("curated", "uncurated", "control")
    )
    rows = []
    for name, arms in {**curated, **controls}.items() if controls else ():
        for stage, arm in arms.items():
            added = [signed(gain(of.get(stage), arm, HARMFUL)) for of in uncurated.values()]
            lost = [signed(gain(arm, of.get(stage), HARMFUL)) if name in controls else Cell() for of in curated.values()]
            changed = recipe.changed(name) if name in controls else "nothing"
            rows.append(TableRow(labels=(name, changed, stage), cells=(*added, *lost), part=name))
    columns = [*(f"it - {name}" for name in uncurated), *(f"{name} - it" for name in curated)]
    return Table(
        title=f"What makes the difference: {condition.model} under attack {condition.attack}",
        caption="Refusal of harmful questions, paired by seed, with the 95 % t interval. Each control is the curation with one "
        "thing changed: what it adds to the same rows uncurated, and what the whole curation adds to it.",
        heads=("defence", "changed", "stage"),
        columns=tuple(Column(name=name) for name in columns),
        rows=tuple(rows) if columns else (),
    )


def _difference_tables(results: RunResult, kinds: Mapping[str, str]) -> list[Table]:
    """Curated minus uncurated first; every other pair in a folded table."""
    main: list[TableRow] = []
    others: list[TableRow] = []
    for difference in results.differences:
        second, earlier = (kinds.get(side) for side in difference.sides)
        flip = earlier == "curated" and second != "curated"
        (main if {second, earlier} == {"curated", "uncurated"} else others).append(difference_row(difference, flip=flip))
    caption = (
        "Difference of refusal rates of harmful questions, paired by seed, with its 95 % t interval. Beside it all answers "
        "taken together: Newcombe's paired interval and McNemar's exact p, Holm-adjusted over every pair of this experiment; "
        "these take answers of one model as independent, so the interval over seeds is the one to quote. none is the "
        "customized model without a defence."
    )
    name, places = "Curated minus uncurated: the same texts before and after curation", ("model", "attack", "stage")
    blocks = [(name, main, False), ("All other paired differences", others, True)]
    return [difference_table(title, caption, rows, places, folded=folded) for title, rows, folded in blocks if rows]


def difference_table(
    title: str, caption: str, rows: Sequence[TableRow], places: tuple[str, ...], *, folded: bool = False
) -> Table:
    """A table of `difference_row`s; `places` names what `at` of a difference holds."""
    names = ("difference over seeds", "difference over all answers", "pairs", "p (McNemar)", "p (Holm)")
    columns = tuple(Column(name=name) for name in names)
    return Table(title=title, caption=caption, heads=("pair", *places), columns=columns, rows=tuple(rows), folded=folded)


def difference_row(one: DifferenceResult, *, flip: bool = False) -> TableRow:
    """A paired difference, turned round if asked."""
    second, earlier = one.sides
    every = one.all_answers
    pooled = replace(_turned(every, flip), over="probes", n=0)
    pairs = Cell(text=str(every.n), note=f"{every.left_out} unscored" if every.left_out else "")
    return TableRow(
        labels=(f"{earlier} - {second}" if flip else one.name, *(str(value) for value in one.at.values())),
        cells=(_turned(one.over_seeds, flip), pooled, pairs, Cell(text=format_p(every.p)), Cell(text=format_p(one.p_holm))),
        part=str(one.at.get("attack", one.at.get("wording", ""))),
    )


def _turned(result: MeanResult | PairedResult, flip: bool) -> Cell:
    cell = Cell(value=result.value, low=result.low, high=result.high, n=result.n, signed=True)
    if not flip:
        return cell
    value, low, high = (None if end is None else -end for end in (result.value, result.high, result.low))
    return replace(cell, value=value, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median and quartiles of perplexity over texts."""

    q1: float
    median: float
    q3: float
    n: int


def spreads(results: RunResult) -> dict[str, dict[str, Spread]]:
    """By model, aligned models first, then by kind of text, as in the motivation figure of arXiv 2410.02220."""
    by_model: dict[str, dict[str, Spread]] = {}
    for model in sorted(results.perplexity, key=lambda name: not name.endswith(", aligned")):
        kinds = results.perplexity[model]
        spread_of = {kind: _spread(kinds[kind]) for kind in sorted(kinds, key=_text_rank)}
        by_model[model] = {kind: spread for kind, spread in spread_of.items() if spread is not None}
    return {model: kinds for model, kinds in by_model.items() if kinds}


def _text_rank(kind: str) -> tuple[int, str]:
    return (TEXTS.index(kind) if kind in TEXTS else len(TEXTS), kind)


def _perplexity_tables(results: RunResult) -> list[Table]:
    """One table: a row a model, a column a kind of text."""
    by_model = spreads(results)
    kinds = sorted({kind for row in by_model.values() for kind in row}, key=_text_rank)
    if not by_model:
        return []
    rows = tuple(
        TableRow(labels=(model,), cells=tuple(_cell(row.get(kind)) for kind in kinds)) for model, row in by_model.items()
    )
    counts = {kind: max(row[kind].n for row in by_model.values() if kind in row) for kind in kinds}
    return [
        Table(
            title="Perplexity by kind of text",
            caption="Median over texts with its quartiles [lower, upper]; first seed. Low: the model finds it likely.",
            heads=("model",),
            columns=tuple(Column(name=kind, note=f"{counts[kind]} texts") for kind in kinds),
            rows=rows,
        )
    ]


def _cell(spread: Spread | None) -> Cell:
    return Cell() if spread is None else Cell(value=spread.median, low=spread.q1, high=spread.q3, n=1)


def _spread(result: SpreadResult) -> Spread | None:
    if result.q1 is None or result.median is None or result.q3 is None:
        return None
    return Spread(q1=result.q1, median=result.median, q3=result.q3, n=result.n)
