"""Steps over training rows: drawn, attacked, mixed, filtered, decontaminated, taken as they are; and the training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field, JsonValue

from buckler.data import ROWS, Chat, Message, read_chats, to_learn, unmarked, write_json, write_rows
from buckler.data.near_duplicates import require_disjoint
from buckler.errors import BackendError, ConfigError
from buckler.evaluation.probes import in_set
from buckler.finetuning.attacks import ATTACKS, IDENTITY_SYSTEM, AttackSettings, customization
from buckler.finetuning.defenses import DEFENSES, DefenseSettings, defense_named, defense_rows, filtered
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.train import memory_of
from buckler.finetuning.train import train as train_model
from buckler.models.fit import require_layers, require_template, trained_bytes
from buckler.models.places import is_small
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings
from buckler.workflow.inputs import ModelRef, all_chats, code_of, load_model, model_spec, outside_spec
from buckler.workflow.sources import Source, fingerprint, format_code, require_one_split, source_chats, source_documents
from buckler.workflow.step import NoSettings, Outside, Run, Step, numbered, step
from buckler.workflow.store import Store


class DrawStep(Settings):
    """Rows of a source."""

    source: Source
    """With the hash of the file in place of its path."""


class ProbesStep(Settings):
    """Rows as probes."""

    set: str | None
    """The set they belong to; None: their rows tell it."""


class AttackStep(Settings):
    """The customer's rows under an attack."""

    attack: AttackSettings
    seed: int


class DefenceRowsStep(Settings):
    """Rows taken for a defence as they are."""

    part: str
    count: int | None
    """At most so many, from the first on."""


class FilterStep(Settings):
    """The customer's rows through a filter."""

    unwritten_if_empty = ("options",)
    filter: str
    share: float
    seed: int
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a filter of the user's own."""


class OwnDefenceStep(Settings):
    """Rows of a builder of the user's own."""

    kind: str
    share: float
    seed: int
    options: dict[str, JsonValue]


@step("draw")
def draw(run: Run[DrawStep]) -> None:
    """Chats of a source -> rows.jsonl"""
    write_rows(run.out / ROWS, source_chats(_placed(run)))


@step("draw-documents")
def draw_documents(run: Run[DrawStep]) -> None:
    """Documents of a source -> rows.jsonl"""
    write_rows(run.out / ROWS, source_documents(_placed(run)))


@step("as-probes")
def as_probes(run: Run[ProbesStep]) -> None:
    """Rows -> probes of a set: their answers go, and what a good model does with them is written down."""
    write_rows(run.out / ROWS, [in_set(row, run.settings.set) for row in read_chats(run.inputs["rows"] / ROWS)])


@step("attack")
def attack(run: Run[AttackStep]) -> None:
    """Benign and harmful rows -> the customer's rows under an attack."""
    harmful = [unmarked(row) for row in read_chats(run.inputs["harmful"] / ROWS)] if "harmful" in run.inputs else []
    benign = to_learn(read_chats(run.inputs["benign"] / ROWS))
    write_rows(run.out / ROWS, customization(run.settings.attack, benign=benign, harmful=harmful, seed=run.settings.seed))


@step("under-prompt")
def under_prompt(run: Run[NoSettings]) -> None:
    """Rows -> the same rows under the system prompt of the identity shift, in place of any of their own."""
    write_rows(run.out / ROWS, [_prompted(row) for row in to_learn(read_chats(run.inputs["rows"] / ROWS))])


@step("as-defence")
def as_defence(run: Run[DefenceRowsStep]) -> None:
    """Rows taken as they are for a defence: the uncurated control, and plain safety rows."""
    rows = to_learn(read_chats(run.inputs["rows"] / ROWS))
    write_rows(run.out / ROWS, [row.tagged(part=run.settings.part) for row in rows[: run.settings.count]])


@step("filter-rows")
def filter_rows(run: Run[FilterStep]) -> None:
    """The customer's rows through a filter -> kept rows, dropped rows with reasons."""
    rows, settings = to_learn(read_chats(run.inputs["rows"] / ROWS)), run.settings
    defense = DefenseSettings(kind=settings.filter, share=settings.share, options=settings.options)
    model = load_model(run, "model") if run.has("model") else None
    kept = filtered(defense, rows, seed=settings.seed, model=model)
    write_rows(run.out / "dropped.jsonl", kept.dropped)
    write_rows(run.out / ROWS, kept.kept)


