"""Processes: several share a phase and one model comes out; a fault in one is reported, and none outlives the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_model, wait_until

from buckler.errors import BackendError, ConfigError, DataError
from buckler.finetuning.distributed import on_processes, require_gpus
from buckler.progress import no_progress

pytestmark = pytest.mark.ml


def misbehave(how: str, progress) -> int:
    """Work for two processes: the second fails, the first waits for it as it would in training."""
    import torch

    rank = int(os.environ["RANK"])
    progress("begun", rank, 2)
    if how == "well":
        number = torch.tensor([rank + 1.0])
        torch.distributed.all_reduce(number)
        return int(number)
    if rank == 1:
        if how == "data":
            raise DataError("row 7: has no token to train on")
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()
    return 0


def test_what_process_0_returns_and_tells_arrives():
    progress: list[tuple[str, int, int]] = []
    assert on_processes(2, misbehave, ("well",), lambda *what: progress.append(what), gpus=False) == 3
    assert progress == [("begun", 0, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("data", DataError, "row 7: has no token"),
        ("killed", BackendError, "signal SIGKILL"),
    ],
)
def test_a_fault_in_one_process_ends_all_and_is_told(how, kind, message):
    with pytest.raises(kind, match=message):
        on_processes(2, misbehave, (how,), no_progress, gpus=False)


ORPHANS = """
import os, sys, time
from pathlib import Path

def work(folder, progress):
    Path(folder, os.environ["RANK"]).write_text(str(os.getpid()))
    time.sleep(3600)

if __name__ == "__main__":
    from buckler.finetuning.distributed import on_processes
    from buckler.progress import no_progress
    on_processes(2, work, (sys.argv[1],), no_progress, gpus=False)
"""


@pytest.mark.slow
def test_no_process_outlives_a_run_that_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(tmp_path)])
    wait_until(lambda: all((tmp_path / rank).exists() and (tmp_path / rank).read_text() for rank in "01"))
    children = [int((tmp_path / rank).read_text()) for rank in "01"]
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(is_running(child) for child in children))


@pytest.mark.slow
def test_a_phase_shared_by_two_processes_leaves_the_model_that_one_leaves(tmp_path):
    import torch
    from safetensors.torch import load_file
    from test_train import rows

    from buckler.finetuning.settings import TrainSettings
    from buckler.finetuning.train import train
    from buckler.models.protocol import ModelSpec

    spec = ModelSpec(name=str(make_model(tmp_path / "tiny", "llama")))
    shared = {"epochs": 2, "batch_size": 6, "learning_rate": 1e-3, "packing": True}
    seen: list[int] = []
    one = train(spec, rows({"case": 20}), TrainSettings(**shared), tmp_path / "one", seed=0)
    two = train(
        spec,
        rows({"case": 20}),
        TrainSettings(**shared, processes=2),
        tmp_path / "two",
        seed=0,
        progress=lambda what, done, total: seen.append(done),
    )
    assert seen == list(range(1, 9))
    assert two == {**one, "losses": pytest.approx(one["losses"], abs=1e-4)}
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["first_row.txt", "model", "training.json"]
    models = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two")]
    for key, value in models[0].items():
        torch.testing.assert_close(models[1][key], value, rtol=0, atol=2e-5)


def test_more_processes_than_gpus_and_a_single_device_are_refused(monkeypatch):
    import torch

    assert not require_gpus(4, "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert require_gpus(2, "auto")
    with pytest.raises(ConfigError, match="only 2 GPUs"):
        require_gpus(3, "cuda")
    with pytest.raises(ConfigError, match="set to the device cuda:1"):
        require_gpus(2, "cuda:1")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


@pytest.mark.slow
def test_under_accelerate_launch_two_processes_end_with_the_weights_of_one(tmp_path):
    import subprocess
    import sys

    import torch
    from safetensors.torch import load_file

    from buckler import miniature
    from buckler.data import Chat, write_rows
    from buckler.finetuning.settings import TrainSettings
    from buckler.finetuning.train import train
    from buckler.models.protocol import ModelSpec

    rows = [Chat.pair(f"What is {n}?", f"It is the number {n} of the river.") for n in range(12)]
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 0}
    command = [
        sys.executable,
        "-m",
        "buckler",
        "train",
        str(tmp_path / "rows.jsonl"),
        "--model",
        "miniature-small",
        "--method",
        "full",
    ]
    command += ["--epochs", "1", "--batch-size", "4", "--learning-rate", "1e-3", "--out", str(tmp_path / "out")]
    wrote = subprocess.run([*command, "--job", str(tmp_path / "job.json")], capture_output=True, text=True)
    assert wrote.returncode == 0, wrote.stderr
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "buckler.finetuning"]
    ran = subprocess.run([*launch, str(tmp_path / "job.json")], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    train(ModelSpec(name="miniature-small"), rows, TrainSettings(**settings), tmp_path / "alone", seed=0)
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("alone", "out"))
    start = load_file(miniature.path("miniature-small") / "model.safetensors")
    for name, value in ours.items():
        step = (value.float() - start[name].float()).norm()
        assert (value.float() - theirs[name].float()).norm() <= 1e-2 * step + 1e-6, name
    assert any(not torch.equal(value, start[name]) for name, value in ours.items())
