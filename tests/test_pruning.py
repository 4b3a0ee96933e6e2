"""`buckler runs` tells sizes; `runs prune` removes weights that all steps are done with, and they are made again if needed."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from commands import buckler

from buckler.settings import Settings
from buckler.workflow import step as steps
from buckler.workflow.executor import execute, run_steps
from buckler.workflow.pruning import Held, prunable
from buckler.workflow.step import Run, Step
from buckler.workflow.store import MARKER, PRUNED, Store


class Number(Settings):
    n: int


@steps.step("train")
def trains(run: Run[Number]) -> None:
    """Leaves weights of 1000 bytes and the record of them, and counts how often it ran."""
    for source in run.inputs.values():
        assert (source / "model" / "weights").exists()
    (run.out / "model").mkdir(exist_ok=True)
    (run.out / "model" / "weights").write_bytes(bytes(1000))
    (run.out / "training.json").write_text(str(run.settings.n))
    with (run.out / "ran").open("a") as log:
        log.write("x")


@steps.step("answer")
def answers(run: Run[Number]) -> None:
    """Reads the weights."""
    if run.settings.n < 0:
        raise OSError(28, "No space left on device")
    (run.out / "answers.jsonl").write_text(str(len((run.inputs["model"] / "model" / "weights").read_bytes())))
    (run.out / "cache.sqlite").write_bytes(bytes(300))


def training(n: int, base: Step | None = None) -> Step:
    return trains.plan(Number(n=n), title=f"training {n}", inputs={} if base is None else {"model": base})


def measured(model: Step, n: int = 0) -> Step:
    return answers.plan(Number(n=n), title="answers", inputs={"model": model})


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


def weights(store: Store, of: Step) -> Path:
    return store.folder(of) / "model" / "weights"


def ran(store: Store, of: Step) -> int:
    return len((store.folder(of) / "ran").read_text())


def test_without_yes_it_is_shown_what_would_go_and_nothing_goes(store):
    run_steps([measured(training(1))], store)
    shown = buckler("runs", "prune", "--store", store.root).stdout
    assert "1 trained models, 0.0 MB" in shown and f"`buckler runs prune --store {store.root} --yes` frees" in shown
    assert weights(store, training(1)).exists()
    assert prunable(Held(store.root)).size == 1000 + 300


def test_weights_that_all_steps_are_done_with_go_and_all_else_stays(store):
    used, unused = training(1), training(2)
    run_steps([measured(used), unused], store)
    (store.root / "shared").mkdir()
    (store.root / "shared" / "cache.sqlite").write_text("shared")
    before = {path for path in store.root.rglob("*") if path.is_file()}
    result = buckler("runs", "prune", "--store", store.root, "--yes").stdout
    gone = before - {path for path in store.root.rglob("*") if path.is_file()}
    assert gone == {weights(store, used), store.folder(measured(used)) / "cache.sqlite"}
    assert "freed" in result and store.is_pruned(used) and not store.is_pruned(unused)
    outcome = execute([measured(used), unused], store)
    assert (outcome.done, outcome.reused) == (0, 3) and ran(store, used) == 1, "nothing is made again that nobody needs"
    assert "nothing to remove" in buckler("runs", "prune", "--store", store.root, "--yes").stdout


def test_weights_that_are_needed_again_are_made_again_with_all_that_they_need(store):
    first = training(1)
    second = training(2, first)
    run_steps([measured(second)], store)
    prunable(Held(store.root)).remove()
    assert store.is_pruned(first) and store.is_pruned(second)
    outcome = execute([measured(second), measured(second, 1)], store)
    assert not outcome.failed and outcome.done == 3 and ran(store, first) == ran(store, second) == 2
    assert weights(store, second).exists() and not store.is_pruned(second)
    prunable(Held(store.root)).remove()
    assert execute([measured(first, 5)], store, workers=1).done == 2 and ran(store, second) == 2


def test_a_target_that_was_pruned_is_made_again_where_it_is_wanted_whole(store):
    run_steps([measured(training(1))], store)
    prunable(Held(store.root)).remove()
    run_steps([training(1)], store)
    assert not weights(store, training(1)).exists()
    run_steps([training(1)], store, whole=True)
    assert weights(store, training(1)).exists() and ran(store, training(1)) == 2


def test_weights_that_a_step_needs_which_is_not_finished_stay(store):
    model = training(1)
    outcome = execute([measured(model), measured(model, -1)], store)
    assert len(outcome.failed) == 1 and prunable(Held(store.root)).weights == {} and prunable(Held(store.root)).kept == 1


def test_weights_under_an_adapter_stay_and_merged_copies_beside_one_go(store):
    base = training(1)
    other = training(2, base)
    run_steps([measured(other)], store)
    for part in ("adapter", "base"):
        (store.folder(other) / part).mkdir()
        (store.folder(other) / part / "weights").write_bytes(bytes(10))
    found = prunable(Held(store.root))
    assert found.weights == {} and {path.name for path in found.copies} == {"model", "base", "cache.sqlite"}
    found.remove()
    assert weights(store, base).exists() and (store.folder(other) / "adapter" / "weights").exists()
    assert not (store.folder(other) / PRUNED).exists() and (store.folder(other) / MARKER).exists()


def test_nothing_is_removed_under_a_run_that_is_at_work(store):
    run_steps([measured(training(1))], store)
    begun = store.root / "steps" / "answer-begun"
    begun.mkdir()
    with (begun / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        result = buckler("runs", "prune", "--store", store.root, "--yes")
        assert result.returncode == 2 and "a run is at work here (step answer-begun)" in result.stderr
    assert weights(store, training(1)).exists()


def test_runs_tells_the_size_of_each_kind_of_step_and_of_each_run(store):
    one, other = measured(training(1)), measured(training(2))
    run_steps([one, other], store)
    for name, step in (("a", one), ("b", other)):
        (store.root / "reports" / name).mkdir(parents=True)
        arms = [{"steps": {"answers": step.key, "verdicts": step.key, "metrics": "gone-0"}}]
        (store.root / "reports" / name / f"results-{name}.json").write_text(json.dumps({"arms": arms}))
    found = json.loads(buckler("runs", "--store", store.root, "--json").stdout)
    assert found["finished"] == {"train": 2, "answer": 2} and found["prunable_bytes"] == 2600
    assert found["bytes_by_kind"]["train"] >= 2000 and sum(found["bytes_by_kind"].values()) == found["bytes"]
    assert [run["steps"] for run in found["runs"].values()] == [2, 2]
    assert sum(run["bytes"] for run in found["runs"].values()) == found["bytes"]


def test_yes_is_for_pruning(store):
    store.root.mkdir()
    assert "--yes is for `buckler runs prune`" in buckler("runs", "--store", store.root, "--yes").stderr
