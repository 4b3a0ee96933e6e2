"""One training phase: rows and a model in, a plain model folder out. Seeded, checkpointed, resumable.

Light to import: torch and transformers come in with `buckler.finetuning.trainer`, when a phase begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from buckler.data import Chat, Json, write_json
from buckler.errors import ConfigError
from buckler.finetuning.distributed import on_processes, require_gpus
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.models.protocol import ModelSpec
from buckler.progress import ProgressCallback, no_progress, note_loading

__all__ = ["LoRA", "TrainSettings", "memory_of", "train"]


def train(
    spec: ModelSpec,
    rows: Sequence[Chat],
    settings: TrainSettings,
    out: Path,
    *,
    seed: int,
    merge: bool = True,
    progress: ProgressCallback = no_progress,
) -> dict[str, Json]:
    """Fine-tune `spec` on `rows`; writes `out/model`, and what it saw.

    LoRA writes `out/adapter`, and with `merge` the model merged with it as `out/model`.

    A killed run goes on from its last checkpoint and ends with the same weights. With `settings.processes` above 1 this
    process starts them and waits.

    Returns:
        Rows used, cut and dropped (with their ids), steps, supervised tokens, the losses.

    Raises:
        ConfigError: the settings do not fit the rows, the model or this machine, or training diverged.
        DataError: no row can be trained on.
        StoreError: the disk is full.
        BackendError: the model cannot be loaded, or a process died.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "Buckler starts its own processes. Set `processes` in the training settings, without a launcher; "
            "for a launcher write a job (`buckler train --job`) and start `-m buckler.finetuning` with it"
        )
    from buckler.finetuning.trainer import run_phase

    note_loading(spec.name)
    job = (spec, list(rows), settings, out, seed)
    if settings.processes == 1:
        record = run_phase(*job, progress)
    else:
        gpus = require_gpus(settings.processes, spec.device)
        record = cast("dict[str, Json]", on_processes(settings.processes, run_phase, job, progress, gpus=gpus))
    if merge and settings.method == "lora":
        from buckler.finetuning.export import save_merged

        save_merged(spec, out)
    write_json(out / "training.json", {**record, "settings": settings.model_dump(mode="json"), "seed": seed})
    return record


def memory_of(spec: ModelSpec, settings: TrainSettings) -> tuple[list[str], dict[str, Json]]:
    """What a dry run says of a phase's memory: lines, and the same as values.

    Raises:
        BackendError: the model's configuration cannot be read.
    """
    from buckler.finetuning.memory import report

    return report(spec, settings)
