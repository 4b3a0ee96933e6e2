"""`buckler doctor MODEL`: what a model folder, an adapter or a GGUF file holds, found without loading its weights.

The memory of each command is a stated formula on the number of weights; activations, which grow with the rows of a step and their
length, come on top of it: `buckler train --dry-run` reports them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from buckler.data import Json
from buckler.errors import BackendError, BucklerError
from buckler.models.checkpoint import EMBEDDINGS, Checkpoint, read_settings
from buckler.models.fit import require_template
from buckler.models.places import (
    adapter_config,
    adapter_folder,
    dtype_of,
    has_tokenizer,
    ignored_adapter,
    is_adapter,
    location,
    with_base,
)
from buckler.models.protocol import ModelSpec
from buckler.models.refusals import require_answers
from buckler.models.template_check import read_template

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RANK = 8
"""Of the adapters whose memory is reported: the default."""
FORMULAS = {
    "answering": "weights x bytes of the arithmetic, and the cache of batch_tokens tokens (16384 where none are named)",
    "lora": "weights x bytes of the arithmetic, and 16 bytes a weight of the adapters (rank 8 on all linear layers)",
    "full": "16 bytes a weight: itself, its gradient and Adam's two moments in float32",
}
USER, REPLY = "What is the soup made of?", "Carrots."


@dataclass(slots=True)
class Facts:
    """What was found, by name, and what speaks against the model."""

    values: dict[str, Json] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def find(self, look: Callable[[], dict[str, Json]]) -> None:
        """Add what is found; where that is an error, it speaks against the model."""
        try:
            self.values |= look()
        except BucklerError as fault:
            if str(fault) not in "\n".join(self.faults):
                self.faults.append(str(fault))

    def lines(self) -> list[str]:
        """One line a fact, then the result."""
        shown = [
            (name.replace("_", " "), _shown(value)) for name, value in self.values.items() if value not in (None, "", [], {})
        ]
        shown += [("fault", fault) for fault in self.faults]
        good = "it can answer and be trained (the values of its weights are not read)"
        shown.append(("result", "it cannot be used as it is" if self.faults else good))
        return [f"{name:24} {text}" for name, text in shown]

    def to_json(self) -> dict[str, Json]:
        """The same for programs."""
        faults: list[Json] = list(self.faults)
        return {**self.values, "faults": faults}


def describe(name: str, adapter: str | None = None, **of_template: Json) -> Facts:
    """Everything that a model's files say; with `chat_template` and `chat_template_kwargs`, as it is asked under these.

    Raises:
        BackendError: there is no such model here.
    """
    spec = ModelSpec.model_validate({"name": name, "adapter": adapter, **of_template})
    facts = Facts()
    try:
        spec = with_base(spec)
    except BucklerError as fault:
        facts.faults.append(str(fault))
    place = location(spec.name) or _downloaded(spec.name)
    brings = None if spec.adapter is None else adapter_folder(spec.adapter)
    facts.values["place"] = str(place)
    if not facts.faults:
        facts.find(lambda: _loads(spec, place))
    if spec.adapter is not None or is_adapter(place):
        facts.find(lambda: _of_adapter(brings if spec.adapter else place))
    facts.find(lambda: _of_gguf(place) if place.is_file() else _of_folder(Checkpoint(place)))
    facts.find(lambda: _of_text(place, brings, spec))
    dtype = str(dtype_of(spec)) if not facts.faults else "float32"
    facts.values["computes_in"] = f"{dtype} (dtype: auto, on this machine)"
    facts.values["memory"] = _memory(facts.values, dtype, spec.batch_tokens or 16384)
    return facts


def _loads(spec: ModelSpec, place: Path) -> dict[str, Json]:
    """Nothing where it can be loaded, but what is said of it then.

    The files are opened as they are for answering; of weights in safetensors files, only the headers are read.

    Raises:
        BackendError: it cannot be loaded.
    """
    if location(spec.name) is None:
        spec = spec.model_copy(update={"name": str(place), "revision": None})
    require_answers(spec)
    require_template(spec)
    notes: list[Json] = []
    if place.is_dir() or spec.adapter is not None:
        from buckler.models.huggingface import template_of
        from buckler.models.loading import open_model

        notes += template_of(*open_model(spec, reads_weights=False), spec).written.check.notes
    return {"note": ignored_adapter(spec), "of_the_template": notes}


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # noqa: BLE001 - the hub client raises many kinds; all mean that it is not here
        raise BackendError(f"{name}: not downloaded yet; doctor looks at files that are here") from None


def _of_folder(checkpoint: Checkpoint) -> dict[str, Json]:
    tensors = checkpoint.tensors
    types = Counter({one.dtype: 0 for one in tensors.values()})
    for one in tensors.values():
        types[one.dtype] += math.prod(one.shape)
    heads = checkpoint.number("num_attention_heads", "n_head")
    hidden = checkpoint.number("hidden_size", "n_embd", "d_model")
    linear = [one.shape for name, one in tensors.items() if _is_linear(name, one.shape)]
    code: list[Json] = list(checkpoint.code)
    pickles: list[Json] = list(checkpoint.pickles)
    return {
        "architecture": checkpoint.architecture or str(checkpoint.config.get("model_type", "unknown")),
        "parameters": checkpoint.parameters,
        "bytes": checkpoint.weight_bytes,
        "stored_as": ", ".join(name for name, _ in types.most_common()),
        "quantized": checkpoint.quantization,
        "context": checkpoint.number("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length") or None,
        "vocabulary": checkpoint.vocabulary or None,
        "embeddings": checkpoint.embeddings or None,
        "layers": checkpoint.number("num_hidden_layers", "n_layer") or None,
        "cache_values_per_token": 2
        * checkpoint.number("num_hidden_layers", "n_layer")
        * (checkpoint.number("num_key_value_heads") or heads)
        * (checkpoint.number("head_dim") or hidden // max(heads, 1)),
        "lora_parameters": RANK * sum(sum(shape) for shape in linear),
        "code": code,
        "needs_code": checkpoint.needs_code,
        "pickles": pickles,
    }


def _is_linear(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and not name.endswith((*EMBEDDINGS, "lm_head.weight", "wpe.weight"))


def _of_gguf(file: Path) -> dict[str, Json]:
    found: dict[str, Json] = {"bytes": file.stat().st_size}
    if find_spec("gguf") is None:
        return found
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except Exception as fault:  # noqa: BLE001 - the reader raises many kinds
        raise BackendError(f"{file}: not a GGUF file: {str(fault)[:200]}") from None
    kind = reader.get_field("general.architecture")
    architecture = "" if kind is None else str(kind.contents())
    types = Counter(str(one.tensor_type.name) for one in reader.tensors)
    context = reader.get_field(f"{architecture}.context_length")
    return {
        **found,
        "architecture": f"{architecture} (GGUF)",
        "parameters": sum(int(one.n_elements) for one in reader.tensors),
        "stored_as": ", ".join(name for name, _ in types.most_common()),
        "context": None if context is None else int(context.contents()),
    }


def _of_adapter(folder: Path | None) -> dict[str, Json]:
    if folder is None:
        return {}
    config = adapter_config(folder)
    kinds = [name for name, key in (("rank-stabilised", "use_rslora"), ("DoRA", "use_dora")) if config.get(key)]
    targets = config.get("target_modules")
    return {
        "adapter": str(folder),
        "adapter_kind": " ".join([str(config.get("peft_type")), *kinds]),
        "adapter_rank": config.get("r"),
        "adapter_alpha": config.get("lora_alpha"),
        "adapter_targets": sorted(map(str, targets)) if isinstance(targets, list) else targets,
        "modules_to_save": config.get("modules_to_save"),
        "base": config.get("base_model_name_or_path"),
        "own_tokenizer": has_tokenizer(folder),
    }


def _of_text(place: Path, adapter: Path | None, spec: ModelSpec) -> dict[str, Json]:
    """The tokenizer and its chat template: what they end an answer with, and what the template can say."""
    from transformers import AutoTokenizer

    source = adapter if adapter is not None and has_tokenizer(adapter) else place
    try:
        if source.is_file():
            tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as fault:  # noqa: BLE001 - transformers raises many kinds
        return {"tokenizer": f"cannot be loaded: {str(fault).strip().splitlines()[0][:160]}" if str(fault).strip() else "none"}
    if adapter is not None and (adapter / "chat_template.jinja").is_file():
        tokenizer.chat_template = Checkpoint(adapter).template
    if spec.chat_template:
        tokenizer.chat_template = read_template(spec.chat_template)
    ends: dict[str, Json] = {"tokenizer": tokenizer.eos_token}
    generation = source / "generation_config.json" if source.is_dir() else source
    if generation.is_file() and generation.suffix == ".json":
        ids = read_settings(generation).get("eos_token_id")
        listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
        ends["generation_config"] = [str(tokenizer.convert_ids_to_tokens(one)) for one in listed if isinstance(one, int)]
    template = str(tokenizer.chat_template or "")
    if not template:
        return {"template": "none", "end_tokens": ends}
    turns = [{"role": "user", "content": USER}, {"role": "assistant", "content": REPLY}]
    how = spec.chat_template_kwargs
    whole, prompt = _rendered(tokenizer, turns, **how), _rendered(tokenizer, turns[:1], **how, add_generation_prompt=True)
    ids = tokenizer(whole.rpartition(REPLY)[2], add_special_tokens=False)["input_ids"] if REPLY in whole else []
    special = {*tokenizer.all_special_ids, *(at for at, token in tokenizer.added_tokens_decoder.items() if token.special)}
    ends["template"] = [str(tokenizer.convert_ids_to_tokens(one)) for one in ids if one in special]
    return {
        "template": f"{len(template)} characters",
        "system_role": _system_role(tokenizer, turns),
        "thinking": _thinking(template, prompt),
        "tools": "tools" in template,
        "end_tokens": ends,
    }


def _rendered(tokenizer: object, turns: list[dict[str, str]], **how: object) -> str:
    try:
        return str(getattr(tokenizer, "apply_chat_template")(turns, tokenize=False, **how))  # noqa: B009
    except Exception:  # noqa: BLE001 - templates raise whatever they like
        return ""


def _system_role(tokenizer: object, turns: list[dict[str, str]]) -> str:
    whole = _rendered(tokenizer, [{"role": "system", "content": "Only soup."}, *turns])
    if not whole:
        return "refused by the template (Buckler puts it before the first question)"
    return "yes" if "Only soup." in whole else "dropped by the template"


def _thinking(template: str, prompt: str) -> str:
    opens = prompt.rstrip().endswith(("<think>", "<|think|>", "<thinking>"))
    parts = [
        "the template opens a thought" if opens else "",
        "a switch `enable_thinking`" if "enable_thinking" in template else "",
        "reads `reasoning_content`" if "reasoning_content" in template else "",
        "writes <think>" if "<think>" in template and not opens else "",
    ]
    return ", ".join(one for one in parts if one) or "no"


def _memory(values: Mapping[str, Json], dtype: str, batch_tokens: int) -> dict[str, Json]:
    """Bytes for each command, with the formula; without weights whose number is known, nothing."""
    weights, adapters, cache = (_number(values.get(name)) for name in ("parameters", "lora_parameters", "cache_values_per_token"))
    if not weights:
        return {}
    needs = {
        "answering": weights * BYTES[dtype] + cache * BYTES[dtype] * batch_tokens,
        "lora": BYTES[dtype] * weights + 16 * adapters,
        "full": 16 * weights,
    }
    return {name: {"bytes": need, "formula": FORMULAS[name]} for name, need in needs.items()}


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _shown(value: Json) -> str:
    if isinstance(value, Mapping):
        if all(isinstance(one, Mapping) for one in value.values()):
            parts = [f"{name} {_size(one.get('bytes'))}" for name, one in value.items() if isinstance(one, Mapping)]
            return "; ".join(parts) + " (without activations)"
        return "; ".join(f"{name}: {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _size(value: Json) -> str:
    number = _number(value)
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
