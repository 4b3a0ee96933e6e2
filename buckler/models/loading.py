"""Weights and tokenizer of a spec, in memory: a folder, a GGUF file or a hub id, quantized or not, with or without an adapter.

A model that is loaded answers: weights that the files do not hold, that are no numbers, or that do not fit the tokenizer are
refused here, because transformers would fill in random ones.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from buckler.errors import BackendError, BucklerError
from buckler.models.checkpoint import header, too_large
from buckler.models.places import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_config,
    base_of,
    dtype_of,
    has_tokenizer,
    ignored_adapter,
    location,
    require_adapter,
    require_answers,
    with_base,
)
from buckler.models.protocol import ModelSpec
from buckler.models.template_text import read_template
from buckler.progress import LOG

_BEFORE: int | None = None
"""Threads of this process before a model named a number."""
NO_ADAPTER = "no-adapter"
"""A folder that no model has: where transformers looks for an adapter, which it would put on the weights unasked."""
NO_DEVICE = "meta"
"""Where torch keeps tensors that have a shape and no values."""
SHOWN = 3
"""Names of weights that a message shows."""


def open_model(
    spec: ModelSpec, *, for_training: bool = False, reads_weights: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights (safetensors or GGUF) and tokenizer.

    For training, the weights are float32 and an adapter is merged into its base, so that what is trained is one plain model.
    Without `reads_weights`, names and shapes of safetensors files are compared with the model's and nothing else is read of them.

    Raises:
        BackendError: the model cannot be found, cannot answer, or does not fit its adapter or tokenizer.
    """
    hf_logging.disable_progress_bar()
    spec = with_base(spec)
    require_answers(spec)
    if reads_weights and (note := ignored_adapter(spec)) is not None:
        LOG.warning("%s", note)
    _set_threads(spec.threads)
    device = spec.device if spec.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = device if reads_weights else NO_DEVICE
    adapter = None if spec.adapter is None else _local_adapter(spec.adapter)
    try:
        tokenizer = _tokenizer(spec, adapter)
        model = _base(spec, "float32" if for_training else dtype_of(spec), device)
        require_answers(spec)  # a model of the hub is here now
        if adapter is not None:
            model = with_adapter(model, adapter, spec)
        if spec.quantize is None and reads_weights:
            model = model.to(device)
    except BucklerError:
        raise
    except Exception as fault:  # noqa: BLE001 - transformers and the formats' readers raise many kinds; all mean the same here
        raise BackendError(f"{spec.name}: cannot be loaded: {_first_line(fault)}") from None
    require_embeddings(tokenizer, model.get_input_embeddings().weight.shape[0], spec.name)
    if for_training and adapter is not None:
        if spec.quantize is not None:
            raise BackendError(f"{spec.name}: training on top of an adapter merges it into float32 weights; remove `quantize`")
        model = merged(model, spec.adapter or "")
    return model.eval(), tokenizer


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


def _base(spec: ModelSpec, dtype: str, device: str) -> PreTrainedModel:
    place, found = _place(spec)
    trust = spec.trust_remote_code
    if spec.quantize is not None:
        found |= {"quantization_config": quantization(spec.quantize, dtype), "device_map": {"": device}}
    elif "gguf_file" in found:
        found |= unpacked()
    else:
        found["use_safetensors"] = True
        if device == NO_DEVICE:
            found["device_map"] = {"": device}
    model, info = AutoModelForCausalLM.from_pretrained(
        place,
        dtype=getattr(torch, dtype),
        trust_remote_code=trust,
        output_loading_info=True,
        adapter_kwargs={"subfolder": NO_ADAPTER},
        **found,
    )
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
            f"{name}: {len(missing)} weights are not in its files and would be random: {_some(missing)}; "
            f"the files are not those of a {type(model).__name__}"
        )
    if unused := sorted(info.get("unexpected_keys", ())):
        LOG.warning("%s: %d weights of its files are not used: %s", name, len(unused), _some(unused))
    if broken := _not_finite(model):
        raise BackendError(
            f"{name}: {len(broken)} weights are not finite numbers (NaN or infinite): {_some(broken)}; the files are damaged, "
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


def _tokenizer(spec: ModelSpec, adapter: Path | None) -> PreTrainedTokenizerBase:
    """The adapter's own tokenizer where it brings one, else the model's; with the template that is given, or the adapter's."""
    place, found = _place(spec)
    if adapter is not None and has_tokenizer(adapter):
        place, found = str(adapter), {}
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=spec.trust_remote_code, **found)
    if "gguf_file" in found:
        _complete(tokenizer, Path(place, found["gguf_file"]))
    beside = None if adapter is None else adapter / "chat_template.jinja"
    if beside is not None and beside.is_file():
        tokenizer.chat_template = beside.read_text(encoding="utf-8")
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


