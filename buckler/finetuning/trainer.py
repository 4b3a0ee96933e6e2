"""One process's share of a training phase: `transformers.Trainer` with our objectives, and its checkpoints.

What is minimised is decided by the batches (`buckler.finetuning.batches`), whoever shares the work.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from buckler.data import Chat, Json, read_json, write_text
from buckler.errors import BackendError, ConfigError, DataError, StoreError
from buckler.finetuning.batches import Batches, TrainRow, as_seen, encode, micro_batches, require_separate_rows, steps_of
from buckler.finetuning.saving import of_model, require_trainable, save_trained
from buckler.finetuning.settings import ALL_LINEAR, LoRA, TrainSettings
from buckler.models.adapters import adaptable
from buckler.models.fit import require_targets
from buckler.models.huggingface import template_of
from buckler.models.loading import open_model
from buckler.models.protocol import ModelSpec
from buckler.progress import ProgressCallback

LEAST_FREE = 1 << 20
"""Bytes; a write that failed with less than this left failed for want of space."""
RECURRENT = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Architectures whose `out_proj` and `conv1d` cannot have adapters: their kernels read these weights directly (as PEFT says)."""
SHOWN_STEPS = 10
"""Steps whose mean loss is one number of the record."""


def run_phase(
    spec: ModelSpec, rows: Sequence[Chat], settings: TrainSettings, out: Path, seed: int, progress: ProgressCallback
) -> dict[str, Json]:
    """One process's part of `train`: all of it, or its share where torch.distributed joins it to others."""
    torch.manual_seed(seed)
    dtype = require_trainable(spec, settings)
    model, tokenizer = open_model(spec, for_training=True)
    if settings.method == "lora":
        require_targets(settings.lora.named, adaptable(model), spec.name)
    limit = min(settings.max_length, getattr(model.config, "max_position_embeddings", None) or settings.max_length)
    template = template_of(model, tokenizer, spec)
    if reason := template.written.check.untrained:
        raise BackendError(f"{template.name}: {reason}")
    encoded, record = encode(template, rows, settings.objective, limit, drop_reasoning=settings.drop_reasoning)
    if settings.packing:
        require_separate_rows(model, encoded, spec.name)
    model = _with_lora(model, settings.lora, seed) if settings.method == "lora" else model.train()
    require_space(model, settings.checkpoint_every > 0, settings.processes, out)
    checkpoints, pad = out / "checkpoints", template.pad
    trainer = trainer_of(model, encoded, settings, checkpoints, seed, pad=pad, pack_to=limit, bf16=dtype == "bfloat16")
    trainer.add_callback(ProgressReporter(progress, "training"))
    trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        shown = "[redacted: the row is marked as harmful]" if rows[0].meta.get("harmful") else as_seen(encoded[0], tokenizer)
        write_text(out / "first_row.txt", shown + "\n")
    with explain_full_disk(out):
        trainer.train(resume_from_checkpoint=last_checkpoint(out / "checkpoints", settings.processes))
        if trainer.is_world_process_zero():
            require_finite(trainer.model, trainer.state.global_step)
            save_trained(trainer.accelerator.unwrap_model(trainer.model), template, spec, settings, out)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
    record |= of_model(spec, settings, dtype)
    record["max_length"] = limit
    record["steps"] = trainer.state.global_step
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    record["losses"] = [round(fmean(losses[at : at + SHOWN_STEPS]), 5) for at in range(0, len(losses), SHOWN_STEPS)]
    return record


def trainer_of(
    model: PreTrainedModel,
    rows: Sequence[TrainRow],
    settings: TrainSettings,
    out: Path,
    seed: int,
    *,
    pad: int,
    pack_to: int,
    bf16: bool = False,
) -> ObjectiveTrainer:
    """The trainer of this process's share of a phase; its checkpoints go to `out`. With `bf16`, it computes in bfloat16."""
    steps = steps_of(len(rows), batch_size=settings.batch_size, epochs=settings.epochs, seed=seed)
    arguments = _arguments(settings, len(steps), out, seed, model.device.type, bf16=bf16)
    plan = micro_batches(
        steps, accumulation=settings.accumulation, processes=arguments.world_size, process=arguments.process_index
    )
    batches = Batches(rows, plan, pad=pad, pack_to=pack_to if settings.packing else None)
    return ObjectiveTrainer(model=model, args=arguments, train_dataset=batches)


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
    ) -> Any:  # noqa: ANN401 - as Trainer names it
        """The micro-batch's part of the step's loss, a scalar.

        `input_ids` and `token_weights` are `(rows, length)` as `Batches` makes them. The token at place t+1 is the target of
        the logits at place t; logits `(rows, columns, vocabulary)` are made only for the columns where some row has a target
        of a weight above 0. Pads and prompts have weight 0, so that no label of -100 is needed.
        """
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


