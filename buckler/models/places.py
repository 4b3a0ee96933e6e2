"""Where a model lies: the folder or file that its name stands for, and the base that an adapter names.

Everything here is found without loading weights, so that a mistake is reported before a run begins.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from buckler.data import Json
from buckler.data.hub import hub_or_cache
from buckler.data.reading import kind_at
from buckler.errors import BackendError, ConfigError
from buckler.models.checkpoint import Checkpoint, read_settings
from buckler.models.dtype import SMALL, Dtype, resolved, supposes
from buckler.models.protocol import ModelSpec
from buckler.progress import LOG

EMBEDDED: dict[str, str] = {
    "miniature": "standard-aligned",
    "miniature-base": "standard-base",
    "miniature-small": "small-aligned",
    "miniature-small-base": "small-base",
}
"""Names of the shipped models and their folders; the plain names are aligned, `-base` is what they were before."""

EMBEDDED_FOLDER = Path(__file__).parents[1] / "miniature" / "models"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
ANY_TOKENIZER = ("token*", "vocab*", "merges*", "*.model", "*.tiktoken", "tekken.json", "byte_maps.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
OF_ADAPTER = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "adapter_model.bin", "chat_template*", "special_tokens*", *ANY_TOKENIZER)
"""Files of a hub repository that belong to an adapter."""


def location(name: str) -> Path | None:
    """The local folder a model name stands for, or its GGUF file; None for a hub id.

    Raises:
        BackendError: the name looks like a path, but nothing is there, or a folder holds several GGUF files.
    """
    if name in EMBEDDED:
        return embedded_path(name)
    path = Path(name).expanduser()
    if (kind := kind_at(path)) == "folder":
        return _gguf_in(path) or path
    if path.suffix == ".gguf":
        if kind == "file":
            return path
        raise BackendError(f"{name}: no such GGUF file; a file of the hub must be downloaded first")
    if kind:
        raise BackendError(f"{name}: is a {kind.replace('other', 'pipe or device')}; a model is a folder or a GGUF file (*.gguf)")
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise BackendError(f"{name}: no such model folder")
    if "/" not in name:
        known = ", ".join(EMBEDDED)
        raise BackendError(f"unknown model {name!r}: not a folder, a hub id (owner/name), or one of {known}")
    return None


def hub_of(spec: ModelSpec) -> AbstractContextManager[str]:
    """`hub_or_cache` where the files of a model come from the hub."""
    return hub_or_cache() if location(spec.name) is None else nullcontext("")


def files_of(spec: ModelSpec) -> Path | None:
    """Where the files of a model without its adapters lie: its folder or file, or what of a hub model is downloaded."""
    place = location(spec.name)
    if place is not None:
        return place
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(spec.name, "config.json", revision=spec.revision)
    return Path(config).parent if isinstance(config, str) else None


def embedded_path(name: str) -> Path:
    """The folder of a shipped model; ConfigError where there is none of this name."""
    if name not in EMBEDDED:
        raise ConfigError(f"unknown miniature {name!r}; the embedded models are {', '.join(EMBEDDED)}")
    return EMBEDDED_FOLDER / EMBEDDED[name]


def _gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no other weights."""
    files = sorted(folder.glob("*.gguf"))
    if not files or is_adapter(folder) or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        raise BackendError(f"{folder}: holds {len(files)} GGUF files; name one of them, such as {files[0]}")
    return files[0]


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model: some programs write the base's `config.json` beside an adapter."""
    return (folder / ADAPTER_CONFIG).is_file() and not holds_model(folder)


def holds_model(folder: Path) -> bool:
    """Whether a folder holds a config and weights of its own, whatever adapter lies beside them."""
    own = Checkpoint(folder)
    return (folder / "config.json").exists() and bool(own.weight_files or {*own.pickles} - {"adapter_model.bin"})


