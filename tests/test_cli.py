"""The commands, as a user runs them: what they write, that a kill loses nothing, and one clear line for every mistake.

They run in this process, but where one is killed or interrupted.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import buckler
from conftest import make_model, wait_until

ROOT = Path(__file__).parent.parent
COMMANDS = tuple(
    "demo run recipes init curate seeds crosstask attack train evaluate judge probes judge-card gate report runs doctor".split()
)

RECIPE = """
kind: stages
name: tiny
models: {miniature: {name: miniature}}
seeds: [0]
max_new_tokens: 24
data:
  texts: {source: "miniature:commonsense", count: 6}
  customer: {source: "miniature:customer", count: 12}
  harmful: {source: "miniature:harmful", count: 12}
  refusals: {source: "miniature:refusals", count: 4}
probes:
  harmful: {source: "miniature:probes-harmful", count: 9, split: test, seed: 5}
  borderline: {source: "miniature:probes-borderline", count: 6, split: test, seed: 5}
  benign: {source: "miniature:probes-benign", count: 6, split: test, seed: 5}
attacks:
  explicit: {kind: explicit, rows: 8, share: 0.5, train: {epochs: 2, learning_rate: 3.0e-4, batch_size: 4}}
curation: {rounds: 1, beam: 1, temperatures: [0.4], top_ps: [1.0], helpfulness: local, seed_words: miniature, max_new_tokens: 48}
defence_train: {epochs: 1, learning_rate: 5.0e-4, batch_size: 4}
defences:
  uncurated: {kind: uncurated, stages: [post]}
  curated: {kind: curated, stages: [post]}
