"""How a judge is named: on the command line, in recipes and in records. Light and hashable; the model is loaded elsewhere.

`keyword`; `rubric=Qwen/Qwen2.5-7B-Instruct`; `guard=meta-llama/Llama-Guard-3-8B`; `keyword,guard=MODEL,rubric=NAME@URL` for
an ensemble. A judge that names no model takes the one given beside it (`--judge-model`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from difflib import get_close_matches
from typing import TypeAlias

from pydantic import ValidationError, model_validator

from buckler.errors import ConfigError
from buckler.judges.base import JUDGES, EnsembleJudge, Judge, ensemble_version, judge_named, of_answers, own_version, takes_model
from buckler.judges.guards import GUARDS, GuardJudge, guard_for, is_guard, with_template
from buckler.judges.guards import own_version as guard_version
from buckler.judges.rubric import RUBRICS, RubricJudge, versioned
from buckler.judges.rubric import own_version as rubric_version
from buckler.models.protocol import LM, ModelSpec, spec_of
from buckler.models.registry import identity
from buckler.registry import is_place
from buckler.settings import Settings, plain

Loader: TypeAlias = Callable[[ModelSpec], LM]
"""Builds a model; given by who may import backends."""
MODEL_JUDGES = (*RUBRICS, "guard", *GUARDS)
"""Judges that are language models; one of the user's own may be one too."""


class JudgeSpec(Settings):
    """Which judge, and its model. A plain text stands for `judge_spec` of it."""

    name: str = ""
    """`keyword`, `paper`, `rubric`, `strongreject`, `guard` (its kind follows from the model's name), a guard's own name, or
    `module:class`."""
    model: ModelSpec | None = None
    """The model, for a judge that needs one."""
    seed: int = 0
    """Random seed of a rubric's calls."""
    parts: tuple[JudgeSpec, ...] = ()
    """The judges of an ensemble, instead of a name."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return judge_spec(value).model_dump() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> JudgeSpec:
        if self.parts:
            if self.name or self.model or any(part.parts for part in self.parts):
                raise ConfigError("an ensemble takes only `parts`, without a name, a model, or another ensemble")
            if len(self.parts) < 2 or len(set(self.parts)) < len(self.parts):
                raise ConfigError(f"an ensemble needs two or more different judges, got {self.label}")
        elif self.model is not None:
            if not _takes_model(self.name)[0]:
                raise ConfigError(f"judge {self.name!r} needs no model, got {self.model.name}")
            if self.name == "guard":
                guard_for(self.name, self.model.name)
            elif not _is_prompted(self.name):
                own_version(self.name)
        elif _takes_model(self.name)[1]:
            raise ConfigError(f"judge {self.name} needs a language model: name one as `{self.name}=MODEL` or with --judge-model")
        else:
            judge_named(self.name)
        return self

    @property
    def label(self) -> str:
        """The name of the judge as reports and records give it."""
        if self.parts:
            return "+".join(part.label for part in self.parts)
        return guard_for(self.name, self.model.name).name if self.name == "guard" and self.model else self.name

    @property
    def code(self) -> dict[str, str]:
        """The hash of the source of judges of the user's own, for the keys of steps; nothing for Buckler's."""
        codes = [part.code for part in self.parts] if self.parts else []
        if self.parts:
            return {"code": "+".join(one.get("code", "") for one in codes)} if any(codes) else {}
        if is_guard(self.label):
            return GUARDS.code(self.label)
        return {} if self.name in MODEL_JUDGES else JUDGES.code(self.name)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models that will be loaded, as they will be loaded; each once."""
        if self.parts:
            return tuple(dict.fromkeys(model for part in self.parts for model in part.models))
        if self.model is None:
            return ()
        return (with_template(self.label, self.model) if is_guard(self.label) else self.model,)

    @property
    def version(self) -> str:
        """The version of the judge, found without loading it: it holds its model's identity.

        Raises:
            BackendError: there is no such model.
        """
        if self.parts:
            return ensemble_version([part.version for part in self.parts])
        if not self.models:
            return judge_named(self.name).version
        if is_guard(self.label):
            own = guard_version(GUARDS[self.label])
        else:
            own = rubric_version(RUBRICS[self.label], self.seed) if self.label in RUBRICS else own_version(self.label)
        return versioned(own, identity(self.models[0], planned=True))


def judge_spec(text: str, model: str | ModelSpec | None = None, seed: int = 0) -> JudgeSpec:
    """The judge that `text` names: one, or several with commas; `NAME=MODEL` gives one its model.

    Args:
        text: What the user wrote.
        model: For the judges in it that are language models and name none.
        seed: For the judges in it that draw.

    Raises:
        ConfigError: there is no such judge, a model is missing, or one is given that no judge uses.
    """
    shared = spec_of(model) if isinstance(model, str) else model
    names = [name.strip() for name in text.split(",")]
    if shared is not None and not any(_takes_model(name.partition("=")[0])[0] for name in names):
        raise ConfigError(
            f"judge model {shared.name}: no judge in {text!r} takes a model; the judges that do are {', '.join(MODEL_JUDGES)}"
        )
    try:
        parts = tuple(_one(name, shared, seed) for name in names)
        return parts[0] if len(parts) == 1 else JudgeSpec(parts=parts)
    except ValidationError as fault:
        raise ConfigError(plain(fault.errors()[0]["msg"])) from None


def judge_from(spec: JudgeSpec, load: Loader) -> Judge:
    """Build the judge; a model that several parts use is loaded once.

    Raises:
        BackendError: a model cannot be loaded, or does not do what its judge needs.
    """
    loaded: dict[ModelSpec, LM] = {}
    judges = []
    for part in spec.parts or (spec,):
        with GUARDS.boundary(part.label) if is_guard(part.label) else nullcontext():
            loaded |= {model: load(model) for model in part.models if model not in loaded}
            judges.append(_load_judge(part, loaded))
    return of_answers(EnsembleJudge(judges) if spec.parts else judges[0])


def _one(text: str, shared: ModelSpec | None, seed: int) -> JudgeSpec:
    name, sign, model = text.partition("=")
    name = name.strip()
    spec = spec_of(model) if sign else shared if shared is not None and _takes_model(name)[0] else None
    return JudgeSpec(name=name, model=spec, seed=seed if name in RUBRICS else 0)


def _is_prompted(name: str) -> bool:
    """Whether a judge is a rubric or a guard, which Buckler asks in its own way."""
    return name in RUBRICS or name == "guard" or is_guard(name)


def _takes_model(name: str) -> tuple[bool, bool]:
    """Whether a judge can, and whether it must, be given a language model.

    Raises:
        ConfigError: there is no such judge.
    """
    if _is_prompted(name):
        return True, True
    if name not in JUDGES and not is_place(name):
        near = get_close_matches(name, [*JUDGES, *MODEL_JUDGES], 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(dict.fromkeys((*JUDGES, *MODEL_JUDGES, *GUARDS)))
        raise ConfigError(f"unknown judge {name!r}{hint}; the judges are {known}, or name one as `module:class`")
    return takes_model(name)


def _load_judge(spec: JudgeSpec, loaded: dict[ModelSpec, LM]) -> Judge:
    if not spec.models:
        return judge_named(spec.name)
    model = loaded[spec.models[0]]
    if is_guard(spec.label):
        return GuardJudge(GUARDS[spec.label], model, called=spec.label)
    return RubricJudge(RUBRICS[spec.label], model, spec.seed) if spec.label in RUBRICS else judge_named(spec.name, model)
