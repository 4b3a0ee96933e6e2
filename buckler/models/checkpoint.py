"""What a model folder holds, found without loading its weights, and why it may be no model that answers.

Read are `config.json`, the headers of the safetensors files and the small files of the tokenizer. A folder without a config, a
weight file that is missing or a shape that does not fit is found here, before a run begins.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from buckler.data import Json, read_json
from buckler.data.reading import bounded_json, opened, read_text
from buckler.errors import BackendError, DataError
from buckler.models.template_check import template_fault

NO_ANSWERS: dict[str, str] = {
    "ForSequenceClassification": "a classifier or reward model",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "an extractive question-answering model",
    "ForMultipleChoice": "a multiple-choice classifier",
    "ForMaskedLM": "an encoder (masked language model)",
    "ForNextSentencePrediction": "an encoder",
    "ForPreTraining": "an encoder in the form of its pre-training",
    "RewardModel": "a reward model",
    "ForImageClassification": "a vision model",
    "ForMaskedImageModeling": "a vision model",
    "ForObjectDetection": "a vision model",
    "ForSemanticSegmentation": "a vision model",
    "ForCTC": "a speech model",
    "ForSpeechSeq2Seq": "a speech model",
    "ForAudioClassification": "a speech model",
}
"""What an architecture is, by the end of its name; the names that end in one of these are no language models that answer."""
HEADS = ("LMHeadModel", "ForCausalLM")
QUANTIZERS: dict[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel", "awq"),
    "compressed-tensors": ("compressed_tensors",),
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "eetq": ("eetq",),
    "fbgemm_fp8": ("fbgemm_gpu",),
    "hqq": ("hqq",),
    "quanto": ("optimum",),
    "quark": ("quark",),
    "spqr": ("spqr_quant",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""Packages of which one must be installed to load weights that are stored quantized, by `quant_method`."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
RESTORE = "restore this file, or download the model again"
MOST_HEADER = 100_000_000
"""Bytes of a safetensors header, by the format's own limit."""
JSON_FILES = tuple(
    f"{name}.json"
    for name in "config generation_config tokenizer_config special_tokens_map added_tokens chat_template adapter_config".split()
)
"""Files of settings that transformers or PEFT read; some of them it passes over in silence where they are broken."""
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embeddings.weight", "embed_in.weight")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as a header names it."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Checkpoint:
    """A model folder."""

    folder: Path

    @cached_property
    def config(self) -> Mapping[str, Json]:
        """`config.json`; empty where there is none."""
        return read_settings(self.folder / "config.json")

    @cached_property
    def tokenizer_config(self) -> Mapping[str, Json]:
        """`tokenizer_config.json`; empty where there is none."""
        return read_settings(self.folder / "tokenizer_config.json")

    @property
    def architecture(self) -> str:
        """The class that the weights were saved from; "" where the config does not say."""
        names = self.config.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else ""

    def setting(self, *names: str) -> Json:
        """The first of these settings that the config has, also in its part on text."""
        inner = self.config.get("text_config")
        for part in (self.config, inner if isinstance(inner, Mapping) else {}):
            for name in names:
                if part.get(name) is not None:
                    return part[name]
        return None

    def number(self, *names: str) -> int:
        """As `setting`, a number; 0 where there is none."""
        value = self.setting(*names)
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0

    @cached_property
    def weight_files(self) -> list[Path]:
        """Its safetensors files, those of an adapter apart."""
        return sorted(path for path in self.folder.glob("*.safetensors") if not path.name.startswith("adapter_"))

    @property
    def weight_bytes(self) -> int:
        """The size of these files."""
        return sum(path.stat().st_size for path in self.weight_files)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the safetensors files, by name."""
        found: dict[str, Tensor] = {}
        for path in self.weight_files:
            found.update(header(path))
        return found

    @property
    def parameters(self) -> int:
        """The number of stored values; of quantized weights, of their packed form."""
        return sum(math.prod(one.shape) for one in self.tensors.values())

    @property
    def pickles(self) -> list[str]:
        """Files of weights in formats that can hold code, or that are not read here."""
        names = {path.name for pattern in PICKLES for path in self.folder.glob(pattern)}
        return sorted(names - {"training_args.bin", "optimizer.pt", "scheduler.pt"})

    @property
    def code(self) -> list[str]:
        """Python files that come with the weights."""
        return sorted(path.name for path in self.folder.glob("*.py"))

    @property
    def needs_code(self) -> bool:
        """Whether only the code that comes with the weights knows the architecture."""
        if "auto_map" not in self.config:
            return False
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        return self.config.get("model_type") not in CONFIG_MAPPING_NAMES

    @property
    def quantization(self) -> str:
        """How the weights are stored quantized; "" where they are not."""
        settings = self.config.get("quantization_config")
        return str(settings.get("quant_method", "unknown")) if isinstance(settings, Mapping) else ""

    @cached_property
    def template(self) -> str:
        """Its chat template; "" where there is none."""
        file = self.folder / "chat_template.jinja"
        if file.is_file():
            try:
                return read_text(file)
            except DataError as fault:
                raise BackendError(str(fault)) from None
        inside = self.tokenizer_config.get("chat_template")
        if isinstance(inside, list):
            named = [one for one in inside if isinstance(one, Mapping)]
            inside = next((one.get("template") for one in named if one.get("name") == "default"), None)
        return inside if isinstance(inside, str) else ""

    @cached_property
    def vocabulary(self) -> int:
        """One more than the largest id that the tokenizer gives for plain text; 0 where it has no `tokenizer.json`."""
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            return 0
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as fault:  # noqa: BLE001 - the library raises plain exceptions
            raise BackendError(f"{file}: not a tokenizer: {str(fault)[:200]}; {RESTORE}") from None
        added = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        return max(set(tokenizer.get_vocab(with_added_tokens=True).values()) - added, default=-1) + 1

    @property
    def embeddings(self) -> int:
        """Rows of the input embeddings: as stored, else as the config says; 0 where neither says."""
        stored = [one.shape[0] for name, one in self.tensors.items() if name.endswith(EMBEDDINGS) and len(one.shape) == 2]
        return max(stored, default=0) if not self.quantization and stored else self.number("vocab_size")

    def refusal(self, *, trusts_code: bool = False, has_template: bool = False) -> str | None:
        """Why it cannot be loaded as a model that answers, with what to do; None where nothing speaks against it.

        Args:
            trusts_code: Whether code that comes with the weights may run.
            has_template: Whether a chat template is given beside it.
        """
        self.require_readable()
        return self._kind() or self._weights(trusts_code) or self._text(has_template)

    def require_readable(self) -> None:
        """Refuse settings or a tokenizer that cannot be read, whether or not they would be missed.

        Raises:
            BackendError: there is such a file, which is named.
        """
        for name in JSON_FILES:
            read_settings(self.folder / name)
        self.require_ends()
        self.vocabulary  # noqa: B018 - reads the tokenizer

    def require_ends(self) -> None:
        """Refuse a `generation_config.json` that names no ends of an answer where it means to.

        Raises:
            BackendError: it cannot be read, or they are no token ids and no texts.
        """
        file = self.folder / "generation_config.json"
        named, texts = (read_settings(file).get(name) for name in ("eos_token_id", "stop_strings"))
        for one in named if isinstance(named, list) else [named]:
            if one is not None and (not isinstance(one, int) or isinstance(one, bool) or one < 0):
                raise BackendError(f"{file}: eos_token_id: expected a token id or a list of them, got {named!r}; {RESTORE}")
        for text in texts if isinstance(texts, list) else [texts]:
            if text is not None and not isinstance(text, str):
                raise BackendError(f"{file}: stop_strings: expected a text or a list of texts, got {texts!r}; {RESTORE}")

    def _kind(self) -> str | None:
        name = self.architecture
        if any((self.folder / file).is_file() for file in ("modules.json", "config_sentence_transformers.json")):
            return "it is an embedding model (sentence-transformers), which gives vectors and no answers; name a chat model"
        if self.setting("is_encoder_decoder") is True:
            return f"{name or 'it'} is an encoder-decoder (sequence-to-sequence) model; only causal language models are supported"
        for end, kind in NO_ANSWERS.items():
            if name.endswith(end):
                return f"{name} is {kind}, which cannot answer; name a causal language model"
        if name.endswith("Model") and not name.endswith(HEADS):
            return f"{name} has no language-model head (an encoder, or a model for embeddings), so it cannot answer"
        if name.endswith("ForConditionalGeneration") and not self._is_causal():
            kind = "reads images" if "vision_config" in self.config else "is no causal language model"
            return f"{name} {kind}; only causal language models of text are supported"
        return None

    def _is_causal(self) -> bool:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        return self.config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or "auto_map" in self.config

    def _weights(self, trusts_code: bool) -> str | None:
        if not trusts_code and self.needs_code:
            return (
                f"its architecture ({self.architecture or self.config.get('model_type')}) is known only to code that comes "
                "with it; if you trust that code, set `trust_remote_code: true`"
            )
        packages = QUANTIZERS.get(self.quantization, ())
        if packages and not any(find_spec(one) for one in packages):
            return (
                f"its weights are quantized with {self.quantization}, which needs the package {' or '.join(packages)}; "
                "install it, or use the model that was quantized"
            )
        index = read_settings(self.folder / "model.safetensors.index.json").get("weight_map")
        if isinstance(index, Mapping):
            missing = sorted({str(file) for file in index.values()} - {path.name for path in self.weight_files})
            if missing:
                return f"{missing[0]} is missing ({len(missing)} of its weight files are); download the model again"
        if not self.weight_files:
            if self.pickles:
                return (
                    f"its weights are in {self.pickles[0]}, a format that can run code or is not read here; "
                    "convert them to safetensors (`save_pretrained`)"
                )
            return "it holds no weights (*.safetensors)"
        return None

    def _text(self, has_template: bool) -> str | None:
        others = (self.folder / "chat_template.json", self.folder / "chat_templates")
        if not has_template and not self.template and not any(path.exists() for path in others):
            return (
                "the tokenizer has no chat template; use the instruct model, or give a template with `chat_template: FILE.jinja`"
            )
        broken = None if has_template else self.broken_template()
        return broken or too_large(self.vocabulary, self.embeddings)

    def broken_template(self) -> str | None:
        """Why its chat template is no Jinja template, with what to do; None where it is one, or there is none."""
        fault = template_fault(self.template)
        if fault is None:
            return None
        return f"its chat template is not a Jinja template: {fault}; give another one with `chat_template: FILE.jinja`"


def too_large(vocabulary: int, embeddings: int) -> str | None:
    """Why a tokenizer does not fit the embeddings; None where it does, or where either is unknown (0)."""
    if not embeddings or vocabulary <= embeddings:
        return None
    return (
        f"its tokenizer has ids up to {vocabulary - 1}, but the model has embeddings for {embeddings} tokens only; "
        "use the tokenizer that belongs to the weights, or resize the embeddings and train them"
    )


def header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        BackendError: it is none, or was cut off.
    """
    try:
        with opened(path, sys.maxsize) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MOST_HEADER):
                raise ValueError("its header is cut off")
            entries = bounded_json(file.read(length))
        named = {name: one for name, one in entries.items() if name != "__metadata__"}
        tensors = {name: Tensor(shape=tuple(one["shape"]), dtype=str(one["dtype"])) for name, one in named.items()}
        ends = [one["data_offsets"][1] for one in named.values()]
    except DataError as fault:
        raise BackendError(str(fault)) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise BackendError(f"{path}: not a safetensors file: {fault}; download it again") from None
    if 8 + length + max(ends, default=0) > size:
        raise BackendError(f"{path}: is cut off: {size} bytes, but its tensors need {8 + length + max(ends)}; download it again")
    return tensors


def read_settings(path: Path) -> Mapping[str, Json]:
    """The JSON object in a file of a model; empty where there is no such file.

    Raises:
        BackendError: it is none.
    """
    if not path.is_file():
        return {}
    try:
        value = read_json(path, constants=True)
    except DataError as fault:
        raise BackendError(f"{fault}; {RESTORE}") from None
    if not isinstance(value, Mapping):
        raise BackendError(f"{path}: expected a JSON object, got {type(value).__name__}; {RESTORE}")
    return value
