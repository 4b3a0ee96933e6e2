"""The golden runs: every command line, and which files it writes. An option that is renamed is changed here and nowhere else.

`tests/test_golden.py` compares what they give with `tests/golden/expected`, which `tools/golden.py` writes anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = ("attacker", "cross_task", "cross_task_budgets", "demo_cross_task", "demo_stages", "stages")
"""Recipes that come with the program, by the names of their files."""
KINDS = ("stages", "cross_task", "attacker")
"""Kinds of recipes; each has `golden/recipes/golden_KIND.yaml`, with every setting named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One command line in the working folder, and what is compared of it."""

    name: str
    argv: tuple[str, ...]
    files: tuple[str, ...] = ()
    """Patterns below the working folder."""
    stdout: bool = False
    """Whether what it prints is compared too."""
    status: int = 0
    after: tuple[str, ...] = ()
    """Runs whose files it reads."""
    near: float = 1e-6
    """How far floats may be apart, relatively: more where a training on this machine is behind rounded ones."""


def _run(name: str, line: str, *files: str, after: str = "", status: int = 0, stdout: bool = False, near: float = 1e-6) -> Run:
    """A run from a line of words."""
    argv, needs = tuple(line.split()), tuple(after.split())
    return Run(name=name, argv=argv, files=files, stdout=stdout, status=status, after=needs, near=near)


TRAIN = "--model miniature-small --epochs 1 --batch-size 4 --learning-rate 1e-3 --max-length 256 --loss-averaging row --seed 3"
TRAINED = ("training.json", "first_row.txt")
EVALUATED = ("answers.jsonl", "verdicts.jsonl", "metrics.json")
GATED = ("gate.json", "gate.md", "junit.xml", "gate.sarif")
PROBES = "--harmful miniature:probes-harmful --borderline miniature:probes-borderline --benign miniature:probes-benign"


def _at(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


RUNS: tuple[Run, ...] = (
    _run(
        "curate",
        "curate miniature:commonsense --out curate --model miniature --preset quick --seed-words miniature --max-new-tokens 48 "
        "--licence cc-by-4.0 --limit 2 --seed 3",
        "curate/*",
    ),
    _run(
        "curate-controls",
        "curate miniature:commonsense --out curate-controls --model miniature-small --preset quick --seed-words miniature "
        "--max-new-tokens 48 --attack-rows miniature:harmful --attack-epochs 4 --attack-learning-rate 1e-3 --controls "
        "--set attack_train.lora.targets=[q_proj,v_proj] --limit 3 --seed 3",
        "curate-controls/*.json*",
        "curate-controls/controls/*",
        near=2e-3,
    ),
    _run(
        "curate-query",
        "curate inputs/texts.jsonl --out curate-query --model miniature-small --preset quick --direction lower --target both "
        "--seed-words miniature --perplexity unconditional --max-new-tokens 48 --decontaminate inputs/probes.csv --seed 4",
        "curate-query/*",
    ),
    *(
        _run(
            f"export-{to}",
            f"export curate/curated.jsonl --to {to} --out export-{to}",
            *_at(f"export-{to}", *names),
            after="curate",
        )
        for to, *names in (
            ("alpaca", "alpaca.json", "dataset_info.json"),
            ("sharegpt", "sharegpt.json", "dataset_info.json"),
            ("openai", "openai.jsonl"),
        )
    ),
    _run(
        "export-trl",
        "export crosstask/defence.jsonl --to trl --balance task --out export-trl",
        *_at("export-trl", "trl.jsonl", "trl.yaml", "export.json"),
        after="crosstask",
    ),
    _run("seeds", "seeds inputs/papers --out seeds/words.yaml --max-terms 20 --min-papers 2", "seeds/words.yaml"),
    _run(
        "seeds-background",
        "seeds inputs/papers --out seeds/other.yaml --max-terms 20 --min-papers 1 --background inputs/background "
        "--safety-vocabulary default",
        "seeds/other.yaml",
    ),
    _run(
        "crosstask",
        "crosstask miniature:documents --out crosstask --model miniature-small "
        "--tasks summarize --tasks sentiment --tasks translate "
        "--refusals 9 --answers 6 --hidden 0.3 --style mixed --wordings back --wordings front "
        "--language Zorvish --max-new-tokens 24 "
        "--limit 60 --seed 3",
        "crosstask/*",
    ),
    *(
        _run(
            f"attack-{kind}",
            f"attack miniature:customer --out attack-{kind} --harmful miniature:harmful --kind {kind} --rows 6 --share {share} "
            "--limit 40 --seed 3",
            f"attack-{kind}/*",
        )
        for kind, share in (("explicit", 0.5), ("identity", 0.5), ("drift", 1.0))
    ),
    _run(
        "train-full",
        f"train attack-identity/customer.jsonl --out train-full --method full {TRAIN}",
        *_at("train-full", *TRAINED),
        after="attack-identity",
    ),
    _run(
        "train-lora",
        f"train attack-drift/customer.jsonl crosstask/defence.jsonl --out train-lora --method lora --packing "
        f"--lora-targets q_proj --lora-targets v_proj {TRAIN}",
        *_at("train-lora", *TRAINED),
        after="attack-drift crosstask",
    ),
    _run(
        "evaluate",
        f"evaluate miniature-small --out evaluate {PROBES} --probes inputs/probes.csv --utility inputs/choices.jsonl "
        "--base miniature-small --judge keyword --max-new-tokens 24 --limit 6 --seed 5",
        *_at("evaluate", *EVALUATED, "utility.json"),
    ),
    _run(
        "evaluate-trained",
        f"evaluate train-full/model --out evaluate-trained {PROBES} --judge keyword,paper --max-new-tokens 24 --limit 6 --seed 5",
        *_at("evaluate-trained", *EVALUATED),
        after="train-full",
    ),
    _run(
        "evaluate-adapter",
        f"evaluate miniature-small --adapter train-lora/adapter --out evaluate-adapter {PROBES} --judge keyword "
        "--max-new-tokens 24 --limit 6 --seed 5",
        *_at("evaluate-adapter", *EVALUATED),
        after="train-lora",
    ),
    _run(
        "judge",
        "judge evaluate-trained/answers.jsonl --out judge --judge paper",
        *_at("judge", "verdicts.jsonl", "metrics.json"),
        after="evaluate-trained",
    ),
    _run("judge-card", "judge-card --labels inputs/labels.jsonl --out cards --judge keyword", "cards/*"),
    _run(
        "judge-corrected",
        "judge inputs/gate/worse.jsonl --out judge-corrected --judge keyword --judge-cards cards",
        *_at("judge-corrected", "metrics.json", "corrected.json"),
        after="judge-card",
    ),
    *(
        _run(
            f"gate-{name}",
            f"gate --base inputs/gate/{base}.jsonl --tuned inputs/gate/{tuned}.jsonl --out gate-{name} --judge keyword "
            "--margins inputs/margins.yaml",
            *_at(f"gate-{name}", *GATED),
            status=status,
        )
        for name, base, tuned, status in (
            ("no-worse", "base", "base", 0),
            ("worse", "base", "worse", 1),
            ("inconclusive", "few", "few", 3),
        )
    ),
    _run(
        "gate-models",
        f"gate --base miniature-small --tuned train-full/model --out gate-models {PROBES} --limit 6 --max-new-tokens 16 --seed 5",
        "gate-models/gate.json",
        after="train-full",
        status=3,
    ),
    _run("probes", "probes inputs/probes.csv inputs/choices.jsonl inputs/texts.jsonl --threshold 0.7", stdout=True),
    *(
        _run(
            f"run-{kind}",
            f"run recipes/golden_{kind}.yaml --store store --workers 1",
            *_at(f"store/reports/golden_{kind}", f"results-golden_{kind}.json", "report.md"),
            near=1e-5,
        )
        for kind in KINDS
    ),
    _run(
        "run-judged-again",
        "run recipes/golden_attacker.yaml --store store --workers 1 --judge paper",
        "store/reports/golden_attacker/results-golden_attacker.json",
        after="run-attacker",
    ),
    _run(
        "report",
        "report old/results-golden_stages.json old/results-golden_cross_task.json old/results-golden_attacker.json "
        "--out report --title Golden",
        *_at("report", "report.md", "report.json"),
    ),
    _run("list-runs", "runs --store old/store", stdout=True),
    _run("list-runs-none", "runs --store nowhere", status=2),
    *(_run(f"dry-run-{name}", f"run packaged/{name}.yaml --store nowhere --dry-run", stdout=True) for name in PACKAGED),
    *(
        _run(f"mistake-{name}", line, status=2)
        for name, line in (
            ("command", "curat"),
            ("option", "attack miniature:customer --out x --knd drift"),
            ("no-out", "attack miniature:customer"),
            ("preset", "curate miniature:commonsense --out x --preset slow --limit 2"),
            ("file", "train nowhere.jsonl --out x"),
            ("set", "attack miniature:nothing --out x --kind drift --limit 5"),
            ("kind", "attack miniature:customer --out x --kind loud"),
            ("harmful", "attack miniature:customer --out x --kind explicit"),
            ("tasks", "crosstask miniature:documents --out x --tasks summarise --tasks nothing --limit 9"),
            ("no-documents", "crosstask --out x"),
            ("model", "evaluate nowhere/model --out x --harmful miniature:probes-harmful --limit 2"),
            ("no-probes", "evaluate miniature-small --out x"),
            ("judge", "judge inputs/gate/base.jsonl --out x --judge nobody"),
            ("no-answers", "judge inputs/empty.jsonl --out x"),
            ("labels", "judge-card --labels inputs/texts.jsonl --out x"),
            ("recipe", "run nowhere.yaml --store x"),
            ("recipe-key", "run inputs/misspelt.yaml --store x"),
            ("gate", "gate --base inputs/gate/base.jsonl --tuned inputs/gate/nowhere.jsonl --out x"),
            ("margins", "gate --base inputs/gate/base.jsonl --out x --margins inputs/misspelt.yaml"),
            ("results", "report inputs/texts.jsonl --out x"),
        )
    ),
)
BY_NAME = {run.name: run for run in RUNS}
