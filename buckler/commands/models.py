"""Models: train one, measure one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from buckler.commands import common
from buckler.commands.asked import check_choices, check_probes
from buckler.data import ANSWERS, ROWS, VERDICTS, Json, read_chats, read_json, write_json, write_rows
from buckler.errors import ConfigError
from buckler.evaluation.statistics import Rate
from buckler.evaluation.utility import scorers
from buckler.finetuning.train import TrainSettings
from buckler.judges.agreement import OF_REFUSAL, corrected
from buckler.judges.card import REFUSAL_QUESTION, refusal_card
from buckler.judges.named import JudgeSpec
from buckler.models.protocol import ModelSpec
from buckler.models.registry import load
from buckler.plan import spell
from buckler.plan.spell.common import Model
from buckler.report.cells import CAUTION, FEW, unseen
from buckler.steps.official import check_tasks
from buckler.workflow.sources import Source
from buckler.workflow.store import Store

FILES = (ANSWERS, VERDICTS, "metrics.json")


def train(sources: Sequence[Source], spec: ModelSpec, settings: TrainSettings, out: Path, *, seed: int) -> None:
    """Rows and a model -> `model/` (and `adapter/`), `training.json`, `first_row.txt`."""
    step = spell.train(settings, Model.outside(spec), [spell.rows(source) for source in sources], seed, f"training {spec.name}")
    folder = common.run_one(step, out)
    common.deliver(folder, {"training.json": "training.json", "first_row.txt": "first_row.txt"}, out)
    for name in ("model", "adapter"):
        if (folder / name).exists():
            shutil.rmtree(out / name, ignore_errors=True)
            shutil.copytree(folder / name, out / name)
            common.say(f"wrote {out / name}")
    common.say("first row, what is learnt between >>> and <<<:")
    common.say((out / "first_row.txt").read_text(encoding="utf-8").strip()[:600])
    seen = cast("dict[str, Json]", read_json(out / "training.json"))
    cut, dropped = cast("list[str]", seen["cut"]), cast("list[str]", seen["dropped"])
    common.say(f"{seen['rows']} rows, {seen['steps']} steps; {len(cut)} rows had their document cut, {len(dropped)} were dropped")
    for row in dropped[:5]:
        common.say(f"  dropped, longer than max_length: {row}")


def write_job(sources: Sequence[Source], spec: ModelSpec, settings: TrainSettings, out: Path, job: Path, *, seed: int) -> None:
    """Rows and a job for `accelerate launch -m buckler.finetuning`, instead of training here."""
    rows = {row.id: row for source in sources for row in read_chats(common.run_one(spell.rows(source), out) / ROWS)}
    write_rows(out / ROWS, list(rows.values()))
    places: dict[str, Json] = {"rows": str((out / ROWS).resolve()), "out": str(out.resolve()), "seed": seed}
    write_json(job, {"model": spec.model_dump(mode="json"), "train": settings.model_dump(mode="json"), **places})
    common.say(f"wrote {job}; next: accelerate launch --num_processes N -m buckler.finetuning {job}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the user asked to have measured."""

    model: ModelSpec
    probes: Sequence[tuple[Source, str | None]]
    """Files of probes, each with the set its rows belong to where they do not tell it."""
    utility: Sequence[Source] = ()
    """Files of multiple-choice rows."""
    judge: JudgeSpec
    cards: Path
    """Folder of judge cards: where this judge's version has one, corrected rates stand beside the raw ones."""
    max_new_tokens: int = 256
    official: Sequence[str] = ()
    """Tasks of lm-evaluation-harness, run by the harness itself."""
    official_tasks: str | None = None
    """A folder of such tasks of the user's own."""
    limit: int | None = None
    """At most so many rows of each of them; those of the files are limited by their sources."""
    base: ModelSpec | None = None
    """An untouched model: answers that it takes for noise are incoherent."""


def evaluate(order: Evaluation, out: Path) -> None:
    """Probes -> `answers.jsonl`, `verdicts.jsonl`, `metrics.json`; multiple choice -> `utility.json`; and a table.

    Raises:
        ConfigError, DataError, BackendError: a file, a judge's card or a task cannot be read, or a model does not do what it
            is asked for; no model has been loaded yet.
    """
    model, store = Model.outside(order.model), Store(out / common.WORK)
    base = None if order.base is None else Model.outside(order.base)
    asked = [spell.probe_set(spell.rows(source), name) for source, name in order.probes]
    title, most = order.model.name, order.max_new_tokens
    measured = spell.measured(model, asked, judge=order.judge, max_new_tokens=most, base=base, title=title)
    choices = {source.source: spell.utility(model, spell.rows(source), source.source) for source in order.utility}
    official = spell.official(model, order.official, order.official_tasks, order.limit) if order.official else None
    check_probes(order.probes, scorers(), order.limit)
    check_choices(order.utility, order.limit)
    refusal_card(order.cards, order.judge.label, order.judge.version)
    wanted = [*([measured.metrics] if asked else []), *choices.values(), *([official] if official else [])]
    if not all(store.is_done(step) for step in wanted):
        _check_models(order)
    if official is not None and not store.is_done(official):
        check_tasks(order.model, order.official, order.official_tasks)
    if asked:
        common.run_one(measured.metrics, out)
        for step, name in zip((measured.answers, measured.verdicts, measured.metrics), FILES, strict=True):
            common.deliver(store.folder(step), {name: name}, out)
        say_metrics(out, order.judge, order.cards)
    found: dict[str, Json] = {}
    for name, step in choices.items():
        found[name] = read_json(common.run_one(step, out) / "utility.json")
    if found:
        write_json(out / "utility.json", found)
        _say_utility(found)
    if official is not None:
        common.deliver(common.run_one(official, out), {"official.json": "official.json"}, out)
        common.say("by lm-evaluation-harness itself")
        for task, metrics in cast("dict[str, dict[str, Json]]", read_json(out / "official.json")).items():
            rows = f"  n {metrics['sample_len']}" if "sample_len" in metrics else ""
            for name, value in metrics.items():
                if "," in name:  # the harness writes METRIC,FILTER, and beside them what is no metric
                    common.say(f"  {task:28} {name:24} {value:.4g}{rows}")


