"""A plain model of an adapter: it is merged into its base where somebody wants one folder of weights, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from buckler.data import write_json
from buckler.finetuning.checkpoints import explain_full_disk
from buckler.finetuning.saving import ADAPTER, BASE, save_model
from buckler.models.huggingface import template_of
from buckler.models.loading import open_model
from buckler.models.places import ADAPTER_CONFIG, adapter_config, with_base, with_merged
from buckler.models.protocol import ModelSpec


def save_merged(spec: ModelSpec, out: Path) -> None:
    """The model that the adapter in `out/adapter`, trained on `spec`, makes of it: `out/model`.

    Where it is on another adapter, that one merged into its base is left in `out/base`, and the new one names it.
    """
    based = with_base(spec)
    if below := (*based.merge, *([] if based.adapter is None else [based.adapter])):
        save_loaded(based.model_copy(update={"adapter": None, "merge": below, "quantize": None}), out / BASE)
        settings = out / ADAPTER / ADAPTER_CONFIG
        write_json(settings, {**adapter_config(out / ADAPTER), "base_model_name_or_path": str((out / BASE).resolve())})
    save_loaded(with_merged(based, out / ADAPTER), out / "model")


def save_loaded(spec: ModelSpec, folder: Path) -> None:
    """A model with its adapters merged into it, as a plain folder in float32."""
    with explain_full_disk(folder.parent):
        model, tokenizer = open_model(spec.model_copy(update={"device": "cpu"}), for_training=True)
        save_model(model, template_of(model, tokenizer, spec), folder)