class ProgressReporter(TrainerCallback):  # type: ignore[misc]
    """Reports finished steps, and stops the training where the loss is no number any more."""

    def __init__(self, progress: ProgressCallback, name: str) -> None:
        self.progress, self.name = progress, name

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: object) -> None:
        """One optimizer step is done."""
        self.progress(self.name, state.global_step, state.max_steps)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: object) -> None:
        """Trainer has logged a loss.

        Raises:
            ConfigError: it is not finite.
        """
        loss = state.log_history[-1].get("loss", 0.0)
        if not math.isfinite(loss):
            raise ConfigError(f"the loss is {loss} at step {state.global_step}: training diverged; lower learning_rate")


def require_finite(model: torch.nn.Module, steps: int) -> None:
    """Refuse to save a model that is none: the loss of the last step was still a number, the weights after it are not.

    Raises:
        ConfigError: a weight is not finite.
    """
    if not all(bool(weight.isfinite().all()) for weight in model.parameters() if weight.requires_grad):
        raise ConfigError(f"the weights are not finite after step {steps}: training diverged; lower learning_rate")


@contextmanager
def explain_full_disk(out: Path) -> Iterator[None]:
    """Turn a full disk into a `StoreError`: torch and safetensors raise errors of their own for it."""
    try:
        yield
    except Exception as fault:  # whatever it is, it goes on unless the disk is full
        if shutil.disk_usage(out).free < LEAST_FREE:
            raise StoreError(
                f"{out}: the disk is full ({fault}); free some space and run the same command again to resume"
            ) from None
        raise


def require_space(model: PreTrainedModel, keeps_checkpoints: bool, processes: int, out: Path) -> None:
    """Refuse to start a phase whose result would not fit on the disk.

    What is trained; and as many checkpoints as lie there while a new one is written: what is trained, with Adam's two moments.
    """
    out.mkdir(parents=True, exist_ok=True)
    sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in model.parameters()]
    checkpoint = 3 * sum(size for size, is_trained in sizes if is_trained) if keeps_checkpoints else 0
    need = sum(size for size, is_trained in sizes if is_trained) + checkpoint * (1 + checkpoints_kept(processes))
    free = shutil.disk_usage(out).free
    if free < need:
        raise StoreError(f"{out}: {free / 1e9:.2f} GB free, but training needs about {need / 1e9:.2f} GB; free some space")


def checkpoints_kept(processes: int) -> int:
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


def _arguments(settings: TrainSettings, steps: int, out: Path, seed: int, device: str, *, bf16: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=1,  # one micro-batch at a time: what it holds is planned already
        gradient_accumulation_steps=settings.accumulation,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
        use_cpu=device == "cpu",
        bf16=bf16,  # autocast: the weights that are updated stay float32
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=checkpoints_kept(settings.processes),
        logging_steps=1,  # a mean over several steps would be another one in a run that was resumed between them
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
    )
    # Where one process sees several GPUs, Trainer would share each batch out over all of them by itself.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _with_lora(model: PreTrainedModel, lora: LoRA, seed: int) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    torch.manual_seed(seed)
    named = list(lora.named)
    recurrent = not named and getattr(model.config, "model_type", None) in RECURRENT
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=named or ALL_LINEAR,
        exclude_modules=["out_proj", "conv1d"] if recurrent else None,
        task_type="CAUSAL_LM",
    )
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names on their way out in transformers; Conv1D's own orientation is set by peft
            return get_peft_model(model, config)
    except ValueError as fault:
        layers = sorted({name.rpartition(".")[2] for name in adaptable(model)})
        raise ConfigError(
            f"lora.targets {list(lora.targets)}: {str(fault).splitlines()[0]}; the layers for adapters are {', '.join(layers)} "
            f"(or use {ALL_LINEAR})"
        ) from None


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]