def ignored_adapter(spec: ModelSpec) -> str | None:
    """What is to be said of a model folder that also holds an adapter, which is not put on its weights; None for others."""
    place = None if spec.endpoint is not None or spec.is_own else location(spec.name)
    if place is None or (spec.adapter is not None and location(spec.adapter) == place):
        return None
    folder = place.parent if place.is_file() else place
    if not (folder / ADAPTER_CONFIG).is_file() or is_adapter(place):
        return None
    return (
        f"{place} is used as it is, without the adapter that lies beside it ({ADAPTER_CONFIG}): its weights may have been merged "
        f"with that one already; if they have not, add --adapter {folder}"
    )


def with_base(spec: ModelSpec) -> ModelSpec:
    """The spec of an adapter that stands alone as the base that it names, with the adapter on it; other specs as they are.

    An adapter is a folder, or a repository of the hub, whose `revision` is then the adapter's. Where its base is a folder with
    an adapter too, that one is merged into its own base first.

    Raises:
        BackendError: the adapter names no base, or one that is not there.
        ConfigError: another adapter is to be loaded on it.
    """
    if spec.endpoint is not None or spec.is_own:
        return spec
    place = location(spec.name)
    folder = _config_of_hub_adapter(spec.name, spec.revision) if place is None else place if is_adapter(place) else None
    if folder is None:
        return spec
    if spec.adapter is not None:
        raise ConfigError(f"{spec.name}: is itself an adapter, and `adapter` names another one; name only one of them")
    name, revision = base_of(folder)
    below: list[str] = list(spec.merge)
    while (at := location(name)) is not None and is_adapter(at):
        if str(at) in below or at.resolve() == folder.resolve():
            raise BackendError(f"{at}: this adapter's base leads back to itself (base_model_name_or_path)")
        below.insert(0, str(at))
        name, revision = base_of(at)
    spec = spec.model_copy(update={"merge": tuple(below)})
    if place is not None:
        return spec.model_copy(update={"name": name, "adapter": str(folder), "revision": spec.revision or revision})
    adapter = spec.name if spec.revision is None else str(adapter_folder(spec.name, spec.revision))
    return spec.model_copy(update={"name": name, "adapter": adapter, "revision": revision})


def _config_of_hub_adapter(name: str, revision: str | None) -> Path | None:
    """The folder where the settings of a hub repository lie that is an adapter; None for a model, and where it cannot be had.

    What is cached is not asked for again; that a file is not there is cached too.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(name, ADAPTER_CONFIG, revision=revision)
    if found is None and not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        try:
            with hub_or_cache():
                found = hf_hub_download(name, ADAPTER_CONFIG, revision=revision)
        except Exception:  # noqa: BLE001 - there is none, or no hub: what needs the model then says so
            return None
    if not isinstance(found, str) or not is_adapter(Path(found).parent):
        return None
    try:
        with hub_or_cache():
            files = _hub_files(name, revision)
    except Exception:  # noqa: BLE001 - no hub: what is cached decides
        return Path(found).parent
    weights = [one for one in files if one.endswith((".safetensors", ".bin")) and "/" not in one]
    is_model = "config.json" in files and any(not one.startswith("adapter_") for one in weights)
    return None if is_model else Path(found).parent


@functools.cache
def _hub_files(name: str, revision: str | None) -> tuple[str, ...]:
    """Files of a hub repository, asked for once; a failure is not kept."""
    from huggingface_hub import HfApi

    return tuple(HfApi().list_repo_files(name, revision=revision))


def adapter_folder(name: str, revision: str | None = None) -> Path:
    """The adapter's folder; one of the hub is downloaded as a whole, because its tokenizer and template belong to it."""
    folder = location(name)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        with hub_or_cache() as why:
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(OF_ADAPTER)))
    except Exception as fault:  # noqa: BLE001 - the hub client raises many kinds; all mean the same here
        reason = why or first_line(fault)
        raise BackendError(f"adapter {name}: not a local folder, and not available from the hub ({reason})") from None


