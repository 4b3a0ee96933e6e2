"""No traceback reaches a user: whatever goes wrong is one line; what nobody foresaw has a status and a log file of its own."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import buckler
from conftest import wait_until

from buckler.errors import BackendError, DataError, InternalError, StoreError, as_error
from buckler.workflow.executor import run_steps
from buckler.workflow.step import NoSettings, Run, step
from buckler.workflow.store import Store


@step("falls-over")
def falls_over(run: Run[NoSettings]) -> None:
    """A step with a fault of the program."""
    raise ZeroDivisionError("of the step")


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "buckler"


def test_what_nobody_foresaw_is_one_line_with_status_70_and_a_log(logs, tmp_path, monkeypatch):
    def fall(*_: object, **__: object) -> None:
        raise KeyError("some\nkey")

    monkeypatch.setattr("buckler.cli.experiments.examine", fall)
    done = buckler("doctor", cwd=tmp_path)
    assert done.returncode == 70 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    line = re.fullmatch(r"error: a fault of the program: KeyError: .*; please report it with the details in (.*)\n", done.stderr)
    log = Path(line[1])
    assert log.parent == logs and log.stat().st_mode & 0o077 == 0
    assert "Traceback (most recent call last)" in log.read_text() and "command: ['buckler', 'doctor']" in log.read_text()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_cause_of_a_fault_in_a_step_is_seen_wherever_it_runs(logs, tmp_path, workers):
    steps = [falls_over.plan(NoSettings(), title="one")]
    with pytest.raises(InternalError, match=r"ZeroDivisionError: of the step in test_faults\.py"):
        run_steps(steps, Store(tmp_path / "store"), workers=workers)
    (log,) = logs.iterdir()
    assert "raise ZeroDivisionError" in log.read_text()


FAULTS = {
    MemoryError(): (BackendError, "out of memory"),
    OSError(errno.ENOSPC, "No space left on device", "out/rows.jsonl"): (
        StoreError,
        "out/rows.jsonl: No space .*; free some",
    ),
    OSError(errno.EDQUOT, "Disk quota exceeded"): (StoreError, "Disk quota exceeded; free some space"),
    PermissionError(errno.EACCES, "Permission denied", "secret.jsonl"): (DataError, "secret.jsonl: Permission denied"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", b"gone"): (DataError, "gone: No such file"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"): (BackendError, "out of memory"),
    type("SafetensorError", (Exception,), {})("I/O error: File too large (os error 27)"): (
        StoreError,
        "weights cannot be",
    ),
    RecursionError("maximum recursion depth exceeded"): (InternalError, "RecursionError: maximum recursion"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_faults_of_the_machine_are_told_from_those_of_the_program(logs, fault):
    kind, message = FAULTS[fault]
    found = as_error(fault)
    assert type(found) is kind and re.search(message, str(found)) and "\n" not in str(found)
    assert found.exit_status == (70 if kind is InternalError else 2)
    assert type(pickle.loads(pickle.dumps(found))) is kind  # it crosses processes


def test_a_message_holds_nothing_that_a_terminal_obeys(tmp_path):
    name = "a\x1b[31m\x07\u202e.jsonl"
    (tmp_path / name).write_text("{")
    done = buckler("probes", name, cwd=tmp_path)
    assert done.returncode == 2 and "\x1b" not in done.stderr and "\\x1b[31m\\x07" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_met_with_one_line_and_its_status(tmp_path, number):
    command = [sys.executable, "-c", "from buckler import cli; cli.load_command = lambda name: print(name, flush=True) or "]
    command[-1] += "__import__('time').sleep(60); cli.main()"
    with (tmp_path / "out").open("w") as out:
        # Where the tests run under nohup, a process inherits that SIGHUP is ignored.
        heard = partial(signal.signal, number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        run = subprocess.Popen([*command, "doctor"], stdout=out, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
        wait_until(lambda: "doctor" in (tmp_path / "out").read_text())
        os.kill(run.pid, number)
        errors = run.communicate(timeout=60)[1]
    assert run.returncode == 128 + number and errors.strip().endswith("run the same command again to resume")


def test_saved_results_lead_nowhere_but_to_the_folder_they_are_reported_in(tmp_path):
    for name in ("../../../pwned", "/tmp/pwned", "a/b", "a\0b", "..", "", "x" * 101):
        (tmp_path / "results.json").write_text(json.dumps({"name": name, "kind": "stages", "arms": []}))
        for store in ((), ("--store", "runs")):
            done = buckler("report", "results.json", *store, "--out", "a/b/out", cwd=tmp_path)
            assert done.returncode == 2 and "`name`" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
