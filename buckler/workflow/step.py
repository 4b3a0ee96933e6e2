"""A step: a named, versioned function, its typed settings and its input steps, planned before anything runs.

    class DrawStep(Settings):
        source: Source

    @step("draw")
    def draw(run: Run[DrawStep]) -> None: ...

    draw.plan(DrawStep(source=...), title="rows of ...")   # a Step; mypy checks its settings

A step's folder is named by the hash of its name, version, settings, outside content and inputs: where its function lives, and
where outside files lie, does not count.

Version 0.1.0 hashed the module of the function and the parameters under the names they had then. `FORMER` holds these, so that
work it finished is found and not done again. A step that is new, or whose version was raised, has no finished work there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Generic, TypeVar, get_args, get_type_hints

from buckler.data import Json
from buckler.errors import StoreError
from buckler.progress import ProgressCallback
from buckler.settings import Settings

Params = dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """How 0.1.0 named and hashed a step."""

    function: str
    """`module:function` of then, below `buckler.steps`."""
    params: Callable[[Params], Params] = lambda params: params
    """From today's parameters to those of then."""

    @property
    def name(self) -> str:
        """The name of then: that of the function."""
        return self.function.partition(":")[2].replace("_", "-")


def former_parts(name: str, version: int, params: Mapping[str, Json], digests: Mapping[str, str]) -> tuple[str, dict[str, Json]]:
    """What 0.1.0 called a step, and what it hashed of it beside its inputs.

    Args:
        name: The step's name.
        version: The step's version.
        params: Its parameters.
        digests: The content hash of each outside thing it uses.
    """
    former = FORMER.get(name)
    if former is None:
        return name, {"function": "", "version": version, "params": params}
    known = {_OUTSIDE.get(one, f"{one}_identity"): digest for one, digest in digests.items() if one not in _IN_PARAMS}
    function = f"buckler.steps.{former.function}"
    return former.name, {"function": function, "version": version, "params": {**former.params({**params}), **known}}


_OUTSIDE = {"own_tasks": "own_tasks", "tasks": "folder"}
"""What outside things that are no models were called among the parameters."""
_IN_PARAMS = ("source", "judge")
"""Outside things whose content the parameters hold already."""


def _only_set(*names: str) -> Callable[[Params], Params]:
    """Parameters of these names were left out where they were None."""
    return lambda params: {name: value for name, value in params.items() if value is not None or name not in names}


def _answer(params: Params) -> Params:
    limit = params.pop("max_new_tokens", None)
    turns = ("two_turns", "language") if params.get("two_turns") is None else ()
    return {"sampling": {"max_new_tokens": limit}, **{name: value for name, value in params.items() if name not in turns}}


def _renamed(names: Mapping[str, str]) -> Callable[[Params], Params]:
    """Parameters, also those within them, that have another name today: by the name of today, that of then."""

    def rename(value: Json) -> Json:
        if isinstance(value, dict):
            return {names.get(name, name): rename(inner) for name, inner in value.items()}
        return value

    return lambda params: {names.get(name, name): rename(value) for name, value in params.items()}


_CURATION = {"seed_words": "words", "scorer": "measured_by", "grid_fraction": "grid_kept"}
HASHED_AS: dict[str, Mapping[str, str]] = {
    "curate": _CURATION,
    "sample": _CURATION,
    "train": {"loss_averaging": "average"},
    "export": {"loss_averaging": "average"},
}
"""By step, its parameters that were renamed, with the names that keys hash: finished work stays finished under a new name."""


def _curate(params: Params) -> Params:
    return _renamed({"decontaminate": "apart_from"})(_only_set("shard")(params))


FORMER: dict[str, Former] = {
    "draw": Former(function="rows:draw"),
    "draw-documents": Former(function="rows:draw_documents"),
    "as-probes": Former(function="rows:as_probes"),
    "attack": Former(function="rows:attack"),
    "as-defence": Former(function="rows:as_defence"),
    "filter-rows": Former(function="rows:screen"),
    "decontaminate": Former(function="rows:check_apart"),
    "under-prompt": Former(function="attacker:under_prompt"),
    "prepare-documents": Former(function="documents:make_ready", params=_renamed({"label_confidence": "label_sure"})),
    "crosstask": Former(function="documents:crosstask"),
    "probe-documents": Former(function="documents:probe_documents", params=_only_set("labels", "attack", "options", "seed")),
    "reference-answers": Former(function="documents:by_agreement"),
    "most-misused-task": Former(function="documents:weakest"),
    "decontaminate-documents": Former(function="documents:check_documents_apart"),
    "curate": Former(function="curation:curate", params=_curate),
    "gather": Former(function="curation:gather"),
    "sample": Former(function="curation:sample", params=_renamed({"decontaminate": "apart_from"})),
    "compromised": Former(function="curation:compromised"),
    "train": Former(function="models:train"),
    "answer": Former(function="models:answer", params=_answer),
    "base-perplexity": Former(function="models:under_base"),
    "judge": Former(function="models:judge"),
    "summarise-run": Former(function="models:summarise_run"),
    "utility": Former(function="models:utility"),
    "perplexities": Former(function="models:perplexities"),
    "official": Former(function="official:official"),
}
"""By the step's name today."""


P = TypeVar("P", bound=Settings)
P_co = TypeVar("P_co", bound=Settings, covariant=True)


