"""What a training leaves: a plain model folder, or an adapter with the name of its base; and what the record says of them."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from buckler.data import Json
from buckler.errors import ConfigError
from buckler.finetuning.settings import TrainSettings
from buckler.models.chat_template import Template
from buckler.models.dtype import Dtype
from buckler.models.places import EMBEDDED, adapters_of, dtype_of, ignored_adapter, location, with_base
from buckler.models.protocol import ModelSpec
from buckler.models.template_text import with_defaults

ADAPTER = "adapter"
BASE = "base"
"""Folder of the base that a second adapter is on: the first one merged into its own."""


def require_trainable(spec: ModelSpec, settings: TrainSettings) -> Dtype:
    """The arithmetic of a training.

    Raises:
        ConfigError: the model cannot be trained as it is to be loaded.
    """
    dtype = dtype_of(spec)
    if dtype == "float16":
        raise ConfigError(f"{spec.name}: dtype float16 is for answering only; train in float32 or bfloat16")
    if spec.quantize is not None and settings.method == "full":
        raise ConfigError(f"{spec.name}: quantized weights cannot be trained in full; use method `lora`, or remove `quantize`")
    return dtype


def base_name(spec: ModelSpec) -> str:
    """The base as an adapter names it: as it was named, with a whole path, so that the adapter is read from any folder."""
    if spec.name in EMBEDDED:
        return spec.name
    place = location(spec.name)
    return spec.name if place is None else str(place.resolve())


def of_model(spec: ModelSpec, settings: TrainSettings, dtype: Dtype) -> dict[str, Json]:
    """What the record says of the model where it is not a plain one in float32."""
    based = with_base(spec)
    record: dict[str, Json] = {} if dtype == "float32" else {"dtype": dtype}
    if spec.threads is not None:
        record["threads"] = spec.threads
    if spec.attn_implementation is not None:
        record["attn_implementation"] = spec.attn_implementation
    if spec.quantize is not None:
        record["quantize"] = spec.quantize
    if (note := ignored_adapter(spec)) is not None:
        record["note"] = note
    if based.adapter is not None:
        merged_in: dict[str, Json] = {"adapter_is_on": BASE} if settings.method == "lora" else {}
        record["base"] = {"model": based.name, "adapter": based.adapter, **merged_in}
    return record


def save_trained(model: PreTrainedModel, template: Template, spec: ModelSpec, settings: TrainSettings, out: Path) -> None:
    """The trained model in `model/`; of LoRA the adapter alone in `adapter/`, which names what it is on."""
    if settings.method == "full":
        save_model(model, template, out / "model")
        return
    based = with_base(spec)
    below = adapters_of(based)
    model.peft_config["default"].base_model_name_or_path = str(below[-1].resolve()) if below else base_name(based)
    model.save_pretrained(out / ADAPTER, save_embedding_layers=False)
    if based.chat_template or based.adapter is not None or template.written.settings:  # not what lies there already
        save_tokenizer(template, out / ADAPTER)


def save_model(model: PreTrainedModel, template: Template, folder: Path) -> None:
    """Weights and tokenizer, and with them what the model was trained with: the template's settings and the ends it learnt."""
    ends = model.generation_config.eos_token_id
    if not template.stops <= {*(ends if isinstance(ends, list) else [ends])}:
        model.generation_config.eos_token_id = sorted(template.stops)
    model.save_pretrained(folder)
    save_tokenizer(template, folder)


def save_tokenizer(template: Template, folder: Path) -> None:
    """The tokenizer, whose template has the settings that it was trained with as its defaults."""
    if template.written.settings:
        template.tokenizer.chat_template = with_defaults(template.written.text, template.written.settings)
    template.tokenizer.save_pretrained(folder)