def _local_adapter(name: str) -> Path:
    """The adapter's folder; one of the hub is downloaded as a whole, because its tokenizer and template belong to it.

    Raises:
        BackendError: it cannot be had.
    """
    folder = location(name)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    patterns = [ADAPTER_CONFIG, ADAPTER_WEIGHTS, "tokenizer*", "chat_template*", "special_tokens_map.json", "vocab*", "merges*"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as fault:  # noqa: BLE001 - the hub client raises many kinds; all mean the same here
        raise BackendError(f"adapter {name}: not a local folder, and not available from the hub ({_first_line(fault)})") from None
    require_adapter(folder)
    return folder


def with_adapter(model: PreTrainedModel, folder: Path, spec: ModelSpec) -> PreTrainedModel:
    """The model with an adapter on it: every weight of the file is used, and every weight it should have is there.

    Raises:
        BackendError: it does not fit the model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    _note_other_base(folder, spec)
    shapes = {key: one.shape for key, one in header(folder / ADAPTER_WEIGHTS).items()}
    _resize(model, shapes)
    where = {"torch_device": "cpu"} if model.device.type == NO_DEVICE else {}
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, str(folder), **where)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as fault:
        lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
        reason = next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(fault).__name__)
        raise BackendError(f"adapter {folder}: does not fit {spec.name}: {reason[:300]}") from None
    missing = next((str(one.message) for one in warned if "missing adapter keys" in str(one.message)), None)
    if missing is not None:
        raise BackendError(f"adapter {folder}: does not fit {spec.name}: {missing.splitlines()[0][:300]}")
    if not adapted.active_peft_config.is_prompt_learning:
        known = {*get_peft_model_state_dict(adapted, save_embedding_layers=False), *adapted.state_dict()}
        if unused := sorted(key for key in shapes if not known & {key, key.replace(".modules_to_save", "")}):
            raise BackendError(
                f"adapter {folder}: does not fit {spec.name}: {len(unused)} of its weights have no place there: {_some(unused)}"
            )
    if broken := _not_finite(adapted):
        raise BackendError(f"adapter {folder}: {len(broken)} weights are not finite numbers (NaN or infinite): {_some(broken)}")
    return adapted


def _note_other_base(folder: Path, spec: ModelSpec) -> None:
    """Say it where an adapter is loaded on another model than the one it names, or on that one in another place."""
    try:
        found, _ = base_of(folder)
    except BackendError:
        return
    named, theirs, ours = str(adapter_config(folder)["base_model_name_or_path"]), location(found), location(spec.name)
    if theirs is not None and ours is not None and theirs.resolve() != ours.resolve():
        LOG.warning("adapter %s was trained on %s, and is loaded on %s", folder, found, spec.name)
    elif theirs is not None and Path(named).is_absolute() and Path(named) != theirs:
        LOG.warning("adapter %s: its base %s has moved with it to %s, which is used", folder, named, found)


def _resize(model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give the embeddings the number of rows that the adapter brings: it was trained after tokens were added."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    ends: dict[str, int] = {}
    for name, module in model.named_modules():
        if module is inputs or module is outputs:
            ends |= {f".{name}.weight": 0, f".{name}.lora_embedding_A": 1, f".{name}.lora_B.weight": 0}
    rows = [shape[axis] for key, shape in shapes.items() for end, axis in ends.items() if key.endswith(end) and len(shape) == 2]
    if max(rows, default=0) > inputs.weight.shape[0]:
        model.resize_token_embeddings(max(rows), mean_resizing=False)


def merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The plain model that its adapter makes of it, every weight of which can be trained.

    Where input and output embeddings are one and the adapter changes only one of them, they are two from then on.

    Raises:
        BackendError: an adapter of this kind cannot be merged, or the result is no number.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not hasattr(model.base_model, "merge_and_unload"):
        kind = str(model.active_peft_config.peft_type).rpartition(".")[2]
        raise BackendError(f"adapter {adapter}: of type {kind}, which cannot be merged into its base")
    plain = model.get_base_model()
    inputs, outputs = plain.get_input_embeddings(), plain.get_output_embeddings()
    if any(isinstance(one, BaseTunerLayer) for one in (inputs, outputs)) and inputs.weight is outputs.weight:
        layer = outputs.get_base_layer() if isinstance(outputs, BaseTunerLayer) else outputs
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = model.merge_and_unload(safe_merge=True)
    except ValueError as fault:
        raise BackendError(f"adapter {adapter}: cannot be merged: {_first_line(fault)}") from None
    inputs, outputs = whole.get_input_embeddings(), whole.get_output_embeddings()
    if outputs is not None and inputs.weight is not outputs.weight and getattr(whole.config, "tie_word_embeddings", False):
        if torch.equal(inputs.weight, outputs.weight):
            whole.tie_weights()
        else:
            whole.config.tie_word_embeddings = False
            LOG.warning("adapter %s changes the input or output embeddings alone: they are two in the merged model", adapter)
    return whole.requires_grad_(True)


def _not_finite(model: PreTrainedModel) -> list[str]:
    """Names of the weights that hold NaN or infinite values; of weights that are not read, nothing is known."""
    read = ((key, value) for key, value in model.named_parameters() if value.is_floating_point() and not value.is_meta)
    return [key for key, value in read if not value.isfinite().all()]


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _first_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0][:300] if lines else type(fault).__name__