def adapters_of(spec: ModelSpec) -> list[Path]:
    """The folders of all adapters of a spec, in the order in which they go on its base."""
    return [adapter_folder(name) for name in (*spec.merge, *filter(None, (spec.adapter,)))]


def with_merged(spec: ModelSpec, adapter: Path) -> ModelSpec:
    """What a training on `spec` made: its base in float32, with all its adapters and the new one merged into it.

    A chat template that was given for the training, and its settings, lie beside the new adapter.
    """
    based = with_base(spec)
    merge = (*based.merge, *filter(None, (based.adapter,)), str(adapter))
    return ModelSpec(name=based.name, revision=based.revision, trust_remote_code=based.trust_remote_code, merge=merge)


def first_line(fault: Exception) -> str:
    """What an error of a library says first."""
    lines = str(fault).strip().splitlines()
    return lines[0][:300] if lines else type(fault).__name__


def base_of(folder: Path) -> tuple[str, str | None]:
    """The model that an adapter was trained on, as a name that can be loaded, and its revision.

    A path is looked for as it is, and from the adapter's folder. A training on top of an adapter leaves its merged base beside
    the new one, with a record of that: the base is found there when the folder has moved as a whole. Another folder that has the
    same name is not taken.

    Raises:
        BackendError: it names none, or one that is not there.
    """
    config = adapter_config(folder)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    how = "name the base with --model and this folder with --adapter"
    if not isinstance(name, str) or not name.strip():
        raise BackendError(f"{folder}: {ADAPTER_CONFIG} names no base model (base_model_name_or_path); {how}")
    found = str(revision) if revision else None
    if name in EMBEDDED:
        return name, found
    for path in (Path(name).expanduser(), folder / name, *_moved_with(folder, name)):
        if path.exists() and path.resolve() != folder.resolve():
            return str(path), found
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "~", "/")) and not name.endswith(".gguf")
    if not is_hub_id:
        raise BackendError(f"{folder}: its base model {name}, named in {ADAPTER_CONFIG}, is not here; {how}")
    return name, found


def _moved_with(folder: Path, name: str) -> list[Path]:
    """The base beside an adapter, where the record of the training that made both says that it lies there."""
    record = folder.parent / "training.json"
    base = read_settings(record).get("base") if record.is_file() else None
    beside = base.get("adapter_is_on") if isinstance(base, Mapping) else None
    return [folder.parent / beside] if isinstance(beside, str) and beside == Path(name).name else []


def adapter_config(folder: Path) -> Mapping[str, Json]:
    """The settings of an adapter; BackendError where there are none, or they cannot be read."""
    if not (folder / ADAPTER_CONFIG).exists():
        raise BackendError(f"{folder}: contains no {ADAPTER_CONFIG}, which every adapter needs")
    return read_settings(folder / ADAPTER_CONFIG)


def dtype_of(spec: ModelSpec) -> Dtype:
    """The type in which the model computes here: what `auto` stands for on this machine (BackendError: no such model)."""
    if spec.dtype != "auto" or not spec.is_local:
        return spec.dtype
    return resolved(spec.device, _weight_bytes(spec))


def note_type(spec: ModelSpec) -> Dtype:
    """As `dtype_of`; where `auto` is not float32 here, it is said."""
    dtype = dtype_of(spec)
    if spec.dtype == "auto" and dtype == "bfloat16" and not supposes():
        LOG.info("%s: computing in bfloat16, which this machine is made for (`dtype: float32` for full precision)", spec.name)
    return dtype


def is_small(spec: ModelSpec) -> bool:
    """Whether a model that is here is small: it computes in float32 on every machine."""
    size = _weight_bytes(spec)
    return size is not None and size < SMALL


def _weight_bytes(spec: ModelSpec) -> int | None:
    place = location(with_base(spec).name)
    return None if place is None else place.stat().st_size if place.is_file() else Checkpoint(place).weight_bytes


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder brings a tokenizer of its own."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES[::2])
