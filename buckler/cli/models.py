"""Commands that train, measure and compare models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from buckler.cli.options import (
    Adapter,
    Benign,
    Borderline,
    Harmful,
    JudgeCards,
    JudgeModel,
    JudgeOption,
    Limit,
    MaxNewTokens,
    Metric,
    Model,
    Out,
    OwnTasks,
    Probes,
    Seed,
    ShowUnsafe,
    app,
    probe_sources,
)
from buckler.cli.several import Several
from buckler.errors import ConfigError


@app.command()
def train(
    rows: Annotated[list[str], typer.Argument(help="Training rows: one or more files in any known format.")],
    out: Out,
    model: Model = "miniature",
    adapter: Adapter = None,
    method: Annotated[str, typer.Option(help="full or lora.")] = "lora",
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Peak; linear decay to 0.")] = 2e-5,
    batch_size: Annotated[int, typer.Option(help="Rows an optimizer step, in all.")] = 16,
    accumulation: Annotated[int, typer.Option(help="Micro-batches an optimizer step (same loss, less memory).")] = 1,
    packing: Annotated[bool, typer.Option(help="Several rows in one sequence (same loss, less padding).")] = False,
    processes: Annotated[int, typer.Option(help="Processes that share every step (same loss): one for each GPU.")] = 1,
    max_length: Annotated[int, typer.Option(help="Tokens a row; documents are cut, answers never.")] = 1024,
    job: Annotated[
        Path | None,
        typer.Option(help="Write this job for `accelerate launch -m buckler.finetuning JOB` instead of training here."),
    ] = None,
    average: Annotated[str, typer.Option(help="Of the loss: token, row (single-task) or task (mixed-task).")] = "row",
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Fine-tune a model on rows: a defence's, a customer's, or both. Leaves a plain model folder."""
    from buckler.commands import models as command
    from buckler.finetuning.train import TrainSettings
    from buckler.models.protocol import spec_of
    from buckler.settings import parse
    from buckler.workflow.sources import at_most

    values = {
        "method": method,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "packing": packing,
        "processes": processes,
        "max_length": max_length,
        "objective": {"average": average},
    }
    sources = [at_most(limit, name, seed=seed) for name in rows]
    if job is not None:
        command.write_job(sources, spec_of(model, adapter), parse(TrainSettings, values, "train"), out, job, seed=seed)
        return
    command.train(sources, spec_of(model, adapter), parse(TrainSettings, values, "train"), out, seed=seed)


