"""How much memory a training phase needs, from the model's shapes alone.

What lasts is counted: weights, gradients, Adam's moments. What a micro-batch needs on top is measured: the program's own forward
and backward pass run on tensors without values (torch's fake tensors), and every storage is counted while it lives. So the
number holds for any architecture, with and without adapters, checkpointing and bfloat16. An 8B model takes a few seconds.
"""

from __future__ import annotations

import functools
import math
import os
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from buckler.data import Json
from buckler.errors import BackendError
from buckler.finetuning.loss import Objective
from buckler.finetuning.prepare import hold_frozen_in_bfloat16, set_checkpointing, with_lora
from buckler.finetuning.settings import TrainSettings
from buckler.models.places import dtype_of, first_line, hub_of, location, with_base
from buckler.models.protocol import ModelSpec

QUANTIZED = {"4bit": 0.52, "8bit": 1.01}
"""Bytes of a weight that bitsandbytes holds, with its scales."""
SHARE = 0.92
"""Of a device's memory: the rest is for the CUDA context, the workspaces of kernels and what is lost between allocations."""
REFERENCE = 80 * 10**9
"""Bytes of the GPU that is reported where none is here."""
LIBRARIES = 60_000_000
"""Bytes that kernels and the allocator keep beside the tensors, measured on a CPU: the same for 15 and 125 million parameters."""
PROBED = (1, 16)
"""Rows of the two micro-batches that are measured; others lie on the line through them, or below."""


