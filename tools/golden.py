"""Write the golden outputs anew: `python tools/golden.py [RUN ...]`, after a change that is meant to change them.

`tests/golden/old.tar.gz` and `step_keys.json` stand for what version 0.1.0 left on users' disks: they are never written anew.
"""

from __future__ import annotations

import argparse
import os
import sys
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
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        golden = golden_files.Golden(Path(folder).resolve())
        for run in golden_runs.RUNS:
            if options.runs and run.name not in options.runs:
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


if __name__ == "__main__":
    main()
