"""Building the model that a spec names."""

from __future__ import annotations

from pathlib import Path

from buckler.models.protocol import LM, ModelSpec
from buckler.progress import note_loading


def load(spec: ModelSpec, *, cache: Path | None = None) -> LM:
    """Build the model `spec` names; with `cache`, completions asked for before are read from that file.

    Raises:
        BackendError: it cannot be found, reached or loaded, or has no chat template.
    """
    model: LM
    note_loading(spec.name)
    if spec.endpoint is not None:
        from buckler.models.openai_client import ServedLM

        model = ServedLM(spec)
    else:
        from buckler.models.huggingface import HuggingFaceLM

        model = HuggingFaceLM(spec)
    if cache is not None:
        from buckler.models.cache import CachedLM

        model = CachedLM(model, cache)
    return model