@app.command(cls=Several)
def evaluate(
    model: Annotated[str, typer.Argument(help="`miniature`, a local folder, a hub id, or NAME@http://HOST:PORT/v1.")],
    out: Out,
    adapter: Adapter = None,
    probes: Probes = [],  # noqa: B006
    harmful: Harmful = [],  # noqa: B006
    borderline: Borderline = [],  # noqa: B006
    benign: Benign = [],  # noqa: B006
    utility: Annotated[list[str], typer.Option(help="Multiple-choice rows (MMLU, ARC, BoolQ, PIQA, CommonsenseQA).")] = [],  # noqa: B006
    official: Annotated[str | None, typer.Option(help="Tasks of lm-evaluation-harness, with commas: run by the harness.")] = None,
    official_tasks: Annotated[str | None, typer.Option(help="A folder of such tasks of your own (YAML).")] = None,
    judge: JudgeOption = "keyword",
    judge_model: JudgeModel = None,
    judge_cards: JudgeCards = Path("judge-cards"),
    metric: Metric = [],  # noqa: B006
    base: Annotated[str | None, typer.Option(help="An untouched model: answers that it takes for noise are incoherent.")] = None,
    max_new_tokens: MaxNewTokens = 256,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Ask a model probes and judge its answers: safety, over-refusal, coherence and utility with intervals."""
    from buckler.commands import models as command
    from buckler.judges.named import judge_spec
    from buckler.models.protocol import spec_of
    from buckler.workflow.sources import at_most

    tasks = [name.strip() for name in official.split(",")] if official is not None else []
    if not all(tasks):
        raise ConfigError(f"--official {official!r} names an empty task; write TASK or TASK,TASK")
    if official_tasks is not None and not tasks:
        raise ConfigError(f"--official-tasks {official_tasks}: which of them? Name them with --official")
    asked = probe_sources({None: probes, "harmful": harmful, "borderline": borderline, "benign": benign}, limit, seed)
    if not asked and not utility and not tasks:
        raise ConfigError("no probes: give files with --probes, --harmful, --borderline, --benign or --utility")
    order = command.Evaluation(
        model=spec_of(model, adapter),
        probes=asked,
        utility=[at_most(limit, file, seed=seed, split="test") for file in utility],
        judge=judge_spec(judge, judge_model, seed),
        cards=judge_cards,
        metrics=metric,
        max_new_tokens=max_new_tokens,
        base=spec_of(base) if base else None,
        official=tasks,
        official_tasks=official_tasks,
        limit=limit,
    )
    command.evaluate(order, out)


@app.command("judge")
def judge_again(
    answers: Annotated[list[Path], typer.Argument(help="answers.jsonl files that Buckler wrote.")],
    out: Out,
    judge: JudgeOption = "keyword",
    judge_model: JudgeModel = None,
    judge_cards: JudgeCards = Path("judge-cards"),
    own_tasks: OwnTasks = None,
    metric: Metric = [],  # noqa: B006
    seed: Seed = 0,
) -> None:
    """Judge saved answers again, without the model that gave them: verdicts, every number, a table."""
    from buckler.commands.judging import judge_again as command
    from buckler.judges.named import judge_spec

    command(judge_spec(judge, judge_model, seed), answers, out, cards=judge_cards, own_tasks=own_tasks, metrics=metric)


@app.command("probes")
def look_at_probes(
    files: Annotated[list[str], typer.Argument(help="Probe or utility files, or hub data sets (owner/name:config@split).")],
    threshold: Annotated[float, typer.Option(help="Share of common word triples from which two rows are nearly the same.")] = 0.7,
) -> None:
    """Say what probe files hold: format, what should be refused, categories, repeated rows, rows that two files share."""
    from buckler.commands.probes import probes

    probes(files, threshold=threshold)


@app.command("judge-card", cls=Several)
def judge_card(
    labels: Annotated[
        list[Path], typer.Option(help="Answers that people labelled: XSTest completions, or rows of prompt, text, label.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of judge cards.")] = Path("judge-cards"),
    judge: JudgeOption = "keyword",
    judge_model: JudgeModel = None,
    seed: Seed = 0,
) -> None:
    """Measure a judge against people: accuracy, precision, recall, kappa with intervals, by category and model."""
    from buckler.commands.judging import judge_card as command
    from buckler.judges.named import judge_spec

    command(judge_spec(judge, judge_model, seed), labels, out)


@app.command(cls=Several)
def gate(
    base: Annotated[str, typer.Option(help="The model before: a name as for evaluate, or saved answers (file or folder).")],
    out: Out,
    tuned: Annotated[str | None, typer.Option(help="The model after: likewise, or an adapter for the base.")] = None,
    adapter: Annotated[str | None, typer.Option(help="A PEFT adapter to put on --tuned, or on --base without one.")] = None,
    probes: Probes = [],  # noqa: B006
    harmful: Harmful = [],  # noqa: B006
    borderline: Borderline = [],  # noqa: B006
    benign: Benign = [],  # noqa: B006
    judge: Annotated[str, typer.Option(help="As for evaluate, or saved: verdicts beside saved answers.")] = "keyword",
    judge_model: JudgeModel = None,
    margins: Annotated[Path | None, typer.Option(help="A YAML file of margins; without one, the documented ones.")] = None,
    own_tasks: OwnTasks = None,
    max_new_tokens: MaxNewTokens = 256,
    limit: Limit = None,
    seed: Seed = 0,
    show_unsafe: ShowUnsafe = False,
) -> None:
    """Compare a tuned model with its base: exit 0 if it is no worse, 1 if it is, 3 if the probes are too few to tell."""
    from buckler.commands import gate as command
    from buckler.gating.decision import read_settings
    from buckler.judges.named import judge_spec

    command.forget(out)
    order = command.Order(
        base=base,
        tuned=tuned,
        adapter=adapter,
        probes=probe_sources({None: probes, "harmful": harmful, "borderline": borderline, "benign": benign}, limit, seed),
        judge=None if judge == command.SAVED else judge_spec(judge, judge_model, seed),
        settings=read_settings(margins),
        settings_file=margins,
        own_tasks=own_tasks,
        max_new_tokens=max_new_tokens,
    )
    raise typer.Exit(command.gate(order, out, show_unsafe=show_unsafe))