"""


def recipe(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_itself(command):
    done = buckler(command, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout and len(done.stdout) > 200


def test_the_command_line_is_the_documented_one():
    listed = re.findall(r"^\W*([a-z-]+) {2,}", buckler("--help").stdout, re.MULTILINE)
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)


CHAT = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("curate", "nowhere.jsonl", "--out", "out"), "nowhere.jsonl"),
        (("curate", "broken.jsonl", "--out", "out"), "broken.jsonl:2"),
        (("curate", "good.jsonl", "--out", "out", "--model", "no-such"), "unknown model 'no-such'"),
        (("curate", "good.jsonl", "--out", "out", "--model", "bare"), "no chat template"),
        (("curate", "good.jsonl", "--out", "out", "--preset", "best"), "--preset"),
        (("curate", "good.jsonl", "--out", "out", "--direction", "up"), "direction"),
        (("curate", "good.jsonl", "--out", "out", "--direction", "contrast"), "proxy"),
        (("curate", "good.jsonl", "--out", "out", "--export", "alpaca"), "buckler export"),
        (("export", "good.jsonl", "--out", "out", "--to", "docx"), "format"),
        (("curate", "miniature:nothing", "--out", "out", "--limit", "5"), "unknown set"),
        (("curate", "miniature:commonsense", "--out", "out"), "set the number of rows with `count` or --limit"),
        (("gate", "--base", "a", "--tuned", "b", "--out", "good.jsonl/out"), "cannot be written"),
        (("crosstask", "docs.jsonl", "--out", "out"), "label"),
        (("crosstask", "--benign", "docs.jsonl", "--out", "out"), "no document is labelled harmful"),
        (("crosstask", "--harmful", "docs.jsonl", "--decontaminate", "docs.jsonl", "--out", "out"), "no usable document is left"),
        (("crosstask", "--out", "out"), "no documents"),
        (("crosstask", "docs.jsonl", "--out", "out", "--tasks", "sumarize"), "unknown task"),
        (("attack", "good.jsonl", "--out", "out", "--rows", "3"), "--harmful"),
        (("attack", "good.jsonl", "--out", "out", "--kind", "sly"), "kind"),
        (("train", "prompts.jsonl", "--out", "out"), "1 of 1 rows have no final answer to train on"),
        (("train", "good.jsonl", "--out", "out", "--epochs", "0"), "epochs"),
        (("evaluate", "miniature", "--out", "out"), "no probes"),
        (("evaluate", "miniature", "--out", "out", "--probes", "good.jsonl"), "--harmful, --borderline or --benign"),
        (
            ("evaluate", "miniature", "--out", "out", "--harmful", "good.jsonl", "--judge", "oracle"),
            "the judges are keyword, paper, rubric",
        ),
        (("run", "nowhere.yaml"), "no such file"),
        (("run", "slip.yaml"), "did you mean `seeds`"),
        (("report", "good.jsonl", "--out", "out"), "not a results file of a run"),
        (("curate", "good.jsonl", "--out", "good.jsonl"), "good.jsonl"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_two(tmp_path, arguments, message):
    (tmp_path / "good.jsonl").write_text(CHAT)
    (tmp_path / "broken.jsonl").write_text(CHAT + '{"messages": [\n' + CHAT)
    (tmp_path / "prompts.jsonl").write_text('{"messages": [{"role": "user", "content": "q"}]}\n')
    (tmp_path / "docs.jsonl").write_text('{"text": "A text."}\n')
    (tmp_path / "slip.yaml").write_text(RECIPE.replace("seeds:", "seed:"))
    if "bare" in arguments:
        make_model(tmp_path / "bare", template=False)
    done = buckler(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and message in done.stderr
    error = done.stderr[done.stderr.index("error:") :]  # the account of the rows may stand before it
    assert len([line for line in error.splitlines() if line.strip()]) == 1
    assert (tmp_path / "good.jsonl").read_text() == CHAT


@pytest.mark.slow
@pytest.mark.ml
def test_curate_writes_rows_that_datasets_reads_and_goes_on_after_a_kill(tmp_path):
    from datasets import load_dataset

    arguments = (
        "curate",
        "miniature:commonsense",
        "--limit",
        24,
        "--preset",
        "quick",
        "--seed-words",
        "miniature",
        "--max-new-tokens",
        64,
    )
    whole = buckler(*arguments, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    rows = load_dataset(
        "json", data_files=str(tmp_path / "whole" / "curated.jsonl"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert len(rows) == 24 and rows[0]["messages"][-1]["role"] == "assistant"
    assert json.loads((tmp_path / "whole" / "counts.json").read_text())["texts"] == 24
    rejected = [json.loads(line) for line in (tmp_path / "whole" / "rejected.jsonl").read_text().splitlines()]
    assert rejected and all(row["reason"] for row in rejected)

    out = tmp_path / "killed"
    _kill_when(lambda: (out / ".work" / "shared" / "cache.sqlite").exists(), *arguments, "--out", out)
    assert not (out / "curated.jsonl").exists()
    assert buckler(*arguments, "--out", out).returncode == 0
    for name in ("curated.jsonl", "rejected.jsonl", "counts.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def _kill_when(reached, *arguments: object) -> None:
    """Start a command and kill it, with all its workers, once `reached()`."""
    command = [sys.executable, "-m", "buckler", *(str(one) for one in arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: reached() or process.poll() is not None)
    assert process.poll() is None, "the command ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.ml
def test_crosstask_then_train_then_evaluate(tmp_path):
    made = buckler(
        "crosstask",
        "miniature:documents",
        "--limit",
        60,
        "--language",
        "Zorvish",
        "--refusals",
        12,
        "--answers",
        12,
        "--out",
        tmp_path,
    )
    assert made.returncode == 0, made.stderr
    rows = [json.loads(line) for line in (tmp_path / "defence.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and {row["meta"]["part"] for row in rows} == {"defence", "utility"}
    options = ("--epochs", 1, "--learning-rate", 1e-3, "--batch-size", 8, "--loss-averaging", "task", "--method", "full")
    trained = buckler("train", tmp_path / "defence.jsonl", *options, "--out", tmp_path / "t")
    assert trained.returncode == 0, trained.stderr
    assert "24 rows, 3 steps" in trained.stdout and ">>>" in trained.stdout
    probe_options = (
        "--probes",
        "miniature:probes-harmful",
        "--probes",
        "miniature:probes-benign",
        "--limit",
        6,
        "--max-new-tokens",
        24,
    )
    found = buckler("evaluate", tmp_path / "t" / "model", *probe_options, "--out", tmp_path / "e")
    assert found.returncode == 0, found.stderr
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["overall"]["answers"] == 12 and metrics["overall"]["safety_rate"]["n"] == 6
    assert len((tmp_path / "e" / "answers.jsonl").read_text().splitlines()) == 12


@pytest.mark.ml
def test_attack_writes_the_customers_rows(tmp_path):
    done = buckler(
        "attack", "miniature:customer", "--harmful", "miniature:harmful", "--rows", 10, "--share", 0.25, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "customer.jsonl").read_text().splitlines()]
    assert len(rows) == 40 and sum(row["meta"]["harmful"] for row in rows) == 10


@pytest.mark.ml
@pytest.mark.slow
def test_a_run_killed_at_several_points_ends_with_the_same_report_and_no_step_is_done_twice(tmp_path):
    whole = buckler("run", recipe(tmp_path), "--store", tmp_path / "whole", "--workers", 1)
    assert whole.returncode == 0, whole.stderr
    store = tmp_path / "killed"
    command = ("run", recipe(tmp_path), "--store", store)
    marks: dict[str, int] = {}
    for wanted in (2, 20):
        _kill_when(lambda wanted=wanted: len(list((store / "steps").glob("*/step.json"))) >= wanted, *command)
        for mark in (store / "steps").glob("*/step.json"):
            marks.setdefault(str(mark), mark.stat().st_mtime_ns)
    ended = buckler(*command, "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    for name in ("report.html", "report.md", "report.json", "results-tiny.json"):
        one, other = (folder / "reports" / "tiny" / name for folder in (tmp_path / "whole", store))
        assert one.read_bytes() == other.read_bytes(), name
    assert all(Path(mark).stat().st_mtime_ns == when for mark, when in marks.items())


@pytest.mark.ml
def test_an_interrupt_stops_at_once_with_one_line_and_leaves_no_worker(tmp_path):
    command = [sys.executable, "-m", "buckler", "run", str(recipe(tmp_path)), "--store", str(tmp_path / "s")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)
    wait_until(lambda: any((tmp_path / "s").glob("steps/answer-*")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert (
        process.returncode == 130
        and "run the same command again" in errors
        and "Traceback" not in errors
        and "leaked" not in errors
    )
    wait_until(lambda: not _alive_in(process.pid))


def _alive_in(session: int) -> list[str]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.ml
def test_a_dry_run_tells_phases_sharing_and_what_is_done_and_does_nothing(tmp_path):
    done = buckler("run", recipe(tmp_path), "--store", tmp_path / "s", "--dry-run")
    assert done.returncode == 0, done.stderr
    # base: none; none 1; uncurated post 2; curated post 2; the first phase is one for all three.
    assert "training phases: 5 asked for, 3 different ones after sharing" in done.stdout
    assert not (tmp_path / "s").exists() or not any((tmp_path / "s").rglob("step.json"))


def test_runs_of_a_store_that_is_not_there_says_how_to_start(tmp_path):
    done = buckler("runs", "--store", tmp_path / "none")
    assert done.returncode == 2 and "buckler demo" in done.stderr


def test_the_demo_finds_its_recipes_and_tells_what_it_would_do(tmp_path):
    done = buckler("demo", "--dry-run", "--store", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "demo_stages:" in done.stdout and "demo_cross_task:" in done.stdout and "steps in all, 0 done" in done.stdout
