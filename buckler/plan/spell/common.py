"""What every spelled step is made of: a function's place, parameters, inputs and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.data import Json
from buckler.models.identity import identity
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings
from buckler.workflow.store import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that steps use: an outside one by its content, or the result of a training step."""

    spec: ModelSpec | None = None
    made_by: Step | None = None
    digest: str = ""

    @classmethod
    def outside(cls, spec: ModelSpec) -> Model:
        """A model that is there already.

        Raises:
            BackendError: it is not.
        """
        return cls(spec=spec, digest=identity(spec))

    def use(self, name: str = "model") -> tuple[dict[str, Json], dict[str, Step], dict[str, str]]:
        """Parameters, inputs and paths that make a step depend on this model."""
        if self.made_by is not None:
            return {}, {name: self.made_by}, {}
        assert self.spec is not None
        return {f"{name}_identity": self.digest}, {}, {name: self.spec.model_dump_json()}


def spelled(settings: Settings) -> dict[str, Json]:
    """Settings as parameters of a step."""
    values: dict[str, Json] = settings.model_dump(mode="json")
    return values


VERSIONS = {"curation.curate": 2, "models.utility": 3, "models.summarise_run": 3}
"""Steps whose function came to write something else: their old folders are not taken for new ones. The others are at 1."""


def step_of(
    place: str,
    title: str,
    *,
    params: Mapping[str, Json] | None = None,
    inputs: Mapping[str, Step] | None = None,
    paths: Mapping[str, str] | None = None,
) -> Step:
    """A step whose function is `module.function` of `buckler.steps`."""
    module, _, function = place.partition(".")
    return Step(
        name=function.replace("_", "-"),
        function=f"buckler.steps.{module}:{function}",
        params=params or {},
        inputs=inputs or {},
        version=VERSIONS.get(place, 1),
        paths=paths or {},
        title=title,
    )


def numbered(name: str, steps: Sequence[Step]) -> dict[str, Step]:
    return {f"{name}/{number:03}": step for number, step in enumerate(steps)}
