"""How a model is fine-tuned: the settings of one training phase, and the stages of a customization as lists of phases."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from buckler.finetuning.objectives import Objective
from buckler.settings import Settings

Part: TypeAlias = Literal["defence", "customer"]
Stage: TypeAlias = Literal["none", "pre", "in", "post", "all"]

STAGES: dict[Stage, tuple[tuple[Part, ...], ...]] = {
    "none": (("customer",),),
    "pre": (("defence",), ("customer",)),
    "in": (("customer", "defence"),),
    "post": (("customer",), ("defence",)),
    "all": (("defence",), ("customer", "defence"), ("defence",)),
}
"""The phases of each stage at which a defence acts, each a list of row sets (arXiv 2410.02220): `defence` is its `D~`, the
defence's rows, `customer` its `C`, the customer's rows with whatever an adversary slipped in."""


LEARNING_RATES: dict[str, float] = {"full": 2e-5, "lora": 2e-4}
"""The peak learning rate of each method where none is given: adapters start from nothing and take ten times as much."""


class LoRA(Settings):
    """Low-rank adapters. The defaults are those of arXiv 2405.15202."""

    r: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "v_proj")


class TrainSettings(Settings):
    """How a phase is trained.

    `accumulation`, `processes` and `packing` divide an optimizer step's work and nothing else: its rows, its loss and its
    gradient stay the same but for rounding.
    """

    method: Literal["full", "lora"] = "full"
    """All weights, or low-rank adapters."""
    lora: LoRA = LoRA()
    """The adapters of `method: lora`."""
    epochs: float = Field(default=3, gt=0)
    """Passes over the rows."""
    learning_rate: float = Field(default=None, gt=0, validate_default=True)
    """Peak learning rate; 2e-4 for `lora` and 2e-5 for `full` where none is given."""
    batch_size: int = Field(default=16, ge=1)
    """Rows an optimizer step, over all its micro-batches and processes."""
    accumulation: int = Field(default=1, ge=1)
    """Micro-batches an optimizer step and process: more of them need less memory."""
    processes: int = Field(default=1, ge=1, validate_default=True)
    """Processes of this machine that share each step, every one with the whole model on a GPU of its own (or on the CPU)."""
    packing: bool = False
    """Lay several rows into one sequence of up to `max_length` tokens instead of padding each: faster where lengths differ."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps in which the learning rate rises to its peak."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after its peak."""
    max_length: int = Field(default=1024, ge=8)
    """Tokens a row, or what the model can read if that is less; a longer row has its document cut, or is dropped if it has
    none."""
    objective: Objective = Objective()
    checkpoint_every: int = Field(default=200, ge=0)
    """Optimizer steps between checkpoints to resume from; 0 keeps none."""

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _by_method(cls, value: object, info: ValidationInfo) -> object:
        return LEARNING_RATES.get(info.data.get("method", "full")) if value is None else value

    @field_validator("processes")
    @classmethod
    def _each_has_a_row(cls, processes: int, info: ValidationInfo) -> int:
        accumulation, batch_size = info.data.get("accumulation", 1), info.data.get("batch_size", processes)
        if processes * accumulation > batch_size:
            raise ValueError(
                f"{processes} process(es) with {accumulation} micro-batch(es) each need a batch_size of at least "
                f"{processes * accumulation} rows, not {batch_size}"
            )
        return processes
