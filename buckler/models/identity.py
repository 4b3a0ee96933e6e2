"""What a model is: the folder that its name stands for, and its identity by content, found without loading anything heavy."""

from __future__ import annotations

from pathlib import Path

from buckler.data import content_id, file_digest
from buckler.errors import BackendError, ConfigError
from buckler.models.protocol import BACKENDS, ModelSpec
from buckler.registry import imported, is_place, source_digest

EMBEDDED: dict[str, str] = {
    "miniature": "standard-aligned",
    "miniature-base": "standard-base",
    "miniature-small": "small-aligned",
    "miniature-small-base": "small-base",
}
"""Names of the shipped models and their folders; the plain names are aligned, `-base` is what they were before."""

EMBEDDED_FOLDER = Path(__file__).parents[1] / "miniature" / "models"
_PATTERNS = (
    "*.safetensors",
    "config.json",
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "merges*",
)
_ADAPTER, _ADAPTED = "adapter_model.safetensors", "adapter_config.json"


def location(name: str) -> Path | None:
    """The local folder a model name stands for; None for a hub id.

    Raises:
        BackendError: the name looks like a path, but nothing is there.
    """
    if name in EMBEDDED:
        return embedded_path(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise BackendError(f"{name}: no such model folder")
    if "/" not in name:
        known = ", ".join(EMBEDDED)
        raise BackendError(f"unknown model {name!r}: neither a folder, nor a hub id (owner/name), nor one of {known}")
    return None


def embedded_path(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        ConfigError: no shipped model has this name.
    """
    if name not in EMBEDDED:
        raise ConfigError(f"unknown miniature {name!r}; the shipped ones are {', '.join(EMBEDDED)}")
    return EMBEDDED_FOLDER / EMBEDDED[name]


def identity(spec: ModelSpec) -> str:
    """The hash of everything that decides what the model says.

    Local folders are hashed by the content of their files, hub models by their commit. What a server serves cannot be seen:
    its name, revision and endpoint stand for it, so a server that changes its weights must change its name or its address.

    Raises:
        BackendError: there is no such model.
    """
    if spec.endpoint is not None:
        return content_id(["served", spec.name, spec.revision, spec.endpoint])
    if spec.is_own:
        return _own(spec)
    parts = [_part(spec.name, spec.revision, "config.json"), _part(spec.adapter, None, _ADAPTED) if spec.adapter else None]
    template = _digest(Path(spec.chat_template)) if spec.chat_template else None
    return content_id([*parts, template, spec.dtype])


def _own(spec: ModelSpec) -> str:
    """What a backend of the user's own is: its source, and all that it is told."""
    code = [BACKENDS.code(spec.backend_name)]
    if is_place(spec.name):
        what = f"model {spec.name!r}"
        code.append({"code": source_digest(what, imported(what, spec.name), spec.name)})
    fields = spec.model_dump(mode="json", include={"name", "adapter", "revision", "dtype", "chat_template"})
    template = _digest(Path(spec.chat_template)) if spec.chat_template else None
    return content_id(["backend", spec.backend_name, code, {**fields, "chat_template": template}])


def _part(name: str, revision: str | None, marker: str) -> str:
    folder = location(name)
    if folder is None:
        return f"{name}@{_commit(name, revision)}"
    if not (folder / marker).exists():
        kind = "adapter" if marker == _ADAPTED else "model folder"
        hint = "; it is an adapter: name the model it goes on, and this as its adapter" if (folder / _ADAPTED).exists() else ""
        raise BackendError(f"{folder}: holds no {marker}, so it is no {kind}{hint}")
    patterns = (_ADAPTER, _ADAPTED, *_PATTERNS)
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return content_id([[path.name, _digest(path)] for path in files])


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as fault:
        raise BackendError(f"{path}: cannot be read: {fault.strerror}") from None


def _commit(name: str, revision: str | None) -> str:
    """The commit of a hub model: from the local cache if it lies there, else from the hub."""
    from huggingface_hub import HfApi, constants

    reference = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")
    if reference.exists():
        return reference.read_text().strip()
    try:
        return str(HfApi().model_info(name, revision=revision).sha)
    except Exception as fault:  # noqa: BLE001 - the hub client raises many kinds; all mean the same here
        reason = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise BackendError(f"{name}: neither a local folder nor reachable on the hub ({reason[:160]})") from None