class NoSettings(Settings):
    """The settings of a step that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Something outside the store that a step uses: hashed by what it holds, found where it lies just now."""

    digest: str
    place: str
    """A path, or what else its reader needs (the spec of a model or a judge, as JSON). Not hashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Generic[P_co]):
    """What a step's function is given."""

    settings: P_co
    inputs: Mapping[str, Path]
    """The folder of each input step."""
    outside: Mapping[str, str]
    """The place of each outside thing."""
    out: Path
    """The step's own folder. After a kill it may hold what an earlier try left; every file must be written whole."""
    shared: Path
    """A folder for what steps may find again (caches by content). Nothing in it decides a result."""
    progress: ProgressCallback
    step: Step | None = None
    """What is run: how its inputs were planned."""
    folder_of: Callable[[Step], Path] = lambda one: Path(one.key)
    """Where the files of any finished step lie."""

    def all_inputs(self, prefix: str) -> list[Path]:
        """The folders of the inputs called `prefix` or `prefix/NNN`, in order."""
        return [self.inputs[name] for name in sorted(self.inputs) if name == prefix or name.startswith(f"{prefix}/")]

    def has(self, name: str) -> bool:
        """Whether an input or an outside thing of this name was given."""
        return name in self.inputs or name in self.outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A planned step. Name, version, settings, outside content and inputs decide its key, nothing else."""

    name: str
    function: str
    """`module:attribute` of its `StepFunction`. Not hashed."""
    version: int = 1
    """Raised when the function's meaning changes, so that old folders are not taken for new ones."""
    params: Mapping[str, Json] = field(default_factory=dict)
    """Its settings as JSON."""
    inputs: Mapping[str, Step] = field(default_factory=dict)
    outside: Mapping[str, Outside] = field(default_factory=dict)
    processes: int = 1
    """How many processes it runs on at once, for who gives out machines. Not hashed: they change nothing in its files."""
    title: str = ""
    """Shown in the terminal. Not hashed."""
    key: str = field(init=False)
    """`name-hash`, the name of its folder."""
    former_key: str = field(init=False)
    """The key that version 0.1.0 gave to the same work (`buckler.workflow.step`)."""

    def __post_init__(self) -> None:
        digests = {name: one.digest for name, one in self.outside.items()}
        inputs = {name: step.key for name, step in self.inputs.items()}
        params = _renamed(HASHED_AS.get(self.name, {}))({**self.params})
        parts: dict[str, Json] = {"name": self.name, "version": self.version, "params": params, "outside": digests}
        object.__setattr__(self, "key", _key(self.name, {**parts, "inputs": inputs}))
        name, former = former_parts(self.name, self.version, params, digests)
        inputs = {name: step.former_key for name, step in self.inputs.items()}
        object.__setattr__(self, "former_key", _key(name, {**former, "inputs": inputs}))

    def load(self) -> StepFunction[Settings]:
        """Its function.

        Raises:
            StoreError: it cannot be imported, or is no step.
        """
        module, _, attribute = self.function.partition(":")
        try:
            function = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as fault:
            raise StoreError(f"{self.function}: cannot be imported: {fault}") from None
        if not isinstance(function, StepFunction):
            raise StoreError(f"{self.function} is not a step; decorate it with @step")
        return function


class StepFunction(Generic[P]):
    """A function that `@step` made a step."""

    def __init__(self, name: str, version: int, body: Callable[[Run[P]], None]) -> None:
        self.name, self.version, self.body = name, version, body
        self.__doc__ = body.__doc__

    def __call__(self, run: Run[P]) -> None:
        """Run it, as the executor does."""
        self.body(run)

    @property
    def settings_type(self) -> type[P]:
        """The type of its settings, read from the annotation of its only parameter."""
        hints = get_type_hints(self.body)
        hints.pop("return", None)
        (of_run,) = hints.values()
        (settings,) = get_args(of_run)
        settings_type: type[P] = settings
        return settings_type

    def plan(
        self,
        settings: P,
        *,
        title: str,
        inputs: Mapping[str, Step] | None = None,
        outside: Mapping[str, Outside] | None = None,
        processes: int = 1,
    ) -> Step:
        """The step with these settings, on these inputs."""
        return Step(
            name=self.name,
            function=f"{self.body.__module__}:{self.body.__name__}",
            version=self.version,
            params=settings.model_dump(mode="json"),
            inputs=inputs or {},
            outside=outside or {},
            processes=processes,
            title=title,
        )


def step(name: str, *, version: int = 1) -> Callable[[Callable[[Run[P]], None]], StepFunction[P]]:
    """Make a function a step: its name and version stand here and nowhere else."""

    def decorate(body: Callable[[Run[P]], None]) -> StepFunction[P]:
        return StepFunction(name, version, body)

    return decorate


def numbered(name: str, steps: Sequence[Step]) -> dict[str, Step]:
    """Several inputs of one kind: `name/000`, `name/001`, ..."""
    return {f"{name}/{number:03}": one for number, one in enumerate(steps)}


def in_order(targets: Sequence[Step]) -> list[Step]:
    """Every step the targets need, inputs before users, each once; the order depends on the targets alone."""
    ordered: dict[str, Step] = {}

    def visit(one: Step) -> None:
        if one.key not in ordered:
            for name in sorted(one.inputs):
                visit(one.inputs[name])
            ordered.setdefault(one.key, one)

    for target in targets:
        visit(target)
    return list(ordered.values())


def _key(name: str, parts: Mapping[str, Json]) -> str:
    try:
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as fault:
        raise StoreError(f"step {name}: a parameter is not a JSON value: {fault}") from None
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
