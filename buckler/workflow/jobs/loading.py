"""The models of a job: how they are loaded where they do not say it themselves, with an adapter, or by an earlier job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from buckler.data import Json, canonical, read_json, write_json
from buckler.errors import BucklerError, ConfigError
from buckler.models.dtype import Dtype, supposing
from buckler.models.places import dtype_of
from buckler.models.protocol import ModelSpec
from buckler.progress import LOG
from buckler.workflow.inputs import ModelRef
from buckler.workflow.jobs.base import EARLIER, NOTES, WORK, Earlier, Job, named_step
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

MODEL_SETTINGS = ("chat_template", "chat_template_kwargs")
OF_MODEL = {name: f"model.{name}" for name in MODEL_SETTINGS}
OF_JUDGE = {name: f"judge_model.{name}" for name in MODEL_SETTINGS}
OPTION_NAMES: Mapping[str, Mapping[str, str]] = {
    "curate": {
        **OF_MODEL,
        "attack_epochs": "attack_train.epochs",
        "attack_learning_rate": "attack_train.learning_rate",
        "decontaminate": "curation.decontaminate",
    },
    "crosstask": {**OF_MODEL, "label_by": "preparation.label_by", "label_confidence": "preparation.label_confidence"},
    "train": {
        **OF_MODEL,
        "loss_averaging": "train.objective.loss_averaging",
        "lora_rank": "train.lora.r",
        **{f"lora_{name}": f"train.lora.{name}" for name in ("alpha", "dropout", "targets")},
    },
    "evaluate": {**OF_MODEL, "metric": "metrics"},
    "judge": {**OF_JUDGE, "metric": "metrics"},
    "judge-card": OF_JUDGE,
    "gate": {"chat_template_kwargs": "chat_template_kwargs"},
}
"""Settings by another name than their field's (`Job.option_names`), on the command line, in Python and in pipelines, by job."""
OF_RUN = "settings.json"
"""In the work folder of an output: the settings of the run whose results lie there."""
UNNAMED = frozenset("threads workers batch_tokens concurrency timeout retries max_requests max_tokens".split())
"""Settings that change no result."""
HOW = ("dtype", "threads", "quantize", "batch_tokens")
"""The settings of a job that say how its models are loaded."""
HOW_NAMED = ", ".join(HOW[:-1]) + f" and {HOW[-1]}"


class LoadingJob(Job):
    """A job that loads models: how those are loaded that do not say it themselves."""

    unwritten_if_empty: ClassVar[tuple[str, ...]] = HOW
    dtype: Dtype | None = None
    """Arithmetic of the models loaded here (default: `auto`, which is bfloat16 on a CPU with AMX and on a GPU with bfloat16, and
    float32 elsewhere and for small models)."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each process (default: `OMP_NUM_THREADS`, else 1)."""
    quantize: Literal["4bit", "8bit"] | None = None
    """Load the weights quantized by bitsandbytes; with method `lora`, adapters are trained on them (QLoRA)."""

    @model_validator(mode="after")
    def _models_are_loaded_so(self) -> Self:
        if not any(value is not None for value in self.how):
            return self
        models = {name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), ModelSpec)}
        self.__dict__.update({name: self.loaded_so(spec) for name, spec in models.items()})
        by_name = "=" in getattr(self, "judge", "") or hasattr(self, "tuned")  # models that are named in a text
        if not by_name and not any(spec.is_local for spec in models.values()):
            raise ValueError(f"no model is loaded here, so {HOW_NAMED} have no effect; remove them")
        return self

    def note_replaced(self, out: Path, store: Store | None = None, plan: Callable[[], Sequence[Step]] | None = None) -> None:
        """Say in what the run whose results lie in `out` had other settings: this one replaces them.

        With the store and the steps as they are planned here, also which finished ones are done again in another type. The notes
        stand in the work folder, for `--json`.
        """
        file, now = out / WORK / OF_RUN, self._as_run()
        before = read_json(file) if file.is_file() else None
        notes = []
        if isinstance(before, Mapping):
            other = [name for name in {**before, **now} if before.get(name) != now.get(name)]
            changes = [f"{name} {canonical(before.get(name))} -> {canonical(now.get(name))}" for name in other]
            notes += [f"{out}: the results of a run with other settings are replaced: {'; '.join(changes)}"] if changes else []
        if store is not None and plan is not None:
            notes += computed_otherwise(self._models(), plan, store)
        for note in notes:
            LOG.warning("%s", note)
        if notes:
            write_json(out / WORK / NOTES, notes)
        else:
            with suppress(OSError):  # none is there, or what is written next says why not
                (out / WORK / NOTES).unlink()

    def _models(self) -> list[ModelSpec]:
        """The models that the job loads, judges' included."""
        named = [value for name in type(self).model_fields if isinstance(value := getattr(self, name), ModelSpec)]
        judge = getattr(self, "judge_spec", None) if getattr(self, "judge", None) != "saved" else None
        return [*named, *(judge.models if judge is not None else ())]

    def keep_settings(self, out: Path) -> None:
        """Write down the settings of the results that lie in `out` now."""
        write_json(out / WORK / OF_RUN, self._as_run())

    def _as_run(self) -> dict[str, Json]:
        """The settings that decide results by name, and in what each local model computes here."""
        values: dict[str, Json] = {"job": type(self).__name__}
        for name, value in self.model_dump(mode="json", exclude_defaults=True).items():
            if name not in UNNAMED:
                is_table = isinstance(value, Mapping)
                values[name] = {key: one for key, one in value.items() if key not in UNNAMED} if is_table else value
        for name in type(self).model_fields:
            spec = getattr(self, name)
            if isinstance(spec, ModelSpec) and spec.is_local and (computes_in := _type_of(spec)) is not None:
                values[f"{name}.computes_in"] = computes_in
        return values

    @property
    def how(self) -> tuple[object, ...]:
        """What is said of loading."""
        return tuple(getattr(self, name, None) for name in HOW)

    def loaded_so(self, spec: ModelSpec) -> ModelSpec:
        """A model as the job loads it.

        Raises:
            ConfigError: an earlier job of the pipeline trains it, and says how it is loaded.
        """
        if spec.name.startswith(EARLIER) and any(value is not None for value in self.how):
            raise ConfigError(f"{spec.name} is loaded as it was trained; set {HOW_NAMED} where it is trained")
        return spec.loaded_so(**dict(zip(HOW, self.how, strict=True)))


