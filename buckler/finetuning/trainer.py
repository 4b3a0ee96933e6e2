"""A phase's checkpoints: room for them, which of them are whole, and a full disk told in plain words.

`transformers.Trainer` with our objectives: what it minimises is decided by the batches, whoever shares the work.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buckler.data import read_json
from buckler.errors import DataError, StoreError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from buckler.errors import ConfigError
from buckler.progress import ProgressCallback

LEAST_FREE = 1 << 20
"""Bytes; a write that failed with less than this left failed for want of space."""


@contextmanager
def full_disk_told(out: Path) -> Iterator[None]:
    """Tell a full disk in plain words: torch and safetensors raise errors of their own for it."""
    try:
        yield
    except Exception as fault:  # whatever it is, it goes on unless the disk is full
        if shutil.disk_usage(out).free < LEAST_FREE:
            raise StoreError(f"{out}: the disk is full ({fault}); free some space and run again to go on") from None
        raise


def require_space(model: PreTrainedModel, keeps_checkpoints: bool, processes: int, out: Path) -> None:
    """Refuse to start a phase whose result would not fit on the disk.

    The weights; and as many checkpoints as lie there while a new one is written: what is trained, with Adam's two moments.
    """
    out.mkdir(parents=True, exist_ok=True)
    sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in model.parameters()]
    checkpoint = 3 * sum(size for size, is_trained in sizes if is_trained) if keeps_checkpoints else 0
    need = sum(size for size, _ in sizes) + checkpoint * (1 + kept(processes))
    free = shutil.disk_usage(out).free
    if free < need:
        raise StoreError(f"{out}: {free / 1e9:.2f} GB free, the phase needs about {need / 1e9:.2f} GB; free some space")


def kept(processes: int) -> int:
    """How many whole checkpoints are kept; with several processes one may still be adding its part to the newest."""
    return 1 if processes == 1 else 2


def last_checkpoint(folder: Path, processes: int) -> str | None:
    """The newest checkpoint that was written whole: the trainer's state comes last, and each process adds its own."""
    whole = [
        path.parent
        for path in folder.glob("checkpoint-*/trainer_state.json")
        if _is_json(path) and len(list(path.parent.glob("rng_state*.pth"))) >= processes
    ]
    return str(max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]))) if whole else None


def _is_json(path: Path) -> bool:
    try:
        read_json(path)
    except DataError:
        return False
    return True


class ObjectiveTrainer(Trainer):  # type: ignore[misc]
    """Minimises `sum(token_weights * nll) / of_step`, the sum over all micro-batches and processes of a step.

    `train_dataset` is a `buckler.finetuning.batches.Batches`: this process's micro-batches of the whole phase, in order. They are
    read as they lie, so that data order needs no random state and a resumed phase goes on at the very next one.
    """

    # The loss is already divided by the whole step's denominator; Trainer must not divide it again.
    loss_is_scaled_for_ga = True

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The micro-batches one by one. Each process has its own already, so accelerate is given nothing to share out."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=_only, pin_memory=self.args.dataloader_pin_memory)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:  # noqa: ANN401 - as Trainer spells it
        """The micro-batch's part of the step's loss. Logits are made only where some row has a token to learn."""
        targets, weights = inputs["input_ids"][:, 1:], inputs["token_weights"][:, 1:]
        columns = (weights > 0).any(0).nonzero()[:, 0]
        outputs = model(
            input_ids=inputs["input_ids"],
            logits_to_keep=columns,
            use_cache=False,
            **{key: inputs[key] for key in ("attention_mask", "position_ids") if key in inputs},
        )
        targets, weights = targets[:, columns], weights[:, columns]
        wanted = weights > 0
        nll = torch.nn.functional.cross_entropy(outputs.logits[wanted].float(), targets[wanted], reduction="none")
        # Processes' gradients are averaged, not summed, by DistributedDataParallel.
        loss = (nll * weights[wanted]).sum() / inputs["of_step"] * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


class Teller(TrainerCallback):  # type: ignore[misc]
    """Says how far the training is, and stops it where the loss is no number any more."""

    def __init__(self, progress: ProgressCallback, what: str) -> None:
        self.progress, self.what = progress, what

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: object) -> None:
        """One optimizer step is done."""
        self.progress(self.what, state.global_step, state.max_steps)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: object) -> None:
        """Trainer has a loss to tell.

        Raises:
            ConfigError: it is not finite.
        """
        loss = state.log_history[-1].get("loss", 0.0)
        if not math.isfinite(loss):
            raise ConfigError(f"the loss is {loss} at step {state.global_step}: training diverged; lower learning_rate")


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]
