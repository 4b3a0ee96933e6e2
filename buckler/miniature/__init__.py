"""The embedded default: a small language model of a made-up world that shows the real phenomena, on a laptop, in minutes.

The weights lie in `models/`, their measurements in `CARD.md`; how both were made stands in `tools/miniature/` of the source tree.
"""

from __future__ import annotations

from buckler.models.places import EMBEDDED as MODELS
from buckler.models.places import embedded_path as path

__all__ = ["MODELS", "path"]
