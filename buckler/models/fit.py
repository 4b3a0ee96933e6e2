"""Whether a model is ready to be loaded, known from headers before any row is read: its files, its adapter, the layers it has.

An adapter whose pairs of matrices have the shapes of the layers that it names fits. Where the headers do not tell that much
(other kinds of adapters, added tokens, renamed weights), the model is built without values and the adapter put on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from buckler.errors import ConfigError
from buckler.models.checkpoint import Checkpoint, Tensor, header
from buckler.models.places import (
    ADAPTER_WEIGHTS,
    adapter_config,
    adapter_folder,
    has_tokenizer,
    location,
    require_answers,
    with_base,
)
from buckler.models.protocol import ModelSpec

PAIR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
PLAIN = tuple(
    "layers_to_transform exclude_modules rank_pattern modules_to_save target_parameters trainable_token_indices".split()
)
"""Settings of PEFT that a plain adapter leaves empty."""


def require_ready(spec: ModelSpec) -> None:
    """Refuse a local model that cannot answer, or whose adapter does not fit it; its weights are not read.

    Raises:
        BackendError: with the reason and what to do.
    """
    if not spec.is_local:
        return
    require_answers(spec)
    spec = with_base(spec)
    if spec.adapter is None or _fits(spec) or not _is_here(spec):
        return
    _without_values(spec)


def require_layers(spec: ModelSpec, targets: Sequence[str]) -> None:
    """Refuse names of layers that the model does not have, as far as this is seen without downloading it.

    Raises:
        ConfigError: a name is the end of no layer's name; the layers are named.
    """
    spec = with_base(spec)
    if absent(targets, _matrices(spec)) and _is_here(spec):
        from buckler.models.adapters import adaptable

        model = _without_values(spec.model_copy(update={"adapter": None}))
        require_targets(targets, adaptable(model), spec.name)


def require_targets(targets: Sequence[str], layers: Collection[str], name: str) -> None:
    """Refuse targets of which some layer's name does not end in.

    Raises:
        ConfigError: there is such a target.
    """
    if wrong := absent(targets, layers):
        ends = sorted({layer.rpartition(".")[2] for layer in layers})
        raise ConfigError(
            f"lora.targets: {name} has no layer for an adapter called {' or '.join(map(repr, wrong))}; it has {', '.join(ends)} "
            "(or use all-linear)"
        )


def absent(targets: Sequence[str], layers: Collection[str]) -> list[str]:
    """The targets that are the end of no layer's name."""
    return [target for target in targets if not any(_is_end(target, layer) for layer in layers)]


def _is_end(target: str, layer: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _folder(spec: ModelSpec) -> Path | None:
    """Where the base's files lie: its folder, or what of a hub model is downloaded."""
    place = location(spec.name)
    if place is not None:
        return place
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(spec.name, "config.json", revision=spec.revision)
    return Path(config).parent if isinstance(config, str) else None


def _is_here(spec: ModelSpec) -> bool:
    folder = _folder(spec)
    return folder is not None and (folder.is_file() or bool(Checkpoint(folder).weight_files))


def _matrices(spec: ModelSpec) -> Mapping[str, Tensor]:
    """The base's two-dimensional weights by the names of their layers; nothing for a GGUF file, whose names are others."""
    folder = _folder(spec)
    if folder is None or folder.is_file():
        return {}
    weights = Checkpoint(folder).tensors.items()
    return {name.removesuffix(".weight"): one for name, one in weights if name.endswith(".weight") and len(one.shape) == 2}


def _fits(spec: ModelSpec) -> bool:
    """Whether the headers alone show that a plain LoRA adapter fits: each pair has its layer's shape, and each layer its pair."""
    assert spec.adapter is not None
    folder = adapter_folder(spec.adapter)
    config, targets = adapter_config(folder), adapter_config(folder).get("target_modules")
    plain = config.get("peft_type") == "LORA" and isinstance(targets, list) and not any(config.get(name) for name in PLAIN)
    if not plain or not isinstance(targets, list) or has_tokenizer(folder):
        return False
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in header(folder / ADAPTER_WEIGHTS).items():
        match = PAIR.fullmatch(name)
        if match is None or len(tensor.shape) != 2:
            return False
        pairs.setdefault(match["layer"], {})[match["side"]] = tensor.shape
    layers = _matrices(spec)
    named = {layer for layer in layers if any(_is_end(str(target), layer) for target in targets)}
    return named == pairs.keys() and all(
        pair.keys() == {"A", "B"}
        and pair["A"] == (config.get("r"), layers[layer].shape[1])
        and pair["B"] == (layers[layer].shape[0], config.get("r"))
        for layer, pair in pairs.items()
    )


def _without_values(spec: ModelSpec) -> object:
    """The model built from its files' names and shapes, with its adapter.

    Raises:
        BackendError: they do not fit.
    """
    from buckler.models.loading import open_model

    return open_model(spec.model_copy(update={"quantize": None, "device": "cpu", "dtype": "float32"}), reads_weights=False)[0]
