"""One training phase under a launcher, over several machines too: `buckler train ROWS --job job.json ...`, then

    accelerate launch --num_processes 8 -m buckler.finetuning job.json

Each process takes its share of every step; the first one writes. The gradient is that of a single process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import BaseModel

from buckler.data import Json, read_chats, write_json
from buckler.errors import ConfigError, DataError, as_error
from buckler.finetuning.export import save_merged
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.trainer import run_phase
from buckler.models.protocol import ModelSpec
from buckler.progress import no_progress
from buckler.settings import parse, read_as


class TrainingJob(BaseModel):
    """What is read of the file that `buckler train --job` writes."""

    model: dict[str, object]
    rows: Path
    train: dict[str, object]
    out: Path
    seed: int


def main(path: Path) -> None:
    """Do the job that `buckler train --job` wrote.

    Raises:
        BucklerError: as `buckler.finetuning.train.train`.
    """
    try:
        job = read_as(TrainingJob, path)
    except DataError as fault:
        raise ConfigError(f"{fault}; `buckler train ROWS --job {path}` writes a training job") from None
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings = parse(TrainSettings, job.train, str(path)).model_copy(update={"processes": processes})
    spec, out = parse(ModelSpec, job.model, str(path)), job.out
    record = run_phase(spec, read_chats(job.rows), settings, out, job.seed, no_progress)
    if int(os.environ.get("RANK", "0")) == 0:
        if settings.method == "lora":
            save_merged(spec, out)
        seen: dict[str, Json] = {**record, "settings": settings.model_dump(mode="json"), "seed": job.seed}
        write_json(out / "training.json", seen)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.stderr.write(
            "usage: accelerate launch --num_processes N -m buckler.finetuning JOB.json (`buckler train --job` writes it)\n"
        )
        sys.exit(2)
    try:
        main(Path(sys.argv[1]))
    except Exception as fault:  # noqa: BLE001 - no traceback reaches a user
        error = as_error(fault)
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)
