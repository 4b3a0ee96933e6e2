"""In what arithmetic a model runs: what `dtype: auto` means for this model on this machine.

`auto` is bfloat16 where the hardware multiplies matrices in it (a CPU with AMX, a GPU with bfloat16), and float32 elsewhere and
for small models, which gain nothing. Answering holds the weights in that type; training keeps float32 master weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, TypeAlias

from buckler.data.reading import read_text
from buckler.errors import DataError

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
SMALL = 64 << 20
"""Bytes of weights below which a local model is small: it computes in float32 on every machine, so that numbers are the same."""
CPU_INFO = Path("/proc/cpuinfo")
GPU_SIGNS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where a driver shows itself; without one, torch is not imported to look for a GPU."""
_SUPPOSED: ContextVar[Dtype | None] = ContextVar("supposed", default=None)
"""What `auto` is for models that are not small, where a machine of another kind is asked about."""


@contextmanager
def supposing(auto: Dtype) -> Iterator[None]:
    """Plan as on a machine where `auto` is this for models that are not small."""
    token = _SUPPOSED.set(auto)
    try:
        yield
    finally:
        _SUPPOSED.reset(token)


def supposes() -> bool:
    """Whether a machine of another kind is asked about."""
    return _SUPPOSED.get() is not None


def resolved(device: str, weight_bytes: int | None) -> Dtype:
    """The type that `auto` stands for.

    Args:
        device: Where the model is to be loaded, or `auto`.
        weight_bytes: Size of its weights; None where it is not known, for a model of the hub.
    """
    if weight_bytes is not None and weight_bytes < SMALL:
        return "float32"
    if (supposed := _SUPPOSED.get()) is not None:
        return supposed
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: str) -> bool:
    if device != "cpu" and (device != "auto" or _may_have_gpu()):
        import torch

        if torch.cuda.is_available():
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_amx()


def may_use_gpu(device: str) -> bool:
    """Whether a model of this `device` computes on a GPU: one that is named, or one that is here."""
    if device != "auto":
        return device != "cpu"
    if not _may_have_gpu():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _may_have_gpu() -> bool:
    return any(Path(sign).exists() for sign in GPU_SIGNS) or not CPU_INFO.exists()


@functools.cache
def cpu_has_amx() -> bool:
    """Whether this CPU has AMX units for bfloat16."""
    try:
        return "amx_bf16" in read_text(CPU_INFO)
    except DataError:
        return False
