"""The golden outputs: every command gives what it gave before, and what an older version left is still of use.

Only the command line, the files it writes and its table of renamed keys are used: these tests hold whatever stands behind
them. A run is described in `golden_runs.py`; `python tools/golden.py RUN` makes what it gives now what it must give, after a
change that is meant.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import golden_files
import pytest
from golden_files import GOLDEN, Golden
from golden_runs import BY_NAME, KINDS, PACKAGED, ROOT, RUNS, Run

from buckler.experiments.results import read_results
from buckler.settings import KEYS, VALUES

pytestmark = pytest.mark.ml


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden(tmp_path_factory.mktemp("golden").resolve())


@pytest.fixture(scope="session")
def step_keys() -> dict[str, list[list[str]]]:
    return json.loads((GOLDEN / "step_keys.json").read_text("utf-8"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_command_gives_what_it_gave_before(golden: Golden, run: Run):
    status, out, err = golden.ensure(run)
    assert status == run.status, f"{out}\n{err}"
    assert "Traceback" not in err
    wanted, found = golden_files.expected(run), golden.found(run)
    assert sorted(found) == sorted(wanted)
    assert list(golden_files.differences(wanted, found, near=run.near))[:10] == []


def test_every_expected_folder_belongs_to_a_run():
    assert {path.name for path in golden_files.EXPECTED.iterdir()} == {run.name for run in RUNS if run.files or run.stdout}


@pytest.fixture(scope="session")
def old(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what an older version left: its store, its results, an evaluation."""
    folder = tmp_path_factory.mktemp("old")
    shutil.copytree(golden.work / "old", folder, dirs_exist_ok=True)
    return folder


def renamed(value):
    """A recorded recipe with the keys and names of today."""
    if isinstance(value, dict):
        return {KEYS.get(name, name): renamed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [renamed(one) for one in value]
    return VALUES["trained on"].get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_an_older_version_has_every_step_done(golden: Golden, old: Path, kind: str):
    before = {path: path.read_bytes() for path in old.glob("store/steps/*/*") if path.is_file()}
    argv = ("run", f"recipes/golden_{kind}.yaml", "--store", str(old / "store"), "--workers", "1")
    status, out, err = golden_files.call(argv, golden.work)
    assert status == 0, f"{out}\n{err}"
    after = {path: path.read_bytes() for path in old.glob("store/steps/*/*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    new = {path.parent.name.rpartition("-")[0] for path in after.keys() - before.keys()}
    assert new == ({"judge"} if kind == "cross_task" else set()), "the verdicts of the authors' phrases alone are new"
    name = f"results-golden_{kind}.json"
    saved, written = (json.loads((old / at / name).read_text("utf-8")) for at in ("", f"store/reports/golden_{kind}"))
    for key in ("buckler", "python", "libraries"):
        del saved["record"][key], written["record"][key]
    saved = read_results(saved, name).to_json()  # labels under the names of today
    saved["record"]["recipe"] = renamed(saved["record"]["recipe"])
    assert saved["record"].pop("recipe_id") and written["record"].pop("recipe_id")  # the hash of the recipe, keys included
    for arm in written["arms"]:
        assert arm["steps"].pop("second_verdicts", "").startswith("judge-") == (kind == "cross_task")
    assert list(golden_files.differences(saved, written))[:10] == []


@pytest.mark.parametrize("kind", KINDS)
def test_results_of_an_older_version_are_computed_anew_from_its_store_as_saved(golden: Golden, old: Path, tmp_path, kind: str):
    argv = ("report", str(old / f"results-golden_{kind}.json"), "--store", str(old / "store"), "--out", str(tmp_path))
    status, out, err = golden_files.call(argv, golden.work)
    assert status == 0, f"{out}\n{err}"
    assert "identical to the saved ones" in out


def test_answers_of_an_older_evaluation_are_judged_as_they_were(golden: Golden, old: Path, tmp_path):
    argv = ("judge", str(old / "evaluate/answers.jsonl"), "--out", str(tmp_path), "--judge", "keyword")
    status, out, err = golden_files.call(argv, golden.work)
    assert status == 0, f"{out}\n{err}"
    for name in ("verdicts.jsonl", "metrics.json"):
        wanted, found = (golden_files.read(folder / name) for folder in (old / "evaluate", tmp_path))
        assert list(golden_files.differences(wanted, found))[:10] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_old_store_holds_the_steps_of_its_plan(old: Path, step_keys, kind: str):
    done = {path.parent.name for path in old.glob("store/steps/*/step.json")}
    assert {key for _, key in step_keys[f"golden_{kind}"]} <= done


def test_a_run_gives_the_same_files_in_a_fresh_folder(golden: Golden, tmp_path):
    run = BY_NAME["attack-identity"]
    again = Golden((tmp_path / "another place").resolve())
    assert list(golden_files.differences(golden.found(run), again.found(run))) == []


@pytest.mark.parametrize("name", [*PACKAGED, *(f"golden_{kind}" for kind in KINDS)])
def test_every_step_is_known_by_the_key_it_had(step_keys: dict[str, list[list[str]]], name: str):
    from buckler.experiments.registry import plan_of, read_recipe
    from buckler.workflow.step import in_order

    folder = ROOT / "recipes" if name in PACKAGED else GOLDEN / "recipes"
    recipe = read_recipe(folder / f"{name}.yaml")
    had = [key for _, key in step_keys[name]]
    found = [step.former_key for step in in_order(plan_of(recipe).targets)]
    assert [key for key in found if key in had] == had, "the verdicts of the authors' phrases are new"
