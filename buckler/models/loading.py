"""Weights and tokenizer of a spec, in memory: a folder, a GGUF file or a hub id, quantized or not, with or without an adapter.

A model that is loaded answers: weights that the files do not hold, that are no numbers, or that do not fit the tokenizer are
refused here, because transformers would fill in random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from buckler.data.reading import read_text
from buckler.errors import BackendError, BucklerError
from buckler.models import kept
from buckler.models.adapters import NO_DEVICE, merged, not_finite, note_other_base, some, with_adapter
from buckler.models.checkpoint import too_large
from buckler.models.places import (
    adapters_of,
    dtype_of,
    files_of,
    first_line,
    has_tokenizer,
    hub_of,
    ignored_adapter,
    location,
    with_base,
)
from buckler.models.protocol import ModelSpec
from buckler.models.refusals import require_answers
from buckler.models.template_check import read_template
from buckler.progress import LOG

_BEFORE: int | None = None
"""Threads of this process before a model named a number."""
ASIDE = {"adapter": None, "merge": (), "dtype": "auto", "device": "auto", "threads": None, "chat_template": None}
"""Fields of a spec that have no part in how the weights of its base are read; all others have."""
NO_ADAPTER = "no-adapter"
"""A folder that no model has: where transformers looks for an adapter, which it would put on the weights unasked."""


def open_model(
    spec: ModelSpec, *, for_training: bool = False, reads_weights: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights (safetensors or GGUF) and tokenizer.

    For training, the weights are float32 and an adapter is merged into its base, so that what is trained is one plain model.
    Adapters to merge are merged in float32, and the result is rounded to the type in which the model computes, once.
    Without `reads_weights`, names and shapes of safetensors files are compared with the model's and nothing else is read of them;
    of a GGUF file, only the settings.

    Raises:
        BackendError: the model cannot be found, cannot answer, or does not fit its adapter or tokenizer.
    """
    hf_logging.disable_progress_bar()
    spec = with_base(spec)
    require_answers(spec)
    if reads_weights and (note := ignored_adapter(spec)) is not None:
        LOG.warning("%s", note)
    if reads_weights:
        _set_threads(spec.threads)
    device = spec.device if spec.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = device if reads_weights else NO_DEVICE
    folders = adapters_of(spec)
    below, adapter = (folders, None) if spec.adapter is None else (folders[:-1], folders[-1])
    try:
        tokenizer = _tokenizer(spec, folders)
        dtype = "float32" if for_training else dtype_of(spec)
        model = _kept_base(spec, "float32" if below else dtype, device)
        require_answers(spec)  # a model of the hub is here now
        for folder in below:
            adapted = with_adapter(model, folder, spec)
            model = merged(adapted, str(folder)) if reads_weights else adapted.unload()
        if below and dtype != "float32":
            _round(model, getattr(torch, dtype))
        if adapter is not None:
            if not below:
                note_other_base(adapter, spec)
            model = with_adapter(model, adapter, spec)
        if spec.quantize is None and reads_weights:
            model = model.to(device)
    except BucklerError:
        raise
    except Exception as fault:  # noqa: BLE001 - transformers and the formats' readers raise many kinds; all mean the same here
        raise BackendError(f"{spec.name}: cannot be loaded: {first_line(fault)}") from None
    require_embeddings(tokenizer, model.get_input_embeddings().weight.shape[0], spec.name)
    if for_training and adapter is not None:
        if spec.quantize is not None:
            raise BackendError(f"{spec.name}: training on top of an adapter merges it into float32 weights; remove `quantize`")
        model = merged(model, spec.adapter or "")
    return model.eval(), tokenizer


