"""What steps take in: rows of a file or of a named set of the miniature's world, models, tasks of the user's own.

Also the checks on what a model gave back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buckler.crosstask.task import Task
from buckler.crosstask.tasks import read_tasks, tasks_code
from buckler.data import (
    ROWS,
    Answer,
    Chat,
    Document,
    distinct,
    read_chats,
    read_documents,
    read_json,
)
from buckler.data.reading import bounded_json, kind_at
from buckler.errors import BackendError, ConfigError
from buckler.models.fit import require_ready
from buckler.models.places import base_of, dtype_of, note_type, with_base, with_merged
from buckler.models.protocol import LM, Likelihood, ModelSpec
from buckler.models.registry import identity, load
from buckler.settings import Settings, parse
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.step import Outside, Run, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model that steps use: an outside one by its content, or the result of a training step."""

    spec: ModelSpec | None = None
    made_by: Step | None = None
    digest: str = ""
    dtype: str = "auto"
    """In what the outside model computes, on the machine where the run is planned."""

    @classmethod
    def outside(cls, spec: ModelSpec) -> ModelRef:
        """A model that is there already.

        Raises:
            BackendError: it is not, or cannot answer.
        """
        digest, spec = identity(spec, planned=True), with_base(spec)
        require_ready(spec)
        return cls(spec=spec, digest=digest, dtype=note_type(spec))

    def inputs(self, role: str = "model") -> dict[str, Step]:
        """The input steps that make a step depend on this model."""
        return {role: self.made_by} if self.made_by is not None else {}

    def places(self, role: str = "model") -> dict[str, Outside]:
        """The outside things that make a step depend on this model."""
        if self.spec is None:
            return {}
        place = {**self.spec.model_dump(mode="json"), "computes_in": self.dtype}
        return {role: Outside(digest=self.digest, place=json.dumps(place))}


def model_spec(run: Run[Settings], role: str) -> ModelSpec:
    """The model of an input step, or the outside one.

    Raises:
        BackendError: this machine computes in another type than the one where the run was planned.
        ConfigError: the step was given none for this role.
    """
    if role in run.inputs:
        if run.step is None:
            return trained_spec(run.inputs[role])
        training = run.step.inputs[role]
        trained = trained_spec(run.inputs[role], partial(base_spec, training, run.folder_of))
        return trained.loaded_so(batch_tokens=_batch_tokens(training))
    if role not in run.outside:
        raise ConfigError(f"this step needs a {role}, but the recipe names none")
    spec, planned = outside_spec(run.outside[role])
    require_planned_type(spec, planned)
    return spec


def outside_spec(place: str) -> tuple[ModelSpec, str]:
    """An outside model, and the type in which it was planned to compute."""
    values = bounded_json(place)
    planned = values.pop("computes_in", "auto")
    return ModelSpec.model_validate(values), str(planned)


def base_spec(training: Step, folder_of: Callable[[Step], Path]) -> ModelSpec:
    """What a training step goes on from, where it lies now: an outside model, or what another training step made."""
    if (before := training.inputs.get("model")) is not None:
        return trained_spec(folder_of(before), partial(base_spec, before, folder_of))
    return outside_spec(training.outside["model"].place)[0]


def _batch_tokens(training: Step) -> int | None:
    """The `batch_tokens` of the outside model with which a training began."""
    while (before := training.inputs.get("model")) is not None:
        training = before
    return outside_spec(training.outside["model"].place)[0].batch_tokens if "model" in training.outside else None


def require_planned_type(spec: ModelSpec, planned: str) -> None:
    """Refuse to compute in another type than the one that the key of the step holds (BackendError)."""
    if spec.is_local and planned not in ("auto", dtype_of(spec)):
        raise BackendError(
            f"{spec.name}: the run was planned with {planned}, but this machine would compute in {dtype_of(spec)}; "
            f"name one for all machines, such as `dtype: {planned}` at the model"
        )


def trained_spec(folder: Path, base: Callable[[], ModelSpec] | None = None) -> ModelSpec:
    """The model of a training step, computing as it did in training: that is part of the key of what uses it.

    LoRA leaves an adapter, which is merged into `base` (default: the one it names) on loading; older versions, the merged model.
    """
    file = folder / "training.json"
    record = read_json(file) if kind_at(file) else {}
    values = record if isinstance(record, Mapping) else {}
    whole, adapter = folder / "model", folder / "adapter"
    spec = ModelSpec(name=str(whole))
    if adapter.exists() and not whole.exists():
        spec = with_merged(base() if base else ModelSpec(name=base_of(adapter)[0]), adapter)
    how = {name: values.get(name) for name in ("threads", "attn_implementation")}
    spec = parse(ModelSpec, {**spec.model_dump(), **how}, str(file))
    dtype = values.get("dtype", "float32")
    return spec if dtype == dtype_of(spec) else parse(ModelSpec, {**spec.model_dump(), "dtype": dtype}, str(file))


def load_model(run: Run[Settings], role: str, *, shared: bool = False) -> LM:
    """The model, with its answers cached in the step's own folder, so that a killed step asks nothing twice; `shared`, beside
    all steps, where another step may ask the same."""
    return load(model_spec(run, role), cache=(run.shared if shared else run.out) / "cache.sqlite")


def all_chats(run: Run[Settings], prefix: str) -> list[Chat]:
    """The chats of all inputs called `prefix`, each once."""
    rows: list[Chat] = []
    for folder in run.all_inputs(prefix):
        rows += read_chats(folder / ROWS)
    return distinct(rows)


def all_documents(run: Run[Settings], prefix: str) -> list[Document]:
    """The documents of all inputs called `prefix`."""
    return [one for folder in run.all_inputs(prefix) for one in read_documents(folder / ROWS)]


def code_of(code: Mapping[str, str]) -> dict[str, Outside]:
    """The source of a user's part, as an outside thing: a step depends on what the part does, not on its name alone."""
    return {name: Outside(digest=digest, place="") for name, digest in code.items()}


def own_tasks_at(path: Path | str | None) -> dict[str, Outside]:
    """Tasks of the user's own, as an outside thing: the content of their file is hashed, its place is not."""
    if not path:
        return {}
    code = tasks_code(str(path))
    digest = "+".join(code) if code else str(fingerprint(Source(source=str(path)))["source"])
    return {"own_tasks": Outside(digest=digest, place=str(path))}


def own_tasks(run: Run[Settings]) -> Mapping[str, Task] | None:
    """Tasks of the user's own, where there are some."""
    return read_tasks(Path(run.outside["own_tasks"])) if "own_tasks" in run.outside else None


def require_answered(answers: Sequence[Answer]) -> None:
    """Stop where a server failed to answer (BackendError): what was answered is kept, and is not paid for again."""
    failed = [one.error for one in answers if one.finish_reason == "failed"]
    if failed:
        raise BackendError(
            f"{len(failed)} of {len(answers)} answers could not be generated: {failed[0]}; run the same command again to resume"
        )


def require_measured(likelihoods: Sequence[Likelihood]) -> None:
    """Stop where a server failed to measure some texts: their perplexity would look infinite.

    Raises:
        BackendError: some are missing.
    """
    failed = [likelihood.error for likelihood in likelihoods if likelihood.error]
    if failed:
        raise BackendError(
            f"{len(failed)} of {len(likelihoods)} perplexities could not be computed: {failed[0]}; run the same command to resume"
        )
