"""Buckler keeps a language model safe while people customise it.

    from buckler import curate, train, evaluate
    rows = curate("texts.jsonl", model="Qwen/Qwen2.5-0.5B-Instruct", preset="quick")
    model = train(rows, model="Qwen/Qwen2.5-0.5B-Instruct", method="lora")
    evaluate(model, probes=["xstest.csv"])

Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buckler.api import attack, build_defense, curate, evaluate, export, gate, generate, judge, load_model, run, train
    from buckler.data import Chat
    from buckler.registry import register

__version__ = "0.1.0"
__all__ = [
    "Chat",
    "attack",
    "build_defense",
    "curate",
    "evaluate",
    "export",
    "gate",
    "generate",
    "judge",
    "load_model",
    "register",
    "run",
    "train",
]
_ELSEWHERE = {"Chat": "buckler.data", "register": "buckler.registry"}
"""Names that are not in `buckler.api`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'buckler' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ELSEWHERE.get(name, "buckler.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
