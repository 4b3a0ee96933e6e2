"""What speaks against a local model, as far as its files tell without loading weights: reported before a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from buckler.errors import BackendError
from buckler.models.checkpoint import Checkpoint
from buckler.models.dtype import may_use_gpu
from buckler.models.places import (
    ADAPTER_WEIGHTS,
    ANY_TOKENIZER,
    adapter_config,
    adapters_of,
    dtype_of,
    has_tokenizer,
    location,
    with_base,
)
from buckler.models.protocol import ModelSpec

FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""Packages that attention implementations are in."""


def require_answers(spec: ModelSpec) -> None:
    """Refuse a local model that cannot answer, or whose adapter does not fit, as far as this is seen without loading it.

    Raises:
        BackendError: with the reason and what to do.
    """
    if spec.endpoint is not None or spec.is_own:
        return
    spec = with_base(spec)
    if spec.dtype == "float16" and not may_use_gpu(spec.device):
        raise BackendError(
            f"{spec.name}: dtype float16 is for GPUs, and this computes on a CPU; use float32 or bfloat16 (for a run that is "
            "planned here and computes on GPUs elsewhere, set `device: cuda` at the model)"
        )
    package = FLASH.get(spec.attn_implementation or "")
    if package and not (may_use_gpu(spec.device) and find_spec(package) is not None and dtype_of(spec) != "float32"):
        needs = f"a GPU, the package {package}, and bfloat16 or float16"
        raise BackendError(f"{spec.name}: attn_implementation {spec.attn_implementation} needs {needs}; use sdpa")
    place, brought = location(spec.name), adapters_of(spec)
    for adapter in brought:
        require_adapter(adapter)
        if not spec.chat_template and (fault := Checkpoint(adapter).broken_template()) is not None:
            raise BackendError(f"{adapter}: {fault}")
    if spec.quantize is not None and find_spec("bitsandbytes") is None:
        raise BackendError(f"{spec.name}: `quantize: {spec.quantize}` needs bitsandbytes: pip install 'buckler[quantize]'")
    if place is None:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(spec.name, "config.json", revision=spec.revision)
        if isinstance(config, str):  # its weights may not have been downloaded yet
            Checkpoint(Path(config).parent).require_readable()
        return
    if place.is_file():
        if find_spec("gguf") is None:
            raise BackendError(f"{spec.name}: a GGUF file needs the package gguf: pip install 'buckler[gguf]'")
        if spec.quantize is not None:
            raise BackendError(f"{spec.name}: a GGUF file is unpacked, not quantized; remove `quantize: {spec.quantize}`")
        Checkpoint(place.parent).require_ends()
        return
    if not (place / "config.json").exists():
        raise BackendError(f"{place}: contains no config.json, which every model folder needs")
    checkpoint = Checkpoint(place)
    own_template = any(Checkpoint(adapter).template != "" or has_tokenizer(adapter) for adapter in brought)
    reason = checkpoint.refusal(trusts_code=spec.trust_remote_code, has_template=bool(spec.chat_template) or own_template)
    if reason is not None:
        raise BackendError(f"{spec.name}: {reason}")
    _require_tokenizer([place, *brought])
    if spec.quantize is not None and checkpoint.quantization:
        raise BackendError(f"{spec.name}: is quantized already ({checkpoint.quantization}); remove `quantize: {spec.quantize}`")


def _require_tokenizer(places: Sequence[Path]) -> None:
    """Refuse a model with which no tokenizer comes; one that cannot be loaded is refused when it is opened."""
    if not any(next(place.glob(pattern), None) for place in places for pattern in ANY_TOKENIZER):
        raise BackendError(
            f"{places[0]}: contains no tokenizer (tokenizer.json); save that of the model there, or download it again"
        )


def require_adapter(folder: Path) -> None:
    """Refuse an adapter that is not whole, or that makes no model answer.

    Raises:
        BackendError: with the reason and what to do.
    """
    config = adapter_config(folder)
    Checkpoint(folder).require_readable()
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise BackendError(f"{folder}: an adapter for the task type {task}, not CAUSAL_LM; it does not make a model answer")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").exists()
        hint = "adapter_model.bin can run code; save it again as safetensors" if pickled else "it is not a whole adapter"
        raise BackendError(f"{folder}: contains no {ADAPTER_WEIGHTS}; {hint}")
