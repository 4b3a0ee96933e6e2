"""A training phase: the model and its adapters, the rows, the steps, what is written."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import distributed
from transformers import PreTrainedModel

from buckler.data import Chat, Json, write_text
from buckler.errors import ConfigError
from buckler.finetuning.batches import as_seen, encode, require_separate_rows
from buckler.finetuning.checkpoints import explain_full_disk, require_space
from buckler.finetuning.loop import Phase
from buckler.finetuning.loss import Objective
from buckler.finetuning.saving import BASE, of_model, require_trainable, save_model, save_trained
from buckler.finetuning.settings import ALL_LINEAR, LoRA, TrainSettings
from buckler.models.adapters import adaptable
from buckler.models.fit import require_targets
from buckler.models.huggingface import template_of
from buckler.models.loading import open_model
from buckler.models.places import with_base
from buckler.models.protocol import ModelSpec
from buckler.progress import LOG, ProgressCallback

RECURRENT = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Architectures whose `out_proj` and `conv1d` cannot have adapters: their kernels read these weights directly (as PEFT says)."""
SHOWN_STEPS = 10
"""Steps whose mean loss is one number of the record."""
LARGE = 1_000_000_000
"""Parameters from which activations are computed again rather than kept, unless the settings say otherwise."""
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
    encoded, record = encode(template, rows, settings.objective, limit, drop_reasoning=settings.drop_reasoning)
    if settings.packing:
        require_separate_rows(model, encoded, spec.name)
    if settings.method == "lora":
        if with_base(spec).adapter is not None and first:
            with explain_full_disk(out):
                save_model(model, template, out / BASE)
        model = _with_lora(model, settings.lora, seed)
    model.train()
    require_space(model, settings.checkpoint_every > 0, out)
    objective = Objective(model)
    if not objective.compare(encoded[0].ids):
        LOG.warning("%s: its output head is not the usual one; logits are made for all supervised columns at once", spec.name)
    again = set_checkpointing(objective, settings, spec.name)
    phase = Phase(
        objective,
        encoded,
        settings,
        seed,
        pad=template.pad,
        max_length=limit,
        budget=settings.micro_batch_tokens or CPU_TOKENS,
        bf16=dtype == "bfloat16",
    )
    if first:
        shown = "[redacted: the row is marked as harmful]" if rows[0].meta.get("harmful") else as_seen(encoded[0], tokenizer)
        write_text(out / "first_row.txt", shown + "\n")
    with explain_full_disk(out):
        phase.run(out / "checkpoints", progress)
        if first:
            if again:
                objective.plain.gradient_checkpointing_disable()
            save_trained(model, template, spec, settings, out)
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
    record |= of_model(spec, settings, dtype)
    record["max_length"] = limit
    record["steps"] = len(phase.losses)
    record["losses"] = [round(fmean(phase.losses[at : at + SHOWN_STEPS]), 5) for at in range(0, len(phase.losses), SHOWN_STEPS)]
    return record


def join_others(device: str) -> bool:
    """Where a launcher started several processes, let them reach each other; whether this is the first of them."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return int(os.environ.get("RANK", "0")) == 0


def set_checkpointing(objective: Objective, settings: TrainSettings, name: str) -> bool:
    """Whether activations are computed again in the backward pass, as the settings and the model's size have it.

    Raises:
        ConfigError: they are to be, and the model cannot.
    """
    model, wanted = objective.plain, settings.gradient_checkpointing
    large = sum(weight.numel() for weight in model.parameters()) >= LARGE
    if wanted == "off" or (wanted == "auto" and not large):
        return False
    if not model.supports_gradient_checkpointing:
        if wanted == "on":
            raise ConfigError(f"{name}: this architecture has no gradient checkpointing; set gradient_checkpointing to off")
        LOG.warning("%s: this architecture has no gradient checkpointing: its activations are kept", name)
        return False
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return True


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
