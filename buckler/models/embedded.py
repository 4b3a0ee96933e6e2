"""The models that ship inside the package: their names, and the folders they lie in."""

from __future__ import annotations

from pathlib import Path

from buckler.errors import ConfigError

MODELS: dict[str, str] = {
    "miniature": "standard-aligned",
    "miniature-base": "standard-base",
    "miniature-small": "small-aligned",
    "miniature-small-base": "small-base",
}
"""Names of the shipped models and their folders; the plain names are aligned, `-base` is what they were before."""

FOLDER = Path(__file__).parents[1] / "miniature" / "models"


def path(name: str) -> Path:
    """The folder of a shipped model.

    Raises:
        ConfigError: no shipped model has this name.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown miniature {name!r}; the shipped ones are {', '.join(MODELS)}")
    return FOLDER / MODELS[name]
