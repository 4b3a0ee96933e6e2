"""Steps are named by content, done once, marked last; what has no JSON value is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import wait_until

from buckler.data import write_text
from buckler.errors import DataError, StoreError
from buckler.settings import Settings
from buckler.workflow import step as steps
from buckler.workflow.executor import Event, _drive, execute, run_step
from buckler.workflow.step import Outside, Run, Step, in_order
from buckler.workflow.store import MARKER, Store


class Number(Settings):
    n: int


@steps.step("add")
def add(run: Run[Number]) -> None:
    """Sum of the inputs' numbers and the parameter; counts how often it ran."""
    numbers = [int((folder / "number").read_text()) for folder in run.inputs.values()]
    with (run.out / "ran").open("a") as log:
        log.write("x")
    (run.out / "number").write_text(str(sum(numbers) + run.settings.n))


@steps.step("fail")
def fail(run: Run[Number]) -> None:
    raise DataError("rows.jsonl:3: no answer")


@steps.step("fill")
def fill_the_disk(run: Run[Number]) -> None:
    raise OSError(28, "No space left on device", str(run.out / "big"))


@steps.step("slow")
def slow(run: Run[Number]) -> None:
    (run.out / "begun").write_text("")
    time.sleep(3600)


def step(n: int, *inputs: Step, function: str = "add", **rest: object) -> Step:
    return Step(
        name=f"s{n}",
        function=f"test_store:{function}",
        params={"n": n},
        inputs={str(at): source for at, source in enumerate(inputs)},
        **rest,
    )


def number(store: Store, of: Step) -> int:
    return int((store.folder(of) / "number").read_text())


def test_the_key_is_that_of_name_version_parameters_and_inputs_alone():
    one = step(1)
    assert one.key == step(1, title="other").key == step(1, function="fail").key
    here, there, changed = (
        step(1, outside={"a": Outside(digest=d, place=p)}) for d, p in (("x", "/a"), ("x", "/b"), ("y", "/a"))
    )
    assert here.key == there.key != changed.key
    others = [step(2), step(1, step(2)), step(1, version=2), here]
    assert len({one.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, Path("x"), print])
def test_a_parameter_that_is_no_json_value_is_refused(value):
    with pytest.raises(StoreError, match="not a JSON value"):
        Step(name="s", function="m:f", params={"n": value})


def test_inputs_come_before_their_users_and_shared_ones_once():
    shared = step(1)
    left, right = step(2, shared), step(3, shared)
    order = in_order([step(4, left, right), right])
    assert [one.key for one in order] == [s.key for s in (shared, left, right, step(4, left, right))]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_graph_is_done_once_whatever_the_workers(tmp_path, workers, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    store = Store(tmp_path)
    shared = step(1)
    top = step(4, step(2, shared), step(3, shared))
    first = execute([top], store, workers=workers)
    again = execute([top], store, workers=workers)
    assert (first.done, first.reused, again.done, again.reused) == (4, 0, 0, 4)
    assert number(store, top) == 4 + 3 + 2 + 1 + 1
    assert (store.folder(shared) / "ran").read_text() == "x"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_step_fails_what_needs_it_and_nothing_else(tmp_path, workers, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    store = Store(tmp_path)
    bad = step(1, function="fail")
    good, hopeless = step(2), step(3, bad)
    outcome = execute([hopeless, good], store, workers=workers)
    assert [event.error for event in outcome.failed] == ["rows.jsonl:3: no answer"]
    assert outcome.skipped == 1 and store.is_done(good) and not store.is_done(bad)


class Instant:
    """Runs a step at once, unless it is to fail; keeps the order."""

    def __init__(self, capacity: int = 1, failing: str = "") -> None:
        self.capacity, self.failing = capacity, failing
        self.begun: list[str] = []
        self.order: list[Step] = []

    def start(self, step: Step) -> None:
        self.begun.append(step.name)
        self.order.append(step)

    def collect(self) -> list[Event]:
        step = self.order.pop(0)
        return [Event(kind="failed" if step.name == self.failing else "done", step=step)]


def test_all_that_needs_a_failed_step_is_skipped_once_and_the_rest_is_done_in_order():
    bad, good = step(1), step(2)
    below = step(3, bad)
    targets = [step(4, below, bad), step(5, good), step(6, below, good), step(7)]
    graph = {one.key: one for one in in_order(targets)}
    runner = Instant(failing="s1")
    events = [(event.kind, event.step.name) for event in _drive(graph, runner)]
    assert runner.begun == [one.name for one in graph.values() if one.name in ("s1", "s2", "s5", "s7")]
    assert sorted(name for kind, name in events if kind == "skipped") == ["s3", "s4", "s6"] and len(events) == 7


def test_the_order_of_a_large_graph_costs_no_more_a_step_than_that_of_a_small_one():
    def chains(length: int) -> dict[str, Step]:
        ends = [step(at) for at in range(4)]
        for level in range(length):
            ends = [step(level, end) for end in ends[:1]] + [step(level + 1000 * at, ends[at], ends[0]) for at in (1, 2, 3)]
        return {one.key: one for one in in_order(ends)}

    class Counted(dict):
        reads = 0

        def values(self):
            Counted.reads += 1
            return super().values()

    reads = {}
    for length in (10, 100):
        graph = chains(length)
        for one in graph.values():
            object.__setattr__(one, "inputs", Counted(one.inputs))
        Counted.reads = 0
        assert sum(event.kind == "done" for event in _drive(graph, Instant(capacity=3))) == len(graph)
        reads[length] = Counted.reads / len(graph)
    assert reads[10] == reads[100] == 1


def test_a_step_without_its_marker_is_done_again(tmp_path):
    store = Store(tmp_path)
    run_step(step(1), store)
    (store.folder(step(1)) / MARKER).unlink()
    run_step(step(1), store)
    assert (store.folder(step(1)) / "ran").read_text() == "xx"
    assert json.loads((store.folder(step(1)) / MARKER).read_text())["params"] == {"n": 1}


def test_a_full_disk_is_one_clear_line(tmp_path):
    outcome = execute([step(1, function="fill_the_disk")], Store(tmp_path))
    assert "No space left on device" in outcome.failed[0].error
    assert not Store(tmp_path).is_done(step(1, function="fill_the_disk"))


def test_a_file_where_a_folder_is_needed_is_one_clear_line(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match=r"taken/answers\.jsonl: cannot be written"):
        write_text(tmp_path / "taken" / "answers.jsonl", "x")


def test_a_folder_where_a_file_is_needed_is_one_clear_line():
    with pytest.raises(StoreError, match=r"it is a folder; name a file"):
        write_text(Path(), "x")


def test_a_step_whose_input_is_missing_is_refused(tmp_path):
    with pytest.raises(StoreError, match="inputs not finished"):
        run_step(step(2, step(1)), Store(tmp_path))


def run_in_pool(root: str, target: Step) -> None:
    execute([target, step(9)], Store(Path(root)), workers=2)


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    target = step(1, function="slow")
    context = multiprocessing.get_context("spawn")
    parent = context.Process(target=run_in_pool, args=(str(tmp_path), target))
    parent.start()
    begun = Store(tmp_path).folder(target) / "begun"
    wait_until(begun.exists)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    lock = Store(tmp_path).folder(target) / ".lock"
    wait_until(lambda: not _processes_naming(str(tmp_path)) and not _is_locked(lock))


def _processes_naming(text: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_text()
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def _is_locked(path: Path) -> bool:
    import fcntl

    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
