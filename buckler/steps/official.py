"""Official numbers: lm-evaluation-harness in a process of its own, over the model of a step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from buckler.data import Json, read_json, write_json
from buckler.errors import BackendError, ConfigError
from buckler.models.identity import location
from buckler.models.protocol import ModelSpec
from buckler.steps import common
from buckler.workflow.store import Context


def official(context: Context) -> None:
    """A model and the harness' tasks -> official.json: metrics by task, as the harness gives them."""
    spec = common.spec(context, "model")
    limit = cast("int | None", context.params.get("limit"))
    include = context.paths.get("tasks")
    command = harness_command(spec, cast("Sequence[str]", context.params["tasks"]), context.out / "harness", include, limit)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise BackendError(f"lm-evaluation-harness failed: {said[-1][:300] if said else 'it says nothing'}")
    write_json(context.out / "official.json", read_results(context.out / "harness"))


def check_tasks(spec: ModelSpec, tasks: Sequence[str], include: str | None) -> None:
    """Tell what is wrong before anything runs.

    Raises:
        ConfigError: the harness has no such task, there is no such folder of them, or cannot be asked of this model.
    """
    harness_command(spec, tasks, Path(), include, None)
    if include is not None and not Path(include).is_dir():
        raise ConfigError(f"--official-tasks {include}: no such folder")
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_path=include)
    if unknown := [name for name in tasks if not known.match_tasks([name])]:
        own = f"; {include} has none of that name" if include else "; for tasks of your own give --official-tasks FOLDER"
        raise ConfigError(f"lm-evaluation-harness (`lm-eval ls tasks`) has no task {', '.join(map(repr, unknown))}{own}")


def harness_version() -> str:
    """The version of the harness: another one may ask otherwise.

    Raises:
        ConfigError: lm-evaluation-harness is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise ConfigError("official numbers need lm-evaluation-harness: pip install 'buckler[eval]'") from None


def harness_command(spec: ModelSpec, tasks: Sequence[str], out: Path, include: str | None, limit: int | None) -> list[str]:
    """The harness' own command line for a model.

    Raises:
        ConfigError: the model is one that a server keeps.
    """
    if spec.endpoint:
        raise ConfigError(f"{spec.name} is served by {spec.endpoint}; official numbers need the weights: a folder or a hub id")
    told = [f"pretrained={location(spec.name) or spec.name}"]
    told += [f"peft={spec.adapter}"] if spec.adapter else []
    told += [f"revision={spec.revision}"] if spec.revision else []
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", ",".join(told)]
    command += ["--tasks", ",".join(tasks), "--output_path", str(out)]
    command += ["--include_path", include] if include else []
    return command + (["--limit", str(limit)] if limit is not None else [])


def read_results(folder: Path) -> dict[str, Json]:
    """The newest results that the harness left, by task and metric.

    Raises:
        BackendError: it left none.
    """
    files = sorted(folder.rglob("results_*.json"), key=lambda path: path.name)
    if not files:
        raise BackendError(f"lm-evaluation-harness left no results in {folder}")
    results = cast("Mapping[str, Mapping[str, Json]]", cast("Mapping[str, Json]", read_json(files[-1]))["results"])
    return {task: {name: value for name, value in of.items() if isinstance(value, int | float)} for task, of in results.items()}