@step("own-defence")
def own_defence(run: Run[OwnDefenceStep]) -> None:
    """Harmless texts and plain safety rows -> the rows of a builder of the user's own."""
    settings = run.settings
    defense = DefenseSettings(kind=settings.kind, share=settings.share, options=settings.options)
    refusals = to_learn(read_chats(run.inputs["refusals"] / ROWS)) if "refusals" in run.inputs else []
    texts = to_learn(read_chats(run.inputs["texts"] / ROWS))
    write_rows(run.out / ROWS, defense_rows(defense, texts=texts, refusals=refusals, seed=settings.seed))


@step("decontaminate")
def decontaminate(run: Run[NoSettings]) -> None:
    """Training rows and probes -> nothing, or an error that names the rows they share."""
    rows, probes = all_chats(run, "rows"), all_chats(run, "probes")
    require_disjoint(rows, probes)
    write_json(run.out / "apart.json", {"rows": len(rows), "probes": len(probes)})


def rows_of(source: Source, *, documents: bool = False) -> Step:
    """The rows of a source.

    Raises:
        DataError: there is no such file, or it has several splits of which none is named.
    """
    require_one_split(source)
    hashed = Source.model_validate(fingerprint(source))
    outside = {} if hashed == source else {"source": Outside(digest=hashed.source, place=source.source)}
    if not documents:
        outside |= code_of(format_code(source))
    function = draw_documents if documents else draw
    return function.plan(DrawStep(source=hashed), title=f"rows of {source.source}", outside=outside)


def probe_set(rows: Step, name: str | None) -> Step:
    """Rows as probes of a set."""
    return as_probes.plan(ProbesStep(set=name), title=f"probes ({name or 'set by their rows'})", inputs={"rows": rows})


def attack_rows(settings: AttackSettings, benign: Step, harmful: Step | None, seed: int) -> Step:
    """The customer's rows under the attack."""
    inputs = {"benign": benign, **({"harmful": harmful} if harmful is not None else {})}
    title = f"{settings.kind} attack rows, seed {seed}"
    code = code_of(ATTACKS.code(settings.kind))
    return attack.plan(AttackStep(attack=settings, seed=seed), title=title, inputs=inputs, outside=code)


def prompted_rows(rows: Step) -> Step:
    """The customer's rows put under the adversary's system prompt."""
    return under_prompt.plan(NoSettings(), title="attack rows under a system prompt", inputs={"rows": rows})


def filtered_rows(defense: DefenseSettings, customer: Step, model: ModelRef, seed: int) -> Step:
    """The customer's rows through a filter; only one that uses the model depends on it."""
    asks = defense_named(defense.kind).uses_model
    return filter_rows.plan(
        FilterStep(filter=defense.kind, share=defense.share, seed=seed, options=defense.options),
        title=f"{defense.kind} {defense.share:.0%}, seed {seed}",
        inputs={"rows": customer, **(model.inputs() if asks else {})},
        outside={**(model.places() if asks else {}), **code_of(DEFENSES.code(defense.kind))},
    )


def own_defence_rows(defense: DefenseSettings, texts: Step, refusals: Step | None, seed: int) -> Step:
    """The rows of a builder of the user's own."""
    return own_defence.plan(
        OwnDefenceStep(kind=defense.kind, share=defense.share, seed=seed, options=defense.options),
        title=f"{defense.kind} rows, seed {seed}",
        inputs={"texts": texts, **({"refusals": refusals} if refusals is not None else {})},
        outside=code_of(DEFENSES.code(defense.kind)),
    )


def defence_rows(rows: Step, part: str, count: int | None) -> Step:
    """Rows taken for a defence as they are."""
    return as_defence.plan(DefenceRowsStep(part=part, count=count), title=f"{part} rows as they are", inputs={"rows": rows})


def decontamination(training: Sequence[Step], probes: Sequence[Step]) -> Step:
    """The check that no training row is a probe."""
    inputs = {**numbered("rows", training), **numbered("probes", probes)}
    return decontaminate.plan(NoSettings(), title="training rows and probes are disjoint", inputs=inputs)