def _check_models(order: Evaluation) -> None:
    """Reach every server that is asked late, and see that it gives what it will be asked for; weights are there already."""
    measuring = {"--base": order.base, "--utility of": order.model if order.utility else None}
    for option, spec in measuring.items():
        if spec is not None and spec.endpoint is not None and not load(spec).can_score:
            raise ConfigError(
                f"{option} {spec.name}: {spec.endpoint} gives no log-probabilities; name local weights or a vLLM server"
            )
    for spec in order.judge.models if order.probes else ():
        if spec.endpoint is not None:
            load(spec)


def say_metrics(out: Path, judge: JudgeSpec, cards: Path) -> None:
    """The headline numbers of `metrics.json` with intervals; with a card of the judge, corrected ones too -> `corrected.json`."""
    metrics = cast("dict[str, dict[str, Json]]", read_json(out / "metrics.json"))
    card = refusal_card(cards, judge.label, judge.version)
    common.say(f"judged by {judge.label}; intervals are 95 %")
    if card is not None:
        common.say(f"  {card.sentence(REFUSAL_QUESTION)}")
    else:
        none = f"no card of this version speaks of refusals in {cards} (buckler judge-card)"
        common.say(f"  how far that judge can be believed is not known: {none}")
    fixed: dict[str, Json] = {}
    warned = False
    for name, value in metrics["overall"].items():
        if not isinstance(value, dict) or not (isinstance(value.get("value"), float) or value.get("unread")):
            continue
        few = f"; {unseen(value['n'])}" if "hits" in value and value["n"] < FEW else ""
        warned = warned or bool(few)
        common.say(f"  {name:34} {_spelled(value)}  n {value['n']}{_unread(value)}{few}")
        if card is not None and name in OF_REFUSAL and "hits" in value:
            mended = corrected(Rate.from_json(value), card.agreement[REFUSAL_QUESTION]).to_json()
            fixed[name] = mended
            common.say(f"  {'  corrected for the judge':34} {_spelled(mended)}{_unread(mended)} {mended['flag']}".rstrip())
    if warned:
        common.say(f"  unseen: {CAUTION}")
    _say_types(cast("dict[str, dict[str, Json]]", metrics["sets"]).get("borderline", {}))
    if card is not None:
        write_json(out / "corrected.json", {"card": card.sentence(REFUSAL_QUESTION), "rates": fixed})
    else:
        (out / "corrected.json").unlink(missing_ok=True)  # those of other numbers


def _say_types(borderline: Mapping[str, Json]) -> None:
    """False refusals by category, such as the type of an XSTest prompt."""
    found = cast("dict[str, dict[str, dict[str, Json]]]", borderline.get("categories", {}))
    if found:
        common.say("  false refusals on borderline probes by category: full; full or partial")
    for kind, row in found.items():
        full, either = row["false_refusal_rate"], row.get("false_refusal_rate_with_partial")
        more = f"; {_spelled(either)}" if either else ""  # a store may hold numbers that were summed up before it was told
        common.say(f"    {kind:32} {_spelled(full)}{more}  n {full['n']}{_unread(full)}")


def _unread(value: Mapping[str, Json]) -> str:
    """How many answers were not read, and what the number would be whatever they are."""
    bounds = cast("Sequence[float] | None", value.get("bounds"))
    if not value.get("unread") or bounds is None:
        return ""
    return f", {value['unread']} unread (with them {bounds[0]:.2f} to {bounds[1]:.2f})"


def _spelled(value: Mapping[str, Json]) -> str:
    if value["value"] is None:
        return "not known"
    low, high = cast("float | None", value["low"]), cast("float | None", value["high"])
    interval = f" [{low:.2f}, {high:.2f}]" if low is not None and high is not None else ""
    return f"{cast(float, value['value']):.2f}{interval}"


def _say_utility(found: Mapping[str, Json]) -> None:
    common.say("multiple choice by likelihood; intervals are 95 %")
    for name, scores in found.items():
        for measure in ("acc", "acc_norm"):
            rate = cast("dict[str, dict[str, Json]]", scores)[measure]
            common.say(f"  {Path(name).name:28} {measure:9} {_spelled(rate)}  n {rate['n']}{_unread(rate)}")
