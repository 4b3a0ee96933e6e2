"""Official numbers: lm-evaluation-harness in a process of its own, over the model of a step."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from buckler.data import Json, read_json, write_json
from buckler.errors import BackendError, ConfigError
from buckler.models.places import dtype_of, location, with_base
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings
from buckler.workflow.inputs import ModelRef, model_spec
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.step import Outside, Run, Step, step


class OfficialStep(Settings):
    """Tasks of the harness, in its version: another one may ask in another way."""

    tasks: tuple[str, ...]
    limit: int | None
    harness: str


@step("official")
def official(run: Run[OfficialStep]) -> None:
    """A model and the harness' tasks -> official.json: metrics by task, as the harness gives them."""
    settings, out = run.settings, run.out / "harness"
    spec, merged = model_spec(run, "model"), run.out / "merged"
    if spec.merge:
        from buckler.finetuning.export import save_loaded

        save_loaded(spec, merged)
        spec = spec.model_copy(update={"name": str(merged), "adapter": None, "merge": (), "revision": None})
    command = harness_command(spec, settings.tasks, out, run.outside.get("tasks"), settings.limit)
    done = subprocess.run(command, capture_output=True, text=True)
    shutil.rmtree(merged, ignore_errors=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BackendError(f"lm-evaluation-harness failed: {lines[-1][:300] if lines else 'it printed no error'}")
    write_json(run.out / "official.json", read_results(out))


def official_scores(model: ModelRef, tasks: Sequence[str], folder: str | None, limit: int | None) -> Step:
    """The numbers of lm-evaluation-harness; `folder` holds tasks of the user's own, and its content is hashed.

    Raises:
        ConfigError: the harness is not installed.
    """
    own = {}
    if folder is not None:
        own = {"tasks": Outside(digest=str(fingerprint(Source(source=folder))["source"]), place=folder)}
    return official.plan(
        OfficialStep(tasks=tuple(tasks), limit=limit, harness=harness_version()),
        title=f"official {', '.join(tasks)}",
        inputs=model.inputs(),
        outside={**model.places(), **own},
    )


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
        raise ConfigError("--official needs lm-evaluation-harness: pip install 'buckler[eval]'") from None


def harness_command(spec: ModelSpec, tasks: Sequence[str], out: Path, include: str | None, limit: int | None) -> list[str]:
    """The harness' own command line for a model.

    Raises:
        ConfigError: the model is one that a server keeps.
    """
    if spec.endpoint:
        raise ConfigError(
            f"{spec.name} is served by {spec.endpoint}, but lm-evaluation-harness needs the weights: name a folder or a hub id"
        )
    spec = with_base(spec)
    place = location(spec.name)
    args = [f"pretrained={place or spec.name}"]
    if place is not None and place.is_file():
        args = [f"pretrained={place.parent}", f"gguf_file={place.name}"]
    args += [f"peft={spec.adapter}"] if spec.adapter else []
    args += [f"revision={spec.revision}"] if spec.revision else []
    dtype = dtype_of(spec)
    args += [f"dtype={dtype}"] if dtype != "float32" or spec.dtype != "auto" else []  # else the checkpoint's own, as ever
    args += [f"load_in_{spec.quantize}=True"] if spec.quantize else []
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", ",".join(args)]
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
    content = read_json(files[-1], constants=True)  # the harness writes NaN where it has no standard error
    results = content.get("results") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping):
        raise BackendError(f"{files[-1]}: contains no results of lm-evaluation-harness")
    return {
        task: {name: value for name, value in of.items() if isinstance(value, int | float) and math.isfinite(value)}
        for task, of in results.items()
        if isinstance(of, Mapping)
    }
