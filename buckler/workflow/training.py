"""The training step."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.errors import ConfigError
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.train import train as train_model
from buckler.settings import Settings
from buckler.workflow.inputs import ModelRef, all_chats, model_spec
from buckler.workflow.step import Run, Step, numbered, step


class TrainStep(Settings):
    """One training phase."""

    train: TrainSettings
    seed: int


@step("train")
def train(run: Run[TrainStep]) -> None:
    """Rows and a model -> a model folder."""
    rows, settings = all_chats(run, "rows"), run.settings
    train_model(model_spec(run, "model"), rows, settings.train, run.out, seed=settings.seed, progress=run.progress)


def training_phase(settings: TrainSettings, model: ModelRef, training: Sequence[Step], seed: int, title: str) -> Step:
    """One training phase.

    Raises:
        ConfigError: the model is one that a server keeps.
    """
    if model.spec is not None and model.spec.is_own:
        name, backend = model.spec.name, model.spec.backend_name
        raise ConfigError(f"{name} is a model of backend {backend}, but training needs the weights: name a folder or a hub id")
    if model.spec is not None and model.spec.endpoint:
        raise ConfigError(
            f"{model.spec.name} is served by {model.spec.endpoint}, but training needs the weights: name a folder or a hub id"
        )
    return train.plan(
        TrainStep(train=settings, seed=seed),
        title=title,
        inputs={**model.inputs(), **numbered("rows", training)},
        outside=model.places(),
        processes=settings.processes,
    )
