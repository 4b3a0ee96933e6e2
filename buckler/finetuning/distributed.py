"""One piece of work shared by several processes of this machine, each with a GPU of its own or a share of the CPU.

The step that starts them waits for them and holds its folder's lock alone, so they are a matter of the phase and not of the
run: a recipe, a pool and a cluster start them all the same way.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from buckler.errors import BackendError, ConfigError, as_error
from buckler.progress import ProgressCallback, no_progress

TICK = 0.1
"""Seconds between looks at what the processes report."""


def on_processes(
    count: int, work: Callable[..., Any], arguments: tuple[object, ...], progress: ProgressCallback, *, gpus: bool
) -> Any:  # noqa: ANN401
    """Call `work(*arguments, progress)` in `count` new processes that can reach each other through torch.distributed.

    They end when one of them fails and when this process does, killed or not: none is left behind with a GPU.

    Args:
        count: how many.
        work: a function of a module; `work` and `arguments` are pickled.
        arguments: the same for all.
        progress: Called with what process 0 reports.
        gpus: each takes the GPU of its number, and they speak NCCL; otherwise they speak gloo.

    Returns:
        What `work` returns in process 0.

    Raises:
        BucklerError: what one of them raised.
        BackendError: one of them failed otherwise, or was killed.
    """
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessException, spawn

    results: list[Any] = []

    def receive() -> None:
        while not messages.empty():
            kind, value = messages.get()
            if kind == "fault":
                raise value
            if kind == "progress":
                progress(*value)
            else:
                results.append(value)

    with TemporaryDirectory(prefix="buckler-") as folder:
        messages = get_context("spawn").SimpleQueue()
        rank_arguments = (count, str(Path(folder, "rendezvous")), messages, work, arguments, gpus)
        context = spawn(_run_rank, args=rank_arguments, nprocs=count, join=False)  # type: ignore[no-untyped-call]
        try:
            while not context.join(timeout=TICK):
                receive()
            receive()
        except ProcessException as fault:
            receive()
            raise BackendError(f"a training process ended: {_last_line(str(fault))}") from None
        finally:
            for process in context.processes:
                process.kill()
                process.join()
    return results[0]


def require_gpus(count: int, device: str) -> bool:
    """Whether `count` processes run on GPUs, where a model is to be loaded on `device`.

    Raises:
        ConfigError: the device is a single one, or there are fewer GPUs than processes.
    """
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return False
    if device not in ("auto", "cuda"):
        raise ConfigError(f"processes is {count}, but the model is set to the device {device}; leave `device` out")
    if count > torch.cuda.device_count():
        raise ConfigError(f"processes is {count}, but only {torch.cuda.device_count()} GPUs are visible on this machine")
    return True


def _run_rank(
    rank: int,
    count: int,
    rendezvous: str,
    messages: Any,  # noqa: ANN401
    work: Callable[..., Any],
    arguments: Any,  # noqa: ANN401
    gpus: bool,
) -> None:
    """What process `rank` does."""
    import torch

    _leave_with_parent()
    # What accelerate reads to see how many they are.
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
    if not gpus:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    else:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if gpus else "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=count
    )
    progress: ProgressCallback = (lambda *report: messages.put(("progress", report))) if rank == 0 else no_progress
    try:
        result = work(*arguments, progress)
    except Exception as fault:  # noqa: BLE001 - the cause goes to the process that started this one
        messages.put(("fault", as_error(fault)))
        sys.exit(1)
    if rank == 0:
        messages.put(("done", result))
    torch.distributed.destroy_process_group()


def _leave_with_parent() -> None:
    """End this process as soon as the one that started it is gone."""
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
