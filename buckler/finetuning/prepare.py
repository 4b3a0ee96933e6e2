"""A model made ready for its phase: adapters, activations that are computed again, frozen weights in their arithmetic type."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from transformers import PreTrainedModel

from buckler.errors import ConfigError
from buckler.finetuning.loss import Objective
from buckler.finetuning.settings import ALL_LINEAR, LoRA, TrainSettings
from buckler.models.adapters import adaptable
from buckler.progress import LOG

RECURRENT = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Architectures whose `out_proj` and `conv1d` cannot have adapters: their kernels read these weights directly (as PEFT says)."""
LARGE = 1_000_000_000
"""Parameters from which activations are computed again rather than kept, unless the settings say otherwise."""


def set_checkpointing(objective: Objective, settings: TrainSettings, name: str) -> None:
    """Have activations computed again in the backward pass, where the settings or the model's size ask for it.

    Raises:
        ConfigError: they are to be, and the model cannot.
    """
    model, wanted = objective.plain, settings.gradient_checkpointing
    large = sum(weight.numel() for weight in model.parameters()) >= LARGE
    if wanted == "off" or (wanted == "auto" and not large):
        return
    if not model.supports_gradient_checkpointing:
        if wanted == "on":
            raise ConfigError(f"{name}: this architecture has no gradient checkpointing; set gradient_checkpointing to off")
        LOG.warning("%s: this architecture has no gradient checkpointing: its activations are kept", name)
        return
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # the older name
    enable({"use_reentrant": False})
    objective.recomputes = True


def with_lora(model: PreTrainedModel, lora: LoRA, seed: int) -> PreTrainedModel:
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


def hold_frozen_in_bfloat16(model: PreTrainedModel) -> None:
    """Hold frozen matrices in bfloat16 from now on, the type in which autocast multiplies them anyway.

    The arithmetic stays the same and the weights take half the memory. A head that is tied to the embeddings gets its own. The
    base is read again before adapters are merged into it.
    """
    if getattr(model.config, "model_type", None) in RECURRENT:
        return
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and not layer.weight.requires_grad]
    for layer in layers:
        layer.weight = nn.Parameter(layer.weight.detach().to(torch.bfloat16), requires_grad=False)
