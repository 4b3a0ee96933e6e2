"""Exported rows in LLaMA-Factory and axolotl, each in an environment of its own (`make test-trainers`).

`BUCKLER_LLAMAFACTORY` and `BUCKLER_AXOLOTL` name the Python of an environment that has one; without it its tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import make_model
from test_trainers import learnt_by_buckler, rows, runs_of

import buckler

pytestmark = pytest.mark.ml
TRAINERS = {"llamafactory": "llamafactory", "alpaca": "llamafactory", "sharegpt": "llamafactory", "axolotl": "axolotl"}


@pytest.fixture(scope="module", params=["llama", "qwen"])
def model(request, tmp_path_factory) -> tuple[str, Path]:
    """Llama's template writes nothing after the end of an answer, Qwen's a newline."""
    return request.param, make_model(tmp_path_factory.mktemp(request.param), request.param)


def prepared(to: str, folder: Path, out: Path) -> dict[str, str]:
    """What the trainer says of the rows in `out`, by the first word of its lines."""
    trainer = TRAINERS[to]
    python = os.environ.get(f"BUCKLER_{trainer.upper()}")
    if not python:
        pytest.skip(f"BUCKLER_{trainer.upper()} names no Python")
    config = out / f"{to}.yaml"
    config.write_text(config.read_text().replace(": MODEL\n", f": {folder}\n"))
    script = Path(__file__).with_name(f"of_{trainer}.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, script, config.name], cwd=out, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    output = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("ROWS ", "LOSS ")))
    assert "ROWS" in output, done.stdout[-2000:]
    return output


@pytest.mark.parametrize("to", TRAINERS)
def test_the_trainer_learns_the_answers_that_buckler_train_learns(model, to, tmp_path):
    shape, folder = model
    out = buckler.export(rows(), to, loss_averaging="token", out=tmp_path / to, store=tmp_path).out
    output = prepared(to, folder, out)
    learnt = [run for ids, labels in json.loads(output["ROWS"]) for run in runs_of(ids, [label != -100 for label in labels])]
    exact = learnt_by_buckler(folder, rows())
    more = int(shape == "qwen" and TRAINERS[to] == "llamafactory")  # what the template writes after the end
    assert [run[: len(run) - more] for run in learnt] == exact
    if "LOSS" in output and not more:
        trained = buckler.train(
            rows(), model=str(folder), loss_averaging="token", epochs=1, batch_size=8, out=tmp_path / "trained", store=tmp_path
        )
        assert float(output["LOSS"]) == pytest.approx(trained.record["losses"][0], rel=1e-4)
