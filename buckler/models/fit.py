"""Whether a model is ready to be loaded, known before any row is read: its files, its adapter, its template, the layers it has.

An adapter whose pairs of matrices have the shapes of the layers that it names fits. Where the headers do not tell that much
(other kinds of adapters, added tokens, renamed weights), the model is built without values and the adapter put on it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from buckler.data.reading import bounded_json
from buckler.errors import BackendError, ConfigError
from buckler.models.checkpoint import Checkpoint, Tensor, header, read_settings
from buckler.models.places import (
    ADAPTER_WEIGHTS,
    EMBEDDED,
    adapter_config,
    adapter_folder,
    adapters_of,
    files_of,
    has_tokenizer,
    with_base,
)
from buckler.models.protocol import ModelSpec
from buckler.models.refusals import require_answers
from buckler.models.template_check import read_template
from buckler.models.template_text import TemplateText

PAIR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
NOT_LINEAR = re.compile(r"embed|\b(?:wte|wpe|lm_head|output)$")
"""Names of two-dimensional weights that `all-linear` passes over: embeddings and the output."""
FLOAT32 = 4
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
    require_template(spec)
    if spec.adapter is None or _fits(spec) or not _is_here(spec):
        return
    _without_values(spec)


def require_template(spec: ModelSpec, *, trains: bool = False) -> None:
    """Refuse a chat template that does not write what it is given, or does not read a setting that is given for it.

    The tokenizer is not loaded for this: of its special tokens, those that its settings name are known.

    Raises:
        BackendError: with the template's file, the reason and what to do; `trains`: also where answers cannot be learnt with it.
    """
    if not spec.is_local:
        return
    spec = with_base(spec)
    if spec.name in EMBEDDED and not (spec.adapter or spec.merge or spec.chat_template or spec.chat_template_kwargs):
        return
    base = files_of(spec)
    source = None if base is None or base.is_file() else Checkpoint(base)
    for adapter in adapters_of(spec):
        if Checkpoint(adapter).template or has_tokenizer(adapter):
            source = Checkpoint(adapter)
    text = read_template(spec.chat_template) if spec.chat_template else "" if source is None else source.template
    if not text:
        return  # in a file of another form, or not here yet: it is read when the model is opened
    inside = Path("chat_template.jinja") if source is None else source.folder / "chat_template.jinja"
    file = spec.chat_template or (inside if inside.is_file() else inside.with_name("tokenizer_config.json"))
    tokens = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "")
    maps = () if source is None else (read_settings(inside.with_name("special_tokens_map.json")), source.tokenizer_config)
    for settings in maps:
        named = {name: one.get("content") if isinstance(one, Mapping) else one for name, one in settings.items()}
        tokens |= {name: one for name, one in named.items() if name.endswith("_token") and isinstance(one, str)}
    fault, untrained = _template_faults(text, json.dumps(tokens), json.dumps(spec.chat_template_kwargs))
    if reason := fault or (untrained if trains else ""):
        raise BackendError(f"{spec.name}: {file}: {reason}")


class _TemplateAlone:
    """A chat template and special tokens, in place of their tokenizer."""

    added_tokens_decoder: Mapping[int, object] = {}

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        self.chat_template, self.tokens = text, tokens
        self.all_special_tokens = [token for token in tokens.values() if token]

    def get_chat_template(self) -> str:
        return self.chat_template

    def apply_chat_template(
        self, turns: Sequence[Mapping[str, object]], *, chat_template: str, add_generation_prompt: bool, **settings: object
    ) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        settings.pop("tokenize")
        given = {**self.tokens, **settings}
        written, _ = render_jinja_template(
            [list(turns)], chat_template=chat_template, add_generation_prompt=add_generation_prompt, **given
        )
        return str(written[0])


@functools.lru_cache(maxsize=64)
def _template_faults(text: str, tokens: str, settings: str) -> tuple[str, str]:
    """Why a chat template cannot be used with these special tokens and settings, both as JSON, and why not for training."""
    try:
        check = TemplateText(_TemplateAlone(text, bounded_json(tokens)), "", bounded_json(settings)).check
    except BackendError as fault:
        return str(fault).removeprefix(": "), ""
    return "", check.untrained


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


def trained_bytes(spec: ModelSpec, rank: int | None, targets: Sequence[str]) -> int | None:
    """What a training leaves in float32, by the shapes of the headers: an adapter of this rank on the targets (none: all linear
    layers), or without a rank the whole model. None where the files are not here, or are not safetensors."""
    spec = with_base(spec)
    folder = files_of(spec)
    if folder is None or folder.is_file() or not Checkpoint(folder).weight_files:
        return None
    if rank is None:
        return FLOAT32 * Checkpoint(folder).parameters
    layers = _matrices(spec).items()
    adapted = [one for layer, one in layers if any(_is_end(end, layer) for end in targets) or not (targets or _is_apart(layer))]
    return FLOAT32 * rank * sum(sum(one.shape) for one in adapted)


def absent(targets: Sequence[str], layers: Collection[str]) -> list[str]:
    """The targets that are the end of no layer's name."""
    return [target for target in targets if not any(_is_end(target, layer) for layer in layers)]


def _is_end(target: str, layer: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _is_apart(layer: str) -> bool:
    return NOT_LINEAR.search(layer) is not None


def _is_here(spec: ModelSpec) -> bool:
    folder = files_of(spec)
    return folder is not None and (folder.is_file() or bool(Checkpoint(folder).weight_files))


def _matrices(spec: ModelSpec) -> Mapping[str, Tensor]:
    """The base's two-dimensional weights by the names of their layers; nothing for a GGUF file, whose names are others."""
    folder = files_of(spec)
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
