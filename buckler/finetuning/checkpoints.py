"""A phase half done: what is trained, the optimizer's state and the random state, from which a killed run goes on.

`checkpoint-N/` holds what is after step N. `state.json` is written last, so that one without it is none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from buckler.data import read_json, write_json
from buckler.errors import DataError, StoreError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_FREE = 1 << 20
"""Bytes; a write that failed with less than this left failed for want of space."""
STATE = "state.json"
KEPT = 1
"""Whole checkpoints that lie there while the next one is written."""


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float], rank: int) -> None:
    """Write this process's part: the random state; and, of the first, all the rest but `state.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [torch.get_rng_state()]
    torch.save(random, folder / _random(rank))
    if rank == 0:
        torch.save(trained(model), folder / "weights.pt")
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        torch.save(losses, folder / "losses.pt")


def complete(folder: Path, step: int) -> None:
    """All parts are written: the checkpoint counts from now on, and earlier ones go."""
    write_json(folder / STATE, {"step": step})
    for older in folder.parent.glob("checkpoint-*"):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rank: int) -> tuple[int, list[float]]:
    """Go back to a checkpoint: its step, and the losses until then."""
    weights = _read(folder / "weights.pt")
    with torch.no_grad():
        for name, weight in trained(model).items():
            weight.copy_(weights[name])
    optimizer.load_state_dict(_read(folder / "optimizer.pt"))
    random = _read(folder / _random(rank))
    torch.set_rng_state(random[0])
    if random[1:] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(random[1:])
    losses: list[float] = _read(folder / "losses.pt")
    return len(losses), losses


def newest(folder: Path, processes: int) -> Path | None:
    """The newest checkpoint that was written whole, by as many processes."""
    whole = [
        path.parent
        for path in folder.glob(f"checkpoint-*/{STATE}")
        if _is_json(path) and len(list(path.parent.glob(_random("*")))) >= processes
    ]
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1])) if whole else None


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@contextmanager
def explain_full_disk(out: Path) -> Iterator[None]:
    """Turn a full disk into a `StoreError`: torch and safetensors raise errors of their own for it."""
    try:
        yield
    except Exception as fault:  # whatever it is, it goes on unless the disk is full
        if shutil.disk_usage(out).free < LEAST_FREE:
            raise StoreError(
                f"{out}: the disk is full ({fault}); free some space and run the same command again to resume"
            ) from None
        raise


def require_space(model: PreTrainedModel, keeps_checkpoints: bool, out: Path) -> None:
    """Refuse to start a phase whose result would not fit on the disk.

    What is trained; and as many checkpoints as lie there while a new one is written: what is trained, with Adam's two moments.
    """
    out.mkdir(parents=True, exist_ok=True)
    sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in model.parameters()]
    checkpoint = 3 * sum(size for size, is_trained in sizes if is_trained) if keeps_checkpoints else 0
    need = sum(size for size, is_trained in sizes if is_trained) + checkpoint * (1 + KEPT)
    free = shutil.disk_usage(out).free
    if free < need:
        raise StoreError(f"{out}: {free / 1e9:.2f} GB free, but training needs about {need / 1e9:.2f} GB; free some space")


def _random(rank: int | str) -> str:
    return f"random-{rank}.pt"


def _read(path: Path) -> Any:  # noqa: ANN401
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_json(path: Path) -> bool:
    try:
        read_json(path, constants=True)
    except DataError:
        return False
    return True
