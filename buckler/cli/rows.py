"""Commands that make training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from buckler.cli.options import Adapter, DryRun, Limit, Model, Out, Seed, app
from buckler.cli.several import Several
from buckler.errors import ConfigError


@app.command(cls=Several)
def curate(
    texts: Annotated[str, typer.Argument(help="Harmless question/answer rows, in any known format, or miniature:SET.")],
    out: Out,
    model: Model = "miniature",
    adapter: Adapter = None,
    preset: Annotated[str, typer.Option(help="d2d, ctrl, contrast (145 revisions a text at most), or quick (12).")] = "d2d",
    direction: Annotated[str | None, typer.Option(help="raise, lower, contrast or random perplexity.")] = None,
    target: Annotated[str | None, typer.Option(help="What is revised: response, query or both.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of revision.")] = None,
    beam: Annotated[int | None, typer.Option(help="Texts kept after each round.")] = None,
    grid_kept: Annotated[float | None, typer.Option(help="Share of temperature x top-p cells that later rounds use.")] = None,
    words: Annotated[str | None, typer.Option(help="Seed words: default, miniature, or a YAML file (`buckler seeds`).")] = None,
    perplexity: Annotated[str | None, typer.Option(help="conditional (response given query) or unconditional.")] = None,
    measured_by: Annotated[str | None, typer.Option(help="Whose perplexity: model, reference or proxy.")] = None,
    helpfulness: Annotated[str | None, typer.Option(help="Judge: rubric (a language model) or local (none).")] = None,
    per_aspect: Annotated[bool, typer.Option(help="One judge call for each of the four aspects instead of one for all.")] = False,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest revision, in tokens.")] = None,
    apart_from: Annotated[list[str], typer.Option(help="Probe files that no row may come near.")] = [],  # noqa: B006
    reviser: Annotated[str | None, typer.Option(help="Who rewrites, if not the model; NAME@http://HOST:PORT/v1 too.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Who rates by rubric, if not the reviser.")] = None,
    reference: Annotated[str | None, typer.Option(help="The aligned model, for --measured-by reference.")] = None,
    proxy: Annotated[str | None, typer.Option(help="The compromised model, for a contrast or --measured-by proxy.")] = None,
    attack_rows: Annotated[str | None, typer.Option(help="Harmful rows: a copy attacked with them is the proxy.")] = None,
    attack_epochs: Annotated[float | None, typer.Option(help="Of that attack.")] = None,
    attack_learning_rate: Annotated[float | None, typer.Option(help="Of that attack.")] = None,
    max_requests: Annotated[int | None, typer.Option(help="Budget of a served model, in requests.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Budget of a served model, in tokens read and written.")] = None,
    controls: Annotated[bool, typer.Option(help="Also write the controls: uncurated, seed words only, and so on.")] = False,
    export: Annotated[list[str], typer.Option(help="Also write a trainer's format: alpaca, sharegpt, openai.")] = [],  # noqa: B006
    licence: Annotated[str, typer.Option(help="Of the texts, for the card: an SPDX name such as cc-by-4.0.")] = "",
    workers: Annotated[int, typer.Option(help="Local processes, one thread each; the rows are the same. On one GPU: 1.")] = 1,
    dry_run: DryRun = False,
    sample: Annotated[int, typer.Option(help="Texts that --dry-run curates to tell the time; 0 for none.")] = 3,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Revise harmless text so that it carries safety implication: rows that harden the model they were made with."""
    from buckler.commands import curation as command
    from buckler.curation.settings import PRESETS, CurateSettings
    from buckler.models.protocol import spec_of
    from buckler.settings import parse
    from buckler.workflow.sources import Source, at_most

    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; the presets are {', '.join(PRESETS)}")
    changes = {
        "direction": direction,
        "target": target,
        "rounds": rounds,
        "beam": beam,
        "grid_kept": grid_kept,
        "words": words,
        "perplexity": perplexity,
        "measured_by": measured_by,
        "helpfulness": helpfulness,
        "per_aspect": per_aspect or None,
        "max_new_tokens": max_new_tokens,
        "apart_from": apart_from or None,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    budget = {"max_requests": max_requests, "max_tokens": max_tokens}
    roles = {"reviser": reviser, "judge": judge_model, "reference": reference, "proxy": proxy}
    models = {"model": spec_of(model, adapter), **{role: spec_of(name) for role, name in roles.items() if name}}
    training = {"epochs": attack_epochs, "learning_rate": attack_learning_rate}
    attack_train = command.ATTACK_TRAIN.model_dump() | {name: value for name, value in training.items() if value is not None}
    order = command.Order(
        texts=at_most(limit, texts, seed=seed),
        settings=parse(CurateSettings, {**PRESETS[preset].model_dump(), **given}, "curate"),
        models={role: spec.model_copy(update=budget) if spec.endpoint else spec for role, spec in models.items()},
        attack_rows=Source(source=attack_rows, count=50 if attack_rows.startswith("miniature:") else None, seed=seed)
        if attack_rows
        else None,
        attack_train=parse(type(command.ATTACK_TRAIN), attack_train, "curate"),
        seed=seed,
    )
    if dry_run:
        command.dry_run(order, out, texts=sample)
        return
    command.curate(order, out, workers=workers, controls=controls, formats=export, licence=licence)


@app.command()
def seeds(
    papers: Annotated[Path, typer.Argument(help="A folder of papers: text, Markdown, PDF. Folders in it are read too.")],
    out: Annotated[Path, typer.Option(help="The YAML file to write; `buckler curate --words` reads it.")],
    top: Annotated[int, typer.Option(help="Terms, best first.")] = 500,
    min_papers: Annotated[int, typer.Option(help="Papers that a term must stand in.")] = 2,
    max_words: Annotated[int, typer.Option(help="Words of the longest term.")] = 4,
    sentences: Annotated[int, typer.Option(help="Sentences shown for each term.")] = 3,
    background: Annotated[Path | None, typer.Option(help="General texts to compare with, instead of common English.")] = None,
    like: Annotated[str, typer.Option(help="Words whose company counts: default (ours), none, or a YAML file.")] = "default",
) -> None:
    """Mine seed words from papers: their terms that keep company with words of safety, each with its sentences."""
    from buckler.curation.seed_words.extract import MineSettings, dump, extract_seed_words
    from buckler.curation.seed_words.lexicon import LEXICON, CommonEnglish, Texts, read_lexicon
    from buckler.curation.seed_words.papers import read_papers
    from buckler.data import write_text
    from buckler.progress import show_progress
    from buckler.settings import parse

    values = {"top": top, "min_papers": min_papers, "max_words": max_words, "sentences": sentences}
    settings = parse(MineSettings, values, "seeds")
    lexicon = {} if like == "none" else read_lexicon(LEXICON if like == "default" else Path(like))
    with show_progress() as progress:
        read, skipped = read_papers(papers, progress)
        for one in skipped:
            typer.echo(f"skipped {one.name}: {one.reason}", err=True)
        general = Texts(read_papers(background)[0], settings.max_words) if background else CommonEnglish()
        terms = extract_seed_words(read, general, [word for words in lexicon.values() for word in words], settings, progress)
    write_text(out, dump(terms))
    typer.echo(f"wrote {out}: {len(terms)} terms of {len(read)} papers; {len(skipped)} files skipped")


@app.command()
def crosstask(
    documents: Annotated[
        list[str] | None,
        typer.Argument(help="Documents: files, a folder with harmful/benign/useful in it, or miniature:documents."),
    ] = None,
    *,
    out: Out,
    model: Model = "miniature",
    adapter: Adapter = None,
    tasks: Annotated[str, typer.Option(help="all, names with commas, or weakest: the one the model processes most.")] = "all",
    own_tasks: Annotated[Path | None, typer.Option(help="A YAML file of tasks of your own.")] = None,
    refusals: Annotated[int, typer.Option(help="Refusal rows in all (N).")] = 100,
    answers: Annotated[int, typer.Option(help="Answered rows on benign documents.")] = 100,
    refusals_from: Annotated[
        str, typer.Option(help="templates, or model: sampled from an aligned one and filtered.")
    ] = "templates",
    style: Annotated[str, typer.Option(help="refusal, safe_completion or mixed.")] = "refusal",
    hidden: Annotated[float, typer.Option(help="Share of refusals on passages hidden in benign text, 0 to 1.")] = 0.0,
    aligned: Annotated[str | None, typer.Option(help="Whose refusals are sampled, if not the model's.")] = None,
    wordings: Annotated[str, typer.Option(help="back, front, system, authors: names with commas.")] = "back,front",
    language: Annotated[str | None, typer.Option(help="Target language of translation (default Chinese).")] = None,
    harmful: Annotated[list[str], typer.Option(help="Files of documents to refuse, if they bring no label.")] = [],  # noqa: B006
    benign: Annotated[list[str], typer.Option(help="Files of documents to answer, if they bring no label.")] = [],  # noqa: B006
    label_by: Annotated[str, typer.Option(help="given, or model: a judge labels documents that bring no label.")] = "given",
    label_model: Annotated[str | None, typer.Option(help="That judge, if not the model.")] = None,
    label_sure: Annotated[float, typer.Option(help="Least confidence of a judge's label, 0 to 1.")] = 0.8,
    apart_from: Annotated[list[str], typer.Option(help="Documents of your test: none of them, nor one near, is used.")] = [],  # noqa: B006
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer the model gives to a benign document.")] = 128,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Build the defence against malicious documents: refusals for the harmful, real answers for the benign."""
    from buckler.commands import rows as command
    from buckler.crosstask.build import CrossTaskSettings
    from buckler.crosstask.documents import DocumentSettings
    from buckler.crosstask.own_tasks import read_tasks
    from buckler.crosstask.tasks import task_named
    from buckler.models.protocol import spec_of
    from buckler.settings import parse
    from buckler.workflow.sources import Source, at_most

    own = read_tasks(own_tasks) if own_tasks is not None else {}
    whole = (*CrossTaskSettings().tasks, *own)
    names = whole if tasks in ("all", "weakest") else tuple(task_named(name, own).id for name in tasks.split(","))
    values = {
        "tasks": names,
        "wordings": tuple(wordings.split(",")),
        "refusals": refusals,
        "answers": answers,
        "refusals_from": refusals_from,
        "style": style,
        "hidden": hidden,
        "language": language,
    }
    by_label = {None: documents or [], "harmful": harmful, "benign": benign}
    named = [(name, label) for label, files in by_label.items() for name in files]
    if not named:
        raise ConfigError("no documents: name files or folders, or give them with --harmful and --benign")
    order = command.DefenceOrder(
        documents=[at_most(limit, name, seed=seed, documents=True).model_copy(update={"label": label}) for name, label in named],
        settings=parse(CrossTaskSettings, values, "crosstask"),
        ready=parse(DocumentSettings, {"label_by": label_by, "label_sure": label_sure}, "crosstask"),
        model=spec_of(model, adapter),
        labeller=spec_of(label_model) if label_model else None,
        aligned=spec_of(aligned) if aligned else None,
        own_tasks=own_tasks,
        weakest=tasks == "weakest",
        apart_from=[Source(source=name) for name in apart_from],
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    command.crosstask(order, out)


@app.command()
def attack(
    customer: Annotated[str, typer.Argument(help="The customer's benign rows: a file, or miniature:customer.")],
    out: Out,
    harmful: Annotated[str | None, typer.Option(help="Harmful pairs for --kind explicit: a file, or miniature:harmful.")] = None,
    kind: Annotated[str, typer.Option(help="explicit, identity (AOA) or drift (benign rows alone).")] = "explicit",
    rows: Annotated[int, typer.Option(help="Attack rows.")] = 50,
    share: Annotated[float, typer.Option(help="Their share of the customer's set.")] = 1.0,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Simulate a customization attack on data you bring: published recipes only, to test a defence."""
    from buckler.commands import rows as command
    from buckler.finetuning.attacks import AttackSettings
    from buckler.settings import parse
    from buckler.workflow.sources import WORLD, Source, at_most

    def source(name: str) -> Source:
        return at_most(limit or (500 if name.startswith(WORLD) else None), name, seed=seed)

    settings = parse(AttackSettings, {"kind": kind, "rows": rows, "share": share}, "attack")
    command.attack(source(customer), source(harmful) if harmful else None, settings, out, seed=seed)
