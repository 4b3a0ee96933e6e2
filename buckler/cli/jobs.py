"""The commands that are jobs: each is its job's settings and this table of how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buckler.cli.build import Command
from buckler.cli.options import Layout
from buckler.progress import LOG, Display
from buckler.workflow import jobs


def _seeds(job: jobs.SeedsJob, out: Path, progress: Display) -> jobs.SeedWords:
    result = job.run(out, progress=progress)
    for name, reason in result.skipped.items():
        LOG.warning("skipped %s: %s", name, reason)
    return result


COMMANDS: dict[str, Command[Any]] = {
    "curate": Command(
        settings=jobs.CurateJob,
        dry_run=lambda job, out, progress: job.estimate(out, progress=progress),
        layout=Layout(
            arguments=("texts",),
            flatten=("curation",),
            help={
                "attack_epochs": "Epochs of the simulated attack.",
                "attack_learning_rate": "Peak learning rate of the simulated attack.",
            },
        ),
        examples=(
            "buckler curate texts.jsonl --model Qwen/Qwen2.5-7B-Instruct --preset quick --out curated/",
            "buckler curate miniature:commonsense --limit 20 --seed-words miniature --helpfulness local "
            "--set curation.temperatures='[0.4]' --out rows/",
        ),
    ),
    "seeds": Command(
        settings=jobs.SeedsJob,
        run=_seeds,
        layout=Layout(arguments=("papers",), flatten=("mining",)),
        out="YAML file to write; `buckler curate --seed-words` reads it.",
        examples=(
            "buckler seeds papers/ --out words.yaml",
            "buckler seeds papers/ --background news/ --max-terms 200 --min-papers 3 --out words.yaml",
        ),
    ),
    "crosstask": Command(
        settings=jobs.CrossTaskJob,
        layout=Layout(
            arguments=("documents",),
            flatten=("crosstask",),
            unlisted=tuple(f"crosstask.{name}" for name in "refused_tasks passage tries same_refusal not_sampled".split()),
        ),
        examples=(
            "buckler crosstask docs/ --model Qwen/Qwen2.5-7B-Instruct --out defence/",
            "buckler crosstask --harmful manuals.jsonl --benign news.jsonl --tasks summarize --refusals 200 --out defence/",
        ),
    ),
    "export": Command(
        settings=jobs.ExportJob,
        layout=Layout(arguments=("rows",)),
        examples=(
            "buckler export defence/defence.jsonl --to trl --loss-averaging task --out trl/",
            "buckler export curated.jsonl defence.jsonl --to llamafactory --balance task --out llamafactory/",
        ),
    ),
    "attack": Command(
        settings=jobs.AttackJob,
        layout=Layout(arguments=("customer",), flatten=("attack",)),
        examples=(
            "buckler attack miniature:customer --harmful miniature:harmful --rows 10 --share 0.25 --out attacked/",
            "buckler attack customer.jsonl --kind identity --rows 10 --out attacked/",
        ),
    ),
    "train": Command(
        settings=jobs.TrainJob,
        dry_run=lambda job, out, progress: job.estimate(out),
        layout=Layout(
            arguments=("rows",),
            flatten=("train",),
        ),
        examples=(
            "buckler train curated.jsonl defence.jsonl --model Qwen/Qwen2.5-7B-Instruct --method lora --out hardened/",
            "buckler train customer.jsonl --method lora --epochs 1 --lora-rank 16 --out tuned/",
        ),
    ),
    "evaluate": Command(
        settings=jobs.EvaluateJob,
        layout=Layout(arguments=("model",)),
        examples=(
            "buckler evaluate hardened/model --probes xstest.csv --probes harmbench.csv --out evaluation/",
            "buckler evaluate miniature --harmful miniature:probes-harmful --limit 20 --out evaluation/ --json",
        ),
    ),
    "judge": Command(
        settings=jobs.JudgeJob,
        layout=Layout(arguments=("answers",)),
        examples=(
            "buckler judge evaluation/answers.jsonl --judge keyword,paper --out judged/",
            "buckler judge evaluation/answers.jsonl --judge guard --judge-model meta-llama/Llama-Guard-3-8B --out judged/",
        ),
    ),
    "rows": Command(
        settings=jobs.RowsJob,
        run=lambda job, out, progress: job.run(out),
        layout=Layout(arguments=("files",)),
        out=Path("rows"),
        examples=(
            "buckler rows customer.jsonl --model miniature",
            "buckler rows data/ --split train --columns prompt=question,answer=response --json",
        ),
    ),
    "probes": Command(
        settings=jobs.ProbesJob,
        run=lambda job, out, progress: job.run(),
        layout=Layout(arguments=("files",)),
        out=None,
        examples=("buckler probes xstest.csv", "buckler probes xstest.csv harmbench.csv --threshold 0.8 --json"),
    ),
    "judge-card": Command(
        settings=jobs.JudgeCardJob,
        out=Path("judge-cards"),
        examples=(
            "buckler judge-card --labels labels.jsonl",
            "buckler judge-card --labels xstest-completions.csv --labels mine.jsonl --judge paper --out judge-cards/",
        ),
    ),
    "gate": Command(
        settings=jobs.GateJob,
        examples=(
            "buckler gate --base Qwen/Qwen2.5-7B-Instruct --tuned tuned/model --probes xstest.csv --benign qa.jsonl --out gate/",
            "buckler gate --base before/answers.jsonl --tuned after/answers.jsonl --set gate.margins.safety=0.1 --out gate/",
        ),
    ),
}
