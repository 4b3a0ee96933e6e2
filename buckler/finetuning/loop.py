"""The optimizer steps of a training phase, by one process or several.

Each process adds up the gradient of its micro-batches; the sums are added up once a step. What is minimised is decided by the
weights of the rows and the plan of the step, whoever shares the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import distributed

from buckler.errors import ConfigError
from buckler.finetuning import checkpoints
from buckler.finetuning.batches import TrainRow, tensors
from buckler.finetuning.loss import Objective
from buckler.finetuning.plan import MicroBatch, micro_batches, steps_of
from buckler.finetuning.settings import TrainSettings
from buckler.progress import ProgressCallback, no_progress

NORM = 1.0
"""The gradient's norm is clipped to this."""


class Phase:
    """One phase: rows, steps and optimizer. `run` does all steps; over the same folder it goes on where a killed one ended."""

    def __init__(
        self, objective: Objective, rows: Sequence[TrainRow], settings: TrainSettings, seed: int, *, pad: int, max_length: int,
        budget: int, bf16: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            objective: Model and loss.
            rows: The set.
            settings: Of the phase.
            seed: Random seed of the order of rows, and of dropout.
            pad: Id that fills up a sequence.
            max_length: How many tokens a packed sequence may hold.
            budget: Most tokens of a micro-batch.
            bf16: Compute in bfloat16; the weights that are updated stay float32.
        """
        self.objective, self.rows, self.settings, self.pad, self.bf16 = objective, rows, settings, pad, bf16
        self.device = objective.plain.device
        self.steps = steps_of(len(rows), batch_size=settings.batch_size, epochs=settings.epochs, seed=seed)
        self.weights = list(checkpoints.trained(objective.model).values())
        # Fused: one pass over the weights. Buckler decays none.
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, weight_decay=0.0, fused=True)
        self.rank, self.processes = (distributed.get_rank(), distributed.get_world_size()) if _is_shared() else (0, 1)
        self._lengths = [len(row.ids) for row in rows]
        self.budget, self.pack_to = budget, max_length if settings.packing else None
        self.losses: list[float] = []
        torch.manual_seed(seed + self.rank)
        # One number goes first, as a DataLoader draws one: a dropout leaves out what it did when there was one here.
        torch.empty((), dtype=torch.int64).random_()

    def run(self, out: Path, progress: ProgressCallback = no_progress) -> None:
        """All steps that are not done yet, with checkpoints in `out`; `losses` has the loss of each.

        Raises:
            ConfigError: training diverged.
        """
        done = 0
        if (latest := checkpoints.newest(out, self.processes)) is not None:
            done, self.losses = checkpoints.restore(latest, self.objective.model, self.optimizer, self.rank)
        for step, rows in enumerate(self.steps[done:], done):
            loss = self.gradient(rows)
            if not math.isfinite(loss):
                raise ConfigError(f"the loss is {loss} at step {step + 1}: training diverged; lower learning_rate")
            self.losses.append(loss)
            self.update(step)
            every = self.settings.checkpoint_every
            if every and (step + 1) % every == 0 and step + 1 < len(self.steps):
                self._save(out / f"checkpoint-{step + 1}")
            progress("training", step + 1, len(self.steps))
        self._require_finite()

    def plan(self, rows: Sequence[int]) -> list[MicroBatch]:
        """This process's micro-batches of a step."""
        shares = micro_batches(
            rows,
            self._lengths,
            least=self.settings.accumulation,
            processes=self.processes,
            budget=self.budget,
            pack_to=self.pack_to,
        )
        return shares[self.rank]

    def gradient(self, rows: Sequence[int]) -> float:
        """Put the gradient of a step's loss into the weights' `grad`; the loss."""
        total = torch.zeros((), device=self.device)
        for micro in self.plan(rows):
            batch = tensors([[self.rows[at] for at in one] for one in micro.sequences], self.pad, micro.of_step)
            loss = self.objective.compute({key: value.to(self.device) for key, value in batch.items()}, bf16=self.bf16)
            torch.autograd.backward(loss)
            total += loss.detach()
        if self.processes > 1:
            for weight in self.weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            for one in (total, *(weight.grad for weight in self.weights)):
                distributed.all_reduce(one)
        return float(total)

    def update(self, step: int) -> None:
        """Change the weights by their gradient, at the learning rate of the step (from 0), and forget it."""
        torch.nn.utils.clip_grad_norm_(self.weights, NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * learning_rate(step, len(self.steps), self.settings)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _save(self, folder: Path) -> None:
        checkpoints.save(folder, self.objective.model, self.optimizer, self.losses, self.rank)
        if self.processes > 1:
            distributed.barrier()
        if self.rank == 0:
            checkpoints.complete(folder, len(self.losses))

    def _require_finite(self) -> None:
        """The loss of the last step was still a number; the weights after it may be none."""
        if not all(bool(weight.isfinite().all()) for weight in self.weights):
            raise ConfigError(f"the weights are not finite after step {len(self.losses)}: training diverged; lower learning_rate")


def learning_rate(step: int, steps: int, settings: TrainSettings) -> float:
    """The share of the peak learning rate at a step (from 0), as `transformers.get_scheduler` has it."""
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    after = max(1, steps - settings.warmup_steps)
    if settings.schedule == "linear":
        return max(0.0, (steps - step) / after)
    if settings.schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - settings.warmup_steps) / after)))
    return 1.0


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()
