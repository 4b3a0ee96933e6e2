"""What every step reads: its source, seed, models and rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

from buckler.data import ROWS, Answer, Chat, Json, read_chats
from buckler.errors import BackendError, ConfigError
from buckler.models.protocol import LM, Likelihood, ModelSpec
from buckler.models.registry import load
from buckler.workflow.sources import Source
from buckler.workflow.store import Context


def source(context: Context) -> Source:
    """The source with its place put back: the step's hash holds the file's content instead."""
    fields = dict(cast(Mapping[str, Json], context.params["source"]))
    fields.pop("code", None)
    return Source.model_validate({**fields, "source": context.paths.get("source", fields["source"])})


def seed(context: Context) -> int:
    return int(cast(int, context.params["seed"]))


def all_rows(context: Context, prefix: str) -> list[Chat]:
    rows: dict[str, Chat] = {}
    for name in sorted(context.inputs):
        if name == prefix or name.startswith(f"{prefix}/"):
            rows.update((row.id, row) for row in read_chats(context.inputs[name] / ROWS))
    return list(rows.values())


def require_answered(answers: Sequence[Answer]) -> None:
    """Stop where a server failed to answer: what was answered is kept, and asked for again nothing is paid twice.

    Raises:
        BackendError: some answers are missing.
    """
    failed = [one.error for one in answers if one.finish == "failed"]
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


def spec(context: Context, name: str) -> ModelSpec:
    """The model of an input step, or the outside one named in the step's paths."""
    if name in context.inputs:
        return ModelSpec(name=str(context.inputs[name] / "model"))
    if name not in context.paths:
        raise ConfigError(f"this step needs a {name}, and the recipe gives it none")
    return ModelSpec.model_validate(json.loads(context.paths[name]))


def model(context: Context, name: str, *, shared: bool = False) -> LM:
    """The model, with its answers cached, so that a killed step asks nothing twice.

    The cache lies in the step's own folder; `shared`, beside all steps, where another step may ask the same.
    """
    folder = context.shared if shared else context.out
    return load(spec(context, name), cache=folder / "cache.sqlite")
