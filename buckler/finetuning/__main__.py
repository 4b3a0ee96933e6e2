"""One training phase under a launcher, over several machines too: `buckler train ROWS --job job.json ...`, then

    accelerate launch --num_processes 8 -m buckler.finetuning job.json

Each process takes its share of every step; the first one writes. The gradient is that of a single process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from buckler.data import Json, read_chats, read_json, write_json
from buckler.errors import ConfigError, as_error
from buckler.finetuning.export import save_merged
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.trainer import run_phase
from buckler.models.protocol import ModelSpec
from buckler.progress import no_progress
from buckler.settings import parse


def main(path: Path) -> None:
    """Do the job that `buckler train --job` wrote.

    Raises:
        BucklerError: as `buckler.finetuning.train.train`.
    """
    job = read_json(path)
    if not isinstance(job, Mapping) or not {"model", "rows", "train", "out", "seed"} <= job.keys():
        raise ConfigError(f"{path}: not a training job; `buckler train ROWS --job {path}` writes one")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings = parse(TrainSettings, job["train"], str(path)).model_copy(update={"processes": processes})
    out, seed = Path(str(job["out"])), int(cast(int, job["seed"]))
    rows = read_chats(Path(str(job["rows"])))
    spec = parse(ModelSpec, job["model"], str(path))
    record = run_phase(spec, rows, settings, out, seed, no_progress)
    if int(os.environ.get("RANK", "0")) == 0:
        if settings.method == "lora":
            save_merged(spec, out)
        seen: dict[str, Json] = {**record, "settings": settings.model_dump(mode="json"), "seed": seed}
        write_json(out / "training.json", seen)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: accelerate launch --num_processes N -m buckler.finetuning JOB.json (`buckler train --job` writes it)")
    try:
        main(Path(sys.argv[1]))
    except Exception as fault:  # noqa: BLE001 - no traceback reaches a user
        error = as_error(fault)
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)
