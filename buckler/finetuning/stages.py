"""The stages of a customization at which a defence acts: lists of training phases, each a list of row sets.

Source: arXiv 2410.02220. `D~` is the defence's rows, `C` the customer's (with whatever an adversary slipped in).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Part: TypeAlias = Literal["defence", "customer"]
Stage: TypeAlias = Literal["none", "pre", "in", "post", "all"]

STAGES: dict[Stage, tuple[tuple[Part, ...], ...]] = {
    "none": (("customer",),),
    "pre": (("defence",), ("customer",)),
    "in": (("customer", "defence"),),
    "post": (("customer",), ("defence",)),
    "all": (("defence",), ("customer", "defence"), ("defence",)),
}