_FOUND: dict[tuple[object, ...], Need] = {}
"""What was measured in this process: a run's phases are often of one shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes of a phase, on each device that holds the whole model."""

    weights: int
    gradients: int
    optimizer: int
    fixed: int
    """Of a micro-batch whatever its rows: a chunk of logits, the head's gradient, weights in bfloat16; and of libraries."""
    per_row: int
    """Of each row of a micro-batch."""
    length: int
    """Tokens of a row."""
    gathered: int
    """What each device must hold whole where weights, gradients and moments are sharded: embeddings, head and two layers."""

    @property
    def lasting(self) -> int:
        """Weights, gradients and moments."""
        return self.weights + self.gradients + self.optimizer

    def peak(self, rows: int = 1) -> int:
        """The most while a micro-batch of so many rows is trained on."""
        return self.lasting + self.fixed + rows * self.per_row

    def rows_on(self, device: int) -> int:
        """How many rows a micro-batch may have on a device of so many bytes; 0 where not even one fits."""
        return max(0, int((device * SHARE - self.peak(0)) // self.per_row))

    def devices(self, device: int) -> int | None:
        """How many devices are enough for a trainer that shards all that lasts (FSDP, ZeRO-3); None: no number is."""
        room = device * SHARE - self.fixed - self.per_row - self.gathered
        return math.ceil(self.lasting / room) if room > 0 else None

    def lines(self, device: int, name: str) -> list[str]:
        """The need in words, and whether a device of so many bytes meets it."""
        parts = (("weights", self.weights), ("gradients", self.gradients), ("optimizer", self.optimizer))
        lasting = ", ".join(f"{what} {_size(size)}" for what, size in parts)
        parts_line = f"memory: {lasting}, micro-batch {_size(self.fixed + self.per_row)} (1 row of {self.length} tokens)"
        rows = self.rows_on(device)
        if rows:
            return [parts_line, f"fits {name} ({_size(device)}), with micro-batches of up to {rows * self.length} tokens"]
        count = self.devices(device)
        sharded = "" if count is None else f"; a trainer that shards (`buckler export`) needs {count} such devices"
        return [parts_line, f"does NOT fit {name} ({_size(device)}): it needs {_size(int(self.peak() / SHARE))}{sharded}"]


def need_of(config: PretrainedConfig, settings: TrainSettings, *, bf16: bool, length: int, quantize: str | None = None) -> Need:
    """What a phase needs, its rows being of `length` tokens, all of them learnt.

    Args:
        config: Of the model.
        settings: Of the phase.
        bf16: Whether it computes in bfloat16.
        length: Tokens of a row.
        quantize: How the weights are held.
    """
    shapes = config.to_json_string(use_diff=False)
    key = (shapes, settings.method, settings.lora.model_dump_json(), settings.gradient_checkpointing, bf16, length, quantize)
    if key not in _FOUND:
        _FOUND[key] = _measured(config, settings, bf16, length, quantize)
    return _FOUND[key]


def _measured(config: PretrainedConfig, settings: TrainSettings, bf16: bool, length: int, quantize: str | None) -> Need:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        if settings.method == "lora":
            model = with_lora(model, settings.lora, 0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _as_on_a_device(model)
        model.train()
        objective = Objective(model)
        set_checkpointing(objective, settings, config.model_type)
        if settings.method == "lora" and (bf16 or quantize):
            hold_frozen_in_bfloat16(model)
        weights = list(model.parameters())
        trained = [weight for weight in weights if weight.requires_grad]
        for weight in trained:
            weight.grad = torch.zeros_like(weight)  # of the micro-batches before
        peaks = [_peak(objective, rows, length, bf16=bf16) for rows in PROBED]
    per_row = (peaks[1] - peaks[0]) // (PROBED[1] - PROBED[0])
    held = _bytes(weights)
    if quantize is not None:
        head = objective.plain.get_output_embeddings()
        linear = [
            one.weight for one in model.modules() if type(one) is nn.Linear and one is not head and not one.weight.requires_grad
        ]
        held -= int(sum(weight.numel() for weight in linear) * (2 - QUANTIZED[quantize]))
    layers = [_bytes(layer.parameters()) for part in model.modules() if isinstance(part, nn.ModuleList) for layer in part]
    ends = [layer for layer in (objective.plain.get_input_embeddings(), objective.plain.get_output_embeddings()) if layer]
    return Need(
        weights=held,
        gradients=_bytes(trained),
        optimizer=2 * _bytes(trained),
        fixed=peaks[0] - PROBED[0] * per_row + LIBRARIES,
        per_row=per_row,
        length=length,
        gathered=2 * max(layers, default=0) + _bytes({id(one.weight): one.weight for one in ends}.values()),
    )


def report(spec: ModelSpec, settings: TrainSettings) -> tuple[list[str], dict[str, Json]]:
    """What a dry run says of a phase's memory: lines, and the same as values. Rows are taken to be of `max_length` tokens.

    Raises:
        BackendError: the model's configuration cannot be read.
    """
    spec = with_base(spec)
    config = _config(spec)
    length = min(settings.max_length, getattr(config, "max_position_embeddings", None) or settings.max_length)
    of = functools.partial(need_of, config, settings, length=length, quantize=spec.quantize)
    here = of(bf16=dtype_of(spec) == "bfloat16")
    if spec.device != "cpu" and torch.cuda.is_available():
        device, name = torch.cuda.get_device_properties(0).total_memory, torch.cuda.get_device_name(0)
        lines = here.lines(device, name)
    else:
        device, name = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the memory of this machine"
        lines = here.lines(device, name)
        lines.append("on a GPU: " + of(bf16=spec.dtype != "float32").lines(REFERENCE, "one of 80 GB")[1])
    parts = "weights gradients optimizer fixed per_row length".split()
    values: dict[str, Json] = {part: getattr(here, part) for part in parts}
    return lines, {**values, "peak": here.peak(), "device": device, "fits": here.rows_on(device) > 0}


def _config(spec: ModelSpec) -> PretrainedConfig:
    place = location(spec.name)
    file = place is not None and place.is_file()
    found = {"gguf_file": place.name} if place is not None and file else {"revision": spec.revision}
    source = spec.name if place is None else str(place.parent if file else place)
    try:
        with hub_of(spec):
            return AutoConfig.from_pretrained(source, trust_remote_code=spec.trust_remote_code, **found)
    except Exception as fault:  # noqa: BLE001 - transformers raises many kinds
        raise BackendError(f"{spec.name}: its configuration cannot be read: {first_line(fault)}") from None


def _peak(objective: Objective, rows: int, length: int, *, bf16: bool) -> int:
    """The most bytes that live at once while a micro-batch goes through the model and back, above what was there before."""
    lasting = [*objective.model.parameters(), *objective.model.buffers()]
    lasting += [weight.grad for weight in objective.model.parameters() if weight.grad is not None]
    with Living(lasting) as living:
        places = torch.zeros((rows, length), dtype=torch.int64)
        batch = {
            "input_ids": places,
            "token_weights": torch.ones((rows, length)),
            "wanted": torch.zeros(rows * (length - 1), dtype=torch.int64),
            "of_step": torch.ones(()),
        }
        torch.autograd.backward(objective.compute(batch, bf16=bf16))
        most: int = living.most
    return most


def _as_on_a_device(model: nn.Module) -> None:
    """Exchange tensors of the meta device, for which there is no choice of kernels, for fake ones of the CPU."""
    made: dict[int, Any] = {}
    for layer in model.modules():
        for name, weight in layer._parameters.items():
            if weight is not None:
                new = made.get(id(weight))
                if new is None:
                    new = nn.Parameter(torch.empty_like(weight, device="cpu"), weight.requires_grad)
                layer._parameters[name] = made[id(weight)] = new
        for name, value in layer._buffers.items():
            if value is not None:
                layer._buffers[name] = torch.empty_like(value, device="cpu")


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations make, while they live."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known = {one.untyped_storage()._cdata for one in known}

    def __torch_dispatch__(self, call: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        out = call(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor):
                self._count(one.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._known:
            self._known.add(place)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, place, size).atexit = False

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