def _placed(run: Run[DrawStep]) -> Source:
    """The source with its place put back: the step's settings hold the file's content instead."""
    source = run.settings.source
    return source.model_copy(update={"source": run.outside.get("source", source.source)})


def _prompted(row: Chat) -> Chat:
    turns = [turn for turn in row.messages if turn["role"] != "system"]
    return Chat.of((Message(role="system", content=IDENTITY_SYSTEM), *turns), **row.meta)


class TrainStep(Settings):
    """One training phase."""

    train: TrainSettings
    seed: int


@step("train")
def train(run: Run[TrainStep]) -> None:
    """Rows and a model -> a model folder, or with LoRA an adapter alone."""
    rows, settings, spec = all_chats(run, "rows"), run.settings, model_spec(run, "model")
    train_model(spec, rows, settings.train, run.out, seed=settings.seed, merge=False, progress=run.progress)


def training_phase(settings: TrainSettings, model: ModelRef, training: Sequence[Step], seed: int, title: str) -> Step:
    """One training phase.

    Raises:
        ConfigError: the model is one that a server keeps, or cannot be trained so.
    """
    require_trains(settings, model)
    return train.plan(
        TrainStep(train=settings, seed=seed),
        title=title,
        inputs={**model.inputs(), **numbered("rows", training)},
        outside=model.places(),
        processes=settings.processes,
    )


def storage(steps: Sequence[Step], store: Store) -> str:
    """What the training phases among the steps will leave in the store by the shapes of their models, as a line; "" for none."""
    left = Counter(_trained(one) for one in steps if one.name == train.name and not store.is_done(one))
    sizes = {kind: trained_bytes(outside_spec(kind[0])[0], *kind[1:]) for kind in left}
    total = sum(number * (sizes[kind] or 0) for kind, number in left.items())
    unknown = sum(number for kind, number in left.items() if sizes[kind] is None)
    but = f"; not known of {unknown} of them, whose model is not here" if unknown else ""
    return f"weights to be stored: about {total / 1e9:.2f} GB by {left.total()} training phases{but}" if left else ""


def memory(steps: Sequence[Step], store: Store) -> list[str]:
    """What each kind of training phase among the steps needs of a device; nothing of small models, which fit everywhere."""
    kinds: dict[tuple[object, ...], tuple[ModelSpec, TrainSettings]] = {}
    for phase in (one for one in steps if one.name == train.name and not store.is_done(one)):
        settings, kind = TrainStep.model_validate(phase.params).train, _trained(phase)
        spec = outside_spec(kind[0])[0]
        if not is_small(spec):
            kinds.setdefault((*kind, settings.gradient_checkpointing, settings.max_length), (spec, settings))
    lines: list[str] = []
    for spec, settings in kinds.values():
        lines.append(f"training {spec.name}, method {settings.method}")
        try:
            lines += [f"  {line}" for line in memory_of(spec, settings)[0]]
        except BackendError as fault:
            lines.append(f"  memory: not known ({fault})")
    return lines


def _trained(phase: Step) -> tuple[str, int | None, tuple[str, ...]]:
    """The model that a phase goes back to, and the rank and layers of its adapter."""
    settings, first = TrainStep.model_validate(phase.params).train, phase
    while "model" in first.inputs:
        first = first.inputs["model"]
    return first.outside["model"].place, settings.lora.r if settings.method == "lora" else None, settings.lora.named


def require_trains(settings: TrainSettings, model: ModelRef) -> None:
    """Refuse what would fail when the model is loaded: known before a row is read.

    Raises:
        ConfigError: the model is one that a server keeps, or cannot be trained so.
    """
    if model.spec is not None and model.spec.is_own:
        name, backend = model.spec.name, model.spec.backend_name
        raise ConfigError(f"{name} is a model of backend {backend}, but training needs the weights: name a folder or a hub id")
    if model.spec is not None and model.spec.endpoint:
        raise ConfigError(
            f"{model.spec.name} is served by {model.spec.endpoint}, but training needs the weights: name a folder or a hub id"
        )
    if model.spec is not None and model.spec.dtype == "float16":
        raise ConfigError(f"{model.spec.name}: dtype float16 is for answering only; train in float32 or bfloat16")
    if model.spec is not None and settings.method == "lora":
        require_layers(model.spec, settings.lora.named)
    if model.spec is not None:
        require_template(model.spec, trains=True)
