"""A training phase: the model and its adapters, the rows, the steps, what is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import distributed

from buckler.data import Chat, Json, write_text
from buckler.errors import BackendError, ConfigError
from buckler.finetuning.batches import TrainRow, as_seen, encode, require_separate_rows
from buckler.finetuning.checkpoints import explain_full_disk, require_space
from buckler.finetuning.loop import Phase
from buckler.finetuning.loss import Objective
from buckler.finetuning.memory import need_of
from buckler.finetuning.prepare import hold_frozen_in_bfloat16, set_checkpointing, with_lora
from buckler.finetuning.saving import of_model, require_trainable, save_trained
from buckler.finetuning.settings import TrainSettings
from buckler.models.adapters import adaptable
from buckler.models.fit import require_targets
from buckler.models.huggingface import template_of
from buckler.models.loading import open_model
from buckler.models.protocol import ModelSpec
from buckler.progress import LOG, ProgressCallback

SHOWN_STEPS = 10
"""Steps whose mean loss is one number of the record."""
CPU_TOKENS = 4096
"""Tokens of a micro-batch on a CPU, where larger ones are no faster."""


def run_phase(
    spec: ModelSpec, rows: Sequence[Chat], settings: TrainSettings, out: Path, seed: int, progress: ProgressCallback
) -> dict[str, Json]:
    """One process's part of `train`: all of it, or its share where torch.distributed joins it to others."""
    first = join_others(spec.device)
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
    model = with_lora(model, settings.lora, seed) if settings.method == "lora" else model
    model.train()
    require_space(model, settings.checkpoint_every > 0, out)
    objective = Objective(model)
    if not objective.compare(encoded[0].ids):
        LOG.warning("%s: its output head is not the usual one; logits are made for all supervised columns at once", spec.name)
    set_checkpointing(objective, settings, spec.name)
    if settings.method == "lora" and dtype == "bfloat16":
        hold_frozen_in_bfloat16(model)
    budget = settings.micro_batch_tokens or micro_batch_tokens(objective, spec, settings, dtype, encoded, limit)
    phase = Phase(
        objective,
        encoded,
        settings,
        seed,
        pad=template.pad,
        max_length=limit,
        budget=budget,
        bf16=dtype == "bfloat16",
    )
    if first:
        shown = "[redacted: the row is marked as harmful]" if rows[0].meta.get("harmful") else as_seen(encoded[0], tokenizer)
        write_text(out / "first_row.txt", shown + "\n")
    with explain_full_disk(out):
        try:
            phase.run(out / "checkpoints", progress)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"{spec.name}: the GPU has no memory left; set a smaller micro_batch_tokens (it was {budget}), "
                "gradient_checkpointing to on, or method to lora"
            ) from None
        if first:
            save_trained(model, template, spec, settings, out)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
    record |= of_model(spec, settings, dtype)
    record["max_length"] = limit
    if budget != CPU_TOKENS:
        record["micro_batch_tokens"] = budget
    record["steps"] = len(phase.losses)
    record["losses"] = [round(fmean(phase.losses[at : at + SHOWN_STEPS]), 5) for at in range(0, len(phase.losses), SHOWN_STEPS)]
    return record


def micro_batch_tokens(
    objective: Objective, spec: ModelSpec, settings: TrainSettings, dtype: str, rows: Sequence[TrainRow], limit: int
) -> int:
    """Tokens of a micro-batch that the free memory of a GPU has room for; all processes take the least of theirs."""
    device = objective.plain.device
    if device.type != "cuda":
        return CPU_TOKENS
    length = limit if settings.packing else max(len(row.ids) for row in rows)
    need = need_of(objective.plain.config, settings, bf16=dtype == "bfloat16", length=length, quantize=spec.quantize)
    fitting = need.rows_on(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    if not fitting:
        LOG.warning("%s: %s", spec.name, "; ".join(need.lines(torch.cuda.mem_get_info(device)[1], "this GPU")))
    tokens = max(1, fitting) * length
    if distributed.is_initialized():
        least = torch.tensor(tokens, device=device)
        distributed.all_reduce(least, op=distributed.ReduceOp.MIN)
        tokens = int(least)
    return tokens


def join_others(device: str) -> bool:
    """Where a launcher started several processes, let them reach each other; whether this is the first of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return int(os.environ.get("RANK", "0")) == 0
