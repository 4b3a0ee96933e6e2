"""Write the golden outputs anew: `python tools/golden.py [RUN ...]`, after a change that is meant to change them.

`--step-keys` and `--old` write what the program had before its restructuring: keys of steps, and a store with its results.
They are kept as they are; the code that wrote them stands here so that a reader sees how they were made.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import golden_files  # noqa: E402
import golden_runs  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", help="which runs; all without any")
    parser.add_argument("--step-keys", action="store_true", help="only the keys of the recipes' steps")
    parser.add_argument("--old", action="store_true", help="only the old store, its results and an old evaluation")
    given = parser.parse_args()
    if given.step_keys:
        write_step_keys()
    if given.old:
        write_old()
    if given.step_keys or given.old:
        return
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        golden = golden_files.Golden(Path(folder).resolve())
        for run in golden_runs.RUNS:
            if given.runs and run.name not in given.runs:
                continue
            status, out, err = golden.ensure(run)
            if status != run.status:
                wrong.append(run.name)
                sys.stdout.write(f"{run.name}: exit status {status}, not {run.status}:\n{out}\n{err}\n")
                continue
            golden_files.write_expected(golden, run)
            sys.stdout.write(f"wrote {run.name}\n")
    if wrong:
        sys.exit(f"not written: {', '.join(wrong)}")


def write_step_keys() -> None:
    """Name and key of every step of every recipe, inputs before users."""
    from buckler.config.read import read_recipe
    from buckler.plan import plan
    from buckler.workflow.step import in_order

    places = [*sorted((ROOT / "recipes").glob("*.yaml")), *sorted((golden_files.GOLDEN / "recipes").glob("*.yaml"))]
    keys = {path.stem: [[step.name, step.key] for step in in_order(plan(read_recipe(path)).targets)] for path in places}
    recipes = [
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(step)}" for step in steps) + "\n ]"
        for name, steps in keys.items()
    ]
    (golden_files.GOLDEN / "step_keys.json").write_text("{\n" + ",\n".join(recipes) + "\n}\n", encoding="utf-8")


def write_old() -> None:
    """What running the golden recipes left, without models and caches: markers, rows, answers, verdicts, numbers."""
    with tempfile.TemporaryDirectory() as folder:
        golden = golden_files.Golden(Path(folder).resolve())
        for name in (*(f"run-{kind}" for kind in golden_runs.KINDS), "evaluate"):
            golden.ensure(golden_runs.BY_NAME[name])
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted(golden.work.rglob("*")):
                kept = _old_name(path.relative_to(golden.work))
                if kept is not None and path.is_file():
                    entry = tarfile.TarInfo(kept)
                    entry.size = path.stat().st_size
                    archive.addfile(entry, io.BytesIO(path.read_bytes()))
        (golden_files.GOLDEN / "old.tar.gz").write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def _old_name(path: Path) -> str | None:
    """Where a file of the working folder stands among what is kept; None if it is not."""
    if path.name.startswith(".") or path.suffix == ".sqlite" or {"model", "adapter"} & set(path.parts):
        return None
    if path.parts[:2] == ("store", "steps"):
        return f"old/{path}"
    if path.parts[:2] == ("store", "reports") and path.name.startswith("results-"):
        return f"old/{path.name}"
    kept = path.parent == Path("evaluate") and path.suffix in (".jsonl", ".json")
    return f"old/{path}" if kept else None


if __name__ == "__main__":
    main()