def _round(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give weights that were loaded in float32 the type in which they would have been loaded; nothing else is changed."""
    kept = {*(model._keep_in_fp32_modules_strict or ())}
    kept |= {*(model._keep_in_fp32_modules or ())} if dtype == torch.float16 else set()
    for name, value in model.state_dict(keep_vars=True).items():
        if value.dtype == torch.float32 and not kept & {*name.split(".")}:
            value.data = value.data.to(dtype)
    model.config.dtype = dtype


def _set_threads(threads: int | None) -> None:
    """Compute on so many threads; None: on as many as before a model named a number."""
    global _BEFORE
    if threads is not None and _BEFORE is None:
        _BEFORE = torch.get_num_threads()
    if wanted := threads or _BEFORE:
        torch.set_num_threads(wanted)
    if threads is None:
        _BEFORE = None


def _place(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """Where transformers finds the model, and what else it needs to find it."""
    place = location(spec.name)
    if place is None:
        return spec.name, {"revision": spec.revision}
    return (str(place.parent), {"gguf_file": place.name}) if place.is_file() else (str(place), {})


def _kept_base(spec: ModelSpec, dtype: str, device: str) -> PreTrainedModel:
    """The base without adapters: a copy of the one that this process read last, where it is the same."""
    folder = files_of(spec)
    if folder is None or device == NO_DEVICE or spec.quantize is not None or spec.trust_remote_code:
        return _base(spec, dtype, device)
    key, files = (spec.model_copy(update=ASIDE).model_dump_json(), dtype), kept.stamps(folder)
    model = kept.copy_of(key, folder)
    if model is None:
        before = torch.get_rng_state()
        model = _base(spec, dtype, device)
        if torch.equal(before, torch.get_rng_state()):  # else what comes after would depend on whether it was kept
            kept.keep(key, folder, files, model)
    return model


def _base(spec: ModelSpec, dtype: str, device: str) -> PreTrainedModel:
    place, found = _place(spec)
    trust = spec.trust_remote_code
    if spec.attn_implementation is not None and device != NO_DEVICE:
        found["attn_implementation"] = spec.attn_implementation
    if spec.quantize is not None:
        found |= {"quantization_config": quantization(spec.quantize, dtype), "device_map": {"": device}}
    elif "gguf_file" in found and device == NO_DEVICE:
        with torch.device(device):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(place, **found))
    elif "gguf_file" in found:
        found |= unpacked()
    else:
        found["use_safetensors"] = True
        if device == NO_DEVICE:
            found["device_map"] = {"": device}
    with hub_of(spec) as unreachable:
        model, info = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=getattr(torch, dtype),
            trust_remote_code=trust,
            output_loading_info=True,
            adapter_kwargs={"subfolder": NO_ADAPTER},
            **found,
        )
    if unreachable:
        LOG.info("%s: the hub cannot be reached (%s); the files that were downloaded before are used", spec.name, unreachable)
    require_whole(model, info, spec.name)
    if "gguf_file" in found and getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)  # its weights are plain ones now, and may be trained
    return model


def unpacked() -> dict[str, object]:
    """What makes transformers unpack the weights of a GGUF file; older versions do nothing else."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def quantization(bits: str, dtype: str) -> object:
    """How bitsandbytes holds the weights: 4 bits as in QLoRA (arXiv 2305.14314: NF4, double quantization), or 8."""
    from transformers import BitsAndBytesConfig

    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def require_whole(model: PreTrainedModel, info: dict[str, Any], name: str) -> None:
    """Refuse weights that the files do not hold (transformers draws them at random) and weights that are no numbers.

    Raises:
        BackendError: there are such weights; some are named.
    """
    missing = sorted({*info.get("missing_keys", ()), *(key[0] for key in info.get("mismatched_keys", ()))})
    if missing:
        raise BackendError(
            f"{name}: {len(missing)} weights are not in its files and would be random: {some(missing)}; "
            f"the files are not those of a {type(model).__name__}"
        )
    if unused := sorted(info.get("unexpected_keys", ())):
        LOG.warning("%s: %d weights of its files are not used: %s", name, len(unused), some(unused))
    if broken := not_finite(model):
        raise BackendError(
            f"{name}: {len(broken)} weights are not finite numbers (NaN or infinite): {some(broken)}; the files are damaged, "
            "or its training diverged"
        )


def require_embeddings(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding.

    A special token that is neither in the chat template nor used to begin, end or pad a text is never given: transformers' own
    tokenizer classes add such tokens.

    Raises:
        BackendError: it does.
    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    added = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special, template = {*tokenizer.all_special_tokens, *added}, str(tokenizer.chat_template or "")
    used = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token}
    given = [number for token, number in beyond.items() if token not in special or token in used or token in template]
    reason = too_large(max(given, default=-1) + 1, rows)
    if reason is not None:
        raise BackendError(f"{name}: {reason}")


def _tokenizer(spec: ModelSpec, adapters: Sequence[Path]) -> PreTrainedTokenizerBase:
    """The last adapter's own tokenizer that one brings, else the model's; with the template that is given, or an adapter's."""
    place, found = _place(spec)
    beside: Path | None = None
    for adapter in adapters:
        if has_tokenizer(adapter):
            place, found, beside = str(adapter), {}, None
        template = adapter / "chat_template.jinja"
        beside = template if template.is_file() else beside
    with hub_of(spec):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=spec.trust_remote_code, **found)
    if "gguf_file" in found:
        _complete(tokenizer, Path(place, found["gguf_file"]))
    if beside is not None:
        tokenizer.chat_template = read_text(beside)
    if spec.chat_template:
        tokenizer.chat_template = read_template(spec.chat_template)
    return tokenizer


def _complete(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Give a tokenizer read from a GGUF file what transformers leaves out of it: its special tokens and chat template."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")):
        field = reader.get_field(f"tokenizer.ggml.{key}_token_id")
        if field is not None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(int(field.contents())))
    template = reader.get_field("tokenizer.chat_template")
    if template is not None and not tokenizer.chat_template:
        tokenizer.chat_template = str(template.contents())
