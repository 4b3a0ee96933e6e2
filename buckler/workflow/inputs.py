"""What steps take in: models, rows, tasks of the user's own; and the checks on what a model gave back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.crosstask.own_tasks import read_tasks, tasks_code
from buckler.crosstask.task import Task
from buckler.data import ROWS, Answer, Chat, Document, read_chats, read_documents
from buckler.errors import BackendError, ConfigError
from buckler.models.identity import identity
from buckler.models.protocol import LM, Likelihood, ModelSpec
from buckler.models.registry import load
from buckler.settings import Settings
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.step import Outside, Run, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model that steps use: an outside one by its content, or the result of a training step."""

    spec: ModelSpec | None = None
    made_by: Step | None = None
    digest: str = ""

    @classmethod
    def outside(cls, spec: ModelSpec) -> ModelRef:
        """A model that is there already.

        Raises:
            BackendError: it is not.
        """
        return cls(spec=spec, digest=identity(spec))

    def inputs(self, role: str = "model") -> dict[str, Step]:
        """The input steps that make a step depend on this model."""
        return {role: self.made_by} if self.made_by is not None else {}

    def places(self, role: str = "model") -> dict[str, Outside]:
        """The outside things that make a step depend on this model."""
        if self.spec is None:
            return {}
        return {role: Outside(digest=self.digest, place=self.spec.model_dump_json())}


def model_spec(run: Run[Settings], role: str) -> ModelSpec:
    """The model of an input step, or the outside one.

    Raises:
        ConfigError: the step was given none for this role.
    """
    if role in run.inputs:
        return ModelSpec(name=str(run.inputs[role] / "model"))
    if role not in run.outside:
        raise ConfigError(f"this step needs a {role}, and the recipe gives it none")
    return ModelSpec.model_validate_json(run.outside[role])


def load_model(run: Run[Settings], role: str, *, shared: bool = False) -> LM:
    """The model, with its answers cached, so that a killed step asks nothing twice.

    The cache lies in the step's own folder; `shared`, beside all steps, where another step may ask the same.
    """
    folder = run.shared if shared else run.out
    return load(model_spec(run, role), cache=folder / "cache.sqlite")


def all_chats(run: Run[Settings], prefix: str) -> list[Chat]:
    """The chats of all inputs called `prefix`, each once."""
    rows: dict[str, Chat] = {}
    for folder in run.all_inputs(prefix):
        rows.update((row.id, row) for row in read_chats(folder / ROWS))
    return list(rows.values())


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
    """Stop where a server failed to answer: what was answered is kept, and asked for again nothing is paid twice.

    Raises:
        BackendError: some answers are missing.
    """
    failed = [one.error for one in answers if one.finish_reason == "failed"]
    if failed:
        raise BackendError(f"{len(failed)} of {len(answers)} answers could not be had: {failed[0]}; run again to go on")


def require_measured(likelihoods: Sequence[Likelihood]) -> None:
    """Stop where a server failed to measure some texts: their perplexity would look infinite.

    Raises:
        BackendError: some are missing.
    """
    failed = [one.error for one in likelihoods if one.error]
    if failed:
        raise BackendError(f"{len(failed)} of {len(likelihoods)} perplexities could not be had: {failed[0]}; run again to go on")