class AnsweringJob(LoadingJob):
    """A job whose models answer or score."""

    batch_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of tokens that a local model holds at once, padding included (default: what the free memory of a GPU
    holds; 16384 on a CPU)."""


def computed_otherwise(models: Sequence[ModelSpec], plan: Callable[[], Sequence[Step]], store: Store) -> list[str]:
    """What is said where finished steps are done again because `dtype: auto` was another type on the machine that did them.

    Args:
        models: Those that the steps load.
        plan: Plans the steps, as on the machine that is supposed.
        store: Where finished steps lie.
    """
    specs = [spec for spec in models if spec.is_local and spec.dtype == "auto" and _type_of(spec) is not None]
    if not specs or not (store.root / "steps").is_dir():
        return []
    here = {step.key: step for step in in_order(plan())}
    if all(map(store.is_done, here.values())):
        return []
    now = {dtype_of(spec) for spec in specs}
    others: tuple[Dtype, ...] = ("float32", "bfloat16")
    for other in others:
        with supposing(other):
            if {dtype_of(spec) for spec in specs} == now:
                continue
            steps = in_order(plan())
        done = Counter(step.name for step in steps if step.key not in here and store.is_done(step))
        if done:
            named = ", ".join(f"{number} {name}" for name, number in done.most_common())
            way = "; `--dtype bfloat16` uses them" if other == "bfloat16" else ""
            return [
                f"{done.total()} finished steps of this store were computed where `dtype: auto` is {other}, and are done again "
                f"in {' and '.join(sorted(now))} ({named}){way}"
            ]
    return []


def _type_of(spec: ModelSpec) -> Dtype | None:
    """In what a local model computes here; None for what is no model yet, or saved answers in place of one."""
    with suppress(BucklerError):
        return None if spec.name.startswith(EARLIER) else dtype_of(spec)
    return None


def model_of(spec: ModelSpec, earlier: Earlier, adapter: str | None = None) -> ModelRef:
    """The model as steps use it: one that is there already, or what an earlier job of the pipeline trains."""
    if spec.name.startswith(EARLIER):
        if adapter is not None:
            raise ConfigError(f"{spec.name} is a whole model, adapters included; remove the adapter {adapter}")
        if given := [name for name in MODEL_SETTINGS if getattr(spec, name)]:
            raise ConfigError(f"{spec.name}: `{given[0]}` is set where the model is trained, and saved with it; remove it here")
        return ModelRef(made_by=named_step(spec.name, earlier, "model").result)
    return ModelRef.outside(with_adapter(spec, adapter))


def with_adapter(spec: ModelSpec, adapter: str | None) -> ModelSpec:
    """The model with a PEFT adapter on it, if one is named.

    Raises:
        ConfigError: it is served, or has another adapter already.
    """
    if adapter is None:
        return spec
    if spec.endpoint is not None:
        raise ConfigError(
            f"{spec.name}: adapters of a served model are loaded by the server; name the served adapter as the model"
        )
    if spec.adapter not in (None, adapter):
        raise ConfigError(f"{spec.name}: both adapter {adapter} and adapter {spec.adapter} are given; give one of them")
    return spec.model_copy(update={"adapter": adapter})
