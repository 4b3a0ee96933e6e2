"""One training phase: rows and a model in, a plain model folder out. Seeded, checkpointed, resumable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field, ValidationInfo, field_validator

from buckler.data import Chat, Json, write_json, write_text
from buckler.errors import ConfigError
from buckler.finetuning.distributed import on_processes, require_gpus
from buckler.finetuning.objectives import Objective
from buckler.models.protocol import ModelSpec
from buckler.progress import note_loading
from buckler.settings import Settings
from buckler.workflow.store import Tell, silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

    from buckler.finetuning.batches import TrainRow
    from buckler.finetuning.trainer import ObjectiveTrainer


SHOWN_STEPS = 10
"""Steps whose mean loss is one number of the record."""
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


def train(
    spec: ModelSpec, rows: Sequence[Chat], settings: TrainSettings, out: Path, *, seed: int, tell: Tell = silent
) -> dict[str, Json]:
    """Fine-tune `spec` on `rows`; writes `out/model` (LoRA: merged, the adapter in `out/adapter`) and what it saw.

    A killed run goes on from its last checkpoint and ends with the same weights. With `settings.processes` above 1 this
    process starts them and waits.

    Returns:
        Rows used, cut and dropped (with their ids), steps, supervised tokens, the losses.

    Raises:
        ConfigError: the settings do not fit the rows, the model or this machine, or training diverged.
        DataError: no row can be trained on.
        StoreError: the disk is full.
        BackendError: the model cannot be loaded, or a process died.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "Buckler starts its own processes: set `processes` in the training settings, without a launcher; "
            "for a launcher write a job (`buckler train --job`) and start `-m buckler.finetuning` with it"
        )
    note_loading(spec.name)
    job = (spec, list(rows), settings, out, seed)
    if settings.processes == 1:
        record = phase(*job, tell)
    else:
        gpus = require_gpus(settings.processes, spec.device)
        record = cast("dict[str, Json]", on_processes(settings.processes, phase, job, tell, gpus=gpus))
    write_json(out / "training.json", {**record, "settings": settings.model_dump(mode="json"), "seed": seed})
    return record


def phase(spec: ModelSpec, rows: Sequence[Chat], settings: TrainSettings, out: Path, seed: int, tell: Tell) -> dict[str, Json]:
    """One process's part of `train`: all of it, or its share where torch.distributed joins it to others."""
    import torch
    from transformers import PrinterCallback

    from buckler.finetuning.batches import as_seen, encode, require_rows_apart
    from buckler.finetuning.trainer import Teller, full_disk_told, last_checkpoint, require_space
    from buckler.models.chat_template import Template
    from buckler.models.huggingface import open_model

    torch.manual_seed(seed)
    model, tokenizer = open_model(spec)
    limit = min(settings.max_length, getattr(model.config, "max_position_embeddings", None) or settings.max_length)
    encoded, record = encode(Template(tokenizer, spec.name), rows, settings.objective, limit)
    if settings.packing:
        require_rows_apart(model, encoded, spec.name)
    model = _with_lora(model, settings.lora, seed) if settings.method == "lora" else model.train()
    require_space(model, settings.checkpoint_every > 0, settings.processes, out)
    trainer = trainer_of(model, encoded, settings, out / "checkpoints", seed, pad=_pad_of(tokenizer), pack_to=limit)
    trainer.add_callback(Teller(tell, "training"))
    trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        shown = "[redacted: the row is marked as harmful]" if rows[0].meta.get("harmful") else as_seen(encoded[0], tokenizer)
        write_text(out / "first_row.txt", shown + "\n")
    with full_disk_told(out):
        trainer.train(resume_from_checkpoint=last_checkpoint(out / "checkpoints", settings.processes))
        if trainer.is_world_process_zero():
            _save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, settings, out)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
    record["max_length"] = limit
    record["steps"] = trainer.state.global_step
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    record["losses"] = [round(fmean(losses[at : at + SHOWN_STEPS]), 5) for at in range(0, len(losses), SHOWN_STEPS)]
    return record


def trainer_of(
    model: PreTrainedModel, rows: Sequence[TrainRow], settings: TrainSettings, out: Path, seed: int, *, pad: int, pack_to: int
) -> ObjectiveTrainer:
    """The trainer of this process's share of a phase; its checkpoints go to `out`."""
    from buckler.finetuning.batches import Batches, micro_batches, steps_of
    from buckler.finetuning.trainer import ObjectiveTrainer

    steps = steps_of(len(rows), batch_size=settings.batch_size, epochs=settings.epochs, seed=seed)
    arguments = _arguments(settings, len(steps), out, seed, model.device.type)
    plan = micro_batches(
        steps, accumulation=settings.accumulation, processes=arguments.world_size, process=arguments.process_index
    )
    batches = Batches(rows, plan, pad=pad, pack_to=pack_to if settings.packing else None)
    return ObjectiveTrainer(model=model, args=arguments, train_dataset=batches)


def _arguments(settings: TrainSettings, steps: int, out: Path, seed: int, device: str) -> TrainingArguments:
    from transformers import TrainingArguments

    from buckler.finetuning.trainer import kept

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
        bf16=device == "cuda",
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=kept(settings.processes),
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
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is on its way out
            return get_peft_model(model, config)
    except ValueError as fault:
        raise ConfigError(f"lora.targets {list(lora.targets)}: {str(fault).splitlines()[0]}") from None


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: TrainSettings, out: Path) -> None:
    if settings.method == "lora":
        model.save_pretrained(out / "adapter")
        model = model.merge_and_unload(safe_merge=True)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")


def _pad_of(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
