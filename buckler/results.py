"""What an experiment found: every arm's numbers, the same over seeds, and paired differences, as one JSON file."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from buckler import __version__
from buckler.answer import read_answers, read_verdicts
from buckler.config import WEAKEST, Recipe, StagesRecipe
from buckler.crosstask.own import read_tasks
from buckler.data import Json, content_id, read_json
from buckler.errors import DataError
from buckler.judges import Answer, Verdict, judge_named
from buckler.judges.agreement import Agreement
from buckler.judges.comparison import compare
from buckler.judges.correction import OF_REFUSAL, QUESTION, corrected, refusal_card
from buckler.judges.named import JudgeSpec, judge_spec
from buckler.lm.identity import identity
from buckler.metrics import score_answers, summarise
from buckler.plan import Arm, Plan
from buckler.stats import Rate, difference, difference_over_seeds, holm, mean, pooled
from buckler.store import Store, in_order
from buckler.utility import scorers

Key = tuple[tuple[str, str | int], ...]
"""An arm's labels without its seed."""
Refused = Mapping[int, Mapping[str, bool | None]]
"""By seed and probe: whether it was refused."""
SAMPLES = 2
"""Answers shown for each arm and probe set."""
PAPER = "paper"
"""The judge whose readings stand beside the recipe's."""
ANSWERS, VERDICTS = "answers.jsonl", "verdicts.jsonl"
EXAMPLES = 5
"""Answers shown that the two read otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """An arm with what its measuring left, wherever it was planned."""

    labels: Mapping[str, str | int]
    answers: Path
    verdicts: Path
    metrics: Mapping[str, Json]

    @property
    def seed(self) -> int:
        return int(self.labels["seed"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Who judged, and what its card says of refusals, if there is one."""

    name: str
    sentence: str | None = None
    agreement: Agreement | None = None


def collect(recipe: Recipe, plan: Plan, store: Store) -> dict[str, Json]:
    """Everything the report shows, recomputed from the files of finished steps.

    Returns:
        `arms` (one entry an arm: labels, metrics, training), `rows` (one entry for all seeds of an arm: each metric's
        mean over seeds with its t interval, and all answers taken together with their Wilson interval), `differences`
        (paired: curated against the controls, stage by stage), `perplexity`, `curation`, `weakest` (the task it stood for,
        by model and seed), `paper_rule` (the 13 phrases of arXiv 2312.06924 beside the recipe's judge), `judge_card`
        (what the judge's card says, and by arm the rates of refusal corrected by it; None without one), `samples`, `record`.
    """
    arms = [_arm(arm, store, _metrics(arm, store)) for arm in plan.arms]
    return {
        "name": recipe.name,
        "kind": recipe.kind,
        "about": recipe.about,
        "seeds": list(recipe.seeds),
        "arms": [_told(arm, store) for arm in plan.arms],
        "perplexity": _figures(plan, store, "perplexity/", "perplexity.json"),
        "curation": _figures(plan, store, "curated/", "counts.json"),
        "weakest": _weakest(plan.arms, store),
        **_derived(recipe.kind, recipe.seeds, arms, _judge_of(recipe)),
        "record": record(recipe),
    }


def collect_again(results: Mapping[str, Json], store: Store) -> dict[str, Json]:
    """Saved results with every number that comes from answers computed anew: from the stored answers and verdicts, no model.

    What training and curation told, perplexities and the course of a search are kept as they were saved.

    Raises:
        DataError: answers or verdicts are not there, or no longer belong together; the results were saved by a version that did
            not keep what is needed.
    """
    try:
        saved = cast("Sequence[dict[str, Json]]", results["arms"])
        told = cast("Mapping[str, Mapping[str, Json]]", results["record"])
        places = [(cast("Mapping[str, str | int]", one["labels"]), cast("Mapping[str, str]", one["steps"])) for one in saved]
        own = cast("str | None", told["recipe"].get("own_tasks"))
        judge = _judge_again(str(told["judge"]["name"]), cast("Mapping[str, Json] | None", results["judge_card"]))
    except KeyError as fault:
        raise DataError(f"results of {results.get('name')}: saved without {fault}; run the recipe again") from None
    by_task = scorers(read_tasks(Path(own)) if own else None)
    arms: list[_Arm] = []
    for labels, steps in places:
        answers, verdicts = store.folder(steps["answers"]) / ANSWERS, store.folder(steps["verdicts"]) / VERDICTS
        given = read_answers(answers)
        metrics = summarise(given, read_verdicts(verdicts), score_answers(given, by_task))
        arms.append(_Arm(labels=labels, answers=answers, verdicts=verdicts, metrics=metrics))
    again = [{**one, "metrics": arm.metrics} for one, arm in zip(saved, arms, strict=True)]
    return {**results, "arms": again, **_derived(str(results["kind"]), cast("Sequence[int]", results["seeds"]), arms, judge)}


def _judge_again(name: str, card: Mapping[str, Json] | None) -> _Judge:
    """Who judged, as saved results tell it."""
    if card is None:
        return _Judge(name=name)
    agreement = TypeAdapter(Agreement).validate_python(card["agreement"])
    return _Judge(name=name, sentence=str(card["sentence"]), agreement=agreement)


def _derived(kind: str, seeds: Sequence[int], arms: Sequence[_Arm], judge: _Judge) -> dict[str, Json]:
    """What follows from the arms' answers, verdicts and metrics."""
    rows = _over_seeds(arms)
    return {
        "rows": rows,
        "differences": _differences(kind, arms),
        "paper_rule": _paper_rule(kind, seeds, arms, judge),
        "judge_card": _judge_card(judge, rows),
        "samples": [sample for arm in arms if arm.seed == seeds[0] for sample in _samples(arm)],
    }


def record(recipe: Recipe) -> dict[str, Json]:
    """How it was made: the recipe with its controls spelled out, what each model is by content, judge and versions."""
    spelled = recipe.model_dump(mode="json")
    if isinstance(recipe, StagesRecipe):
        spelled["defences"] = {name: one.model_dump(mode="json") for name, one in recipe.all_defences.items()}
    packages = ("torch", "transformers", "tokenizers", "peft", "accelerate", "numpy", "scipy")
    return {
        "buckler": __version__,
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in packages},
        "judge": _judge(judge_spec(recipe.judge)),
        "models": {name: identity(spec) for name, spec in recipe.models.items()},
        "recipe": cast(Json, spelled),
        "recipe_id": content_id(cast(Json, spelled)),
    }


def _judge(judge: JudgeSpec) -> dict[str, Json]:
    """Name, version, and where it is made of models, what these are by content."""
    models: dict[str, Json] = {spec.name: identity(spec) for spec in judge.models}
    return {"name": judge.label, "version": judge.version, **({"models": models} if models else {})}


def flat(metrics: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    """The metrics of one run by name, such as `refusal_rate harmful held_out` or `score translate benign`."""
    found: dict[str, Mapping[str, Json]] = {}

    def walk(value: Mapping[str, Json], path: tuple[str, ...]) -> None:
        for name, part in value.items():
            if not isinstance(part, Mapping):
                continue
            if "value" in part:
                found[" ".join((name, *path))] = part
            else:
                walk(part, path if name in ("groups", "sets", "overall", "documents") else (*path, name))

    walk(metrics, ())
    return found


def _metrics(arm: Arm, store: Store) -> Mapping[str, Json]:
    return cast(Mapping[str, Json], read_json(store.folder(arm.measured.metrics) / "metrics.json"))


def _arm(arm: Arm, store: Store, metrics: Mapping[str, Json]) -> _Arm:
    answers, verdicts = store.folder(arm.measured.answers) / ANSWERS, store.folder(arm.measured.verdicts) / VERDICTS
    return _Arm(labels=arm.labels, answers=answers, verdicts=verdicts, metrics=metrics)


def _told(arm: Arm, store: Store) -> dict[str, Json]:
    training: list[Json] = []
    for phase in arm.phases:
        seen = cast(Mapping[str, Json], read_json(store.folder(phase) / "training.json"))
        cut, dropped = cast(Sequence[str], seen["cut"]), cast(Sequence[str], seen["dropped"])
        training.append({"rows": seen["rows"], "cut": len(cut), "dropped": len(dropped), "steps": seen["steps"]})
    steps: dict[str, Json] = {
        "answers": arm.measured.answers.key,
        "verdicts": arm.measured.verdicts.key,
        "metrics": arm.measured.metrics.key,
    }
    return {"labels": dict(arm.labels), "metrics": _metrics(arm, store), "training": training, "steps": steps}


def _grouped(arms: Sequence[_Arm]) -> dict[Key, list[_Arm]]:
    """Arms that differ in their seed only, in the order of the plan."""
    groups: dict[Key, list[_Arm]] = {}
    for arm in arms:
        groups.setdefault(_key(arm), []).append(arm)
    return groups


def _key(arm: _Arm) -> Key:
    return tuple((name, value) for name, value in arm.labels.items() if name != "seed")


def _judge_of(recipe: Recipe) -> _Judge:
    judge = judge_spec(recipe.judge)
    card = None if recipe.judge_cards is None else refusal_card(Path(recipe.judge_cards), judge.label, judge.version)
    if card is None:
        return _Judge(name=judge.label)
    return _Judge(name=judge.label, sentence=card.sentence(QUESTION), agreement=card.agreement[QUESTION])


def _judge_card(judge: _Judge, rows: Sequence[Mapping[str, Json]]) -> Json:
    """What the judge's card says; by arm, its rates of refusal over all answers of all seeds, corrected."""
    if judge.agreement is None:
        return None
    arms: list[Json] = []
    for row in rows:
        metrics = cast("Mapping[str, Mapping[str, Mapping[str, int]]]", row["metrics"])
        given = {name: metrics[name]["all_answers"] for name in OF_REFUSAL if "all_answers" in metrics.get(name, {})}
        rates = {name: Rate(hits=of["hits"], n=of["n"], unread=of["unread"]) for name, of in given.items()}
        mended: dict[str, Json] = {name: corrected(one, judge.agreement).to_json() for name, one in rates.items()}
        arms.append({"labels": row["labels"], "rates": mended})
    return {"sentence": judge.sentence, "agreement": judge.agreement.to_json(), "arms": arms}


def _over_seeds(arms: Sequence[_Arm]) -> list[dict[str, Json]]:
    rows: list[dict[str, Json]] = []
    for key, group in _grouped(arms).items():
        by_seed = {arm.seed: flat(arm.metrics) for arm in group}
        names = list(dict.fromkeys(name for found in by_seed.values() for name in found))
        metrics: dict[str, Json] = {
            name: _pooled({seed: found[name] for seed, found in by_seed.items() if name in found}) for name in names
        }
        rows.append({"labels": dict(key), "metrics": metrics})
    return rows


def _pooled(by_seed: Mapping[int, Mapping[str, Json]]) -> dict[str, Json]:
    """One metric over its seeds."""
    seeds: dict[str, Json] = {str(seed): one["value"] for seed, one in by_seed.items()}
    if all("hits" in one for one in by_seed.values()):
        rates = [Rate(hits=cast(int, o["hits"]), n=cast(int, o["n"]), unread=cast(int, o["unread"])) for o in by_seed.values()]
        return {**pooled(rates).to_json(), "seeds": seeds}
    return {"over_seeds": mean(cast("float | None", one["value"]) for one in by_seed.values()).to_json(), "seeds": seeds}


def _differences(kind: str, arms: Sequence[_Arm]) -> list[Json]:
    """Pairs of arms that differ in one thing worth asking about, on the same probes."""
    refused: dict[Path, dict[str, bool | None]] = {}  # an arm stands in many pairs: its answers are read once

    def of(arm: _Arm) -> dict[str, bool | None]:
        if arm.verdicts not in refused:
            refused[arm.verdicts] = _refusals(arm)
        return refused[arm.verdicts]

    found = [
        _difference(name, at, {arm.seed: of(arm) for arm in first}, {arm.seed: of(arm) for arm in second})
        for name, at, first, second in _pairs(kind, arms)
    ]
    adjusted = holm([cast("float | None", cast(Mapping[str, Json], one["all_answers"])["p"]) for one in found])
    return [{**one, "p_holm": value} for one, value in zip(found, adjusted, strict=True)]


def _pairs(kind: str, arms: Sequence[_Arm]) -> Iterator[tuple[str, dict[str, Json], list[_Arm], list[_Arm]]]:
    """Stages: every two row defences at the same stage, and every arm against no defence. Cross-task: mixed against single
    at the same budget, and every cell against the undefended model. Attacker: what was found against the fixed attack."""
    groups = _grouped(arms)
    for (first_key, first), (second_key, second) in combinations(groups.items(), 2):
        a, b = dict(first_key), dict(second_key)
        if kind == "attacker":
            same, differ = all(a[name] == b[name] for name in ("model", "defence", "stage")), "attack"
            at, wanted = {name: b[name] for name in ("model", "defence", "stage")}, True
        elif kind == "stages":
            same = a["model"] == b["model"] and a["attack"] == b["attack"]
            differ, at = "defence", {"model": a["model"], "attack": a["attack"], "stage": b["stage"]}
            wanted = a["stage"] == b["stage"] or (a["defence"] == "none" and a["stage"] == "none")
        else:
            same = a["model"] == b["model"] and a["wording"] == b["wording"]
            differ, at = "trained on", {"model": a["model"], "wording": a["wording"], "refusals": b["refusals"]}
            wanted = a["refusals"] in (b["refusals"], 0)
        if same and wanted and a[differ] != b[differ]:
            yield f"{b[differ]} - {a[differ]}", cast("dict[str, Json]", at), first, second


def _difference(name: str, at: dict[str, Json], first: Refused, second: Refused) -> dict[str, Json]:
    """Refusal of harmful questions (cross-task: of harmful documents, all tasks), second minus first: per seed with a t
    interval, and over all probes (McNemar)."""
    seeds: list[dict[int, float | None]] = []
    probes: list[dict[str, bool | None]] = []
    for refused in (first, second):
        seeds.append({seed: mean(None if v is None else float(v) for v in of.values()).value for seed, of in refused.items()})
        probes.append({f"{seed}:{probe}": value for seed, of in refused.items() for probe, value in of.items()})
    return {
        "name": name,
        "at": at,
        "metric": "refusal_rate",
        "over_seeds": difference_over_seeds(seeds[0], seeds[1]).to_json(),
        "all_answers": difference(probes[0], probes[1]).to_json(),
    }


def _seed(arm: Arm) -> int:
    return int(arm.labels["seed"])


def _refusals(arm: _Arm) -> dict[str, bool | None]:
    """Of malicious documents asked as they are where there are some, else of harmful questions."""
    answers = read_answers(arm.answers)
    harmful = {one.id for one in answers if one.meta.get("set") == "harmful"}
    about_documents = {one.id for one in answers if _is_plain_document(one) and one.meta["label"] == "harmful"}
    harmful = about_documents or harmful
    return {one.id: one.is_refusal for one in read_verdicts(arm.verdicts) if one.id in harmful}


def _samples(arm: _Arm) -> list[Json]:
    """A few answers of an arm."""
    verdicts = {one.id: one for one in read_verdicts(arm.verdicts)}
    shown: dict[str, int] = {}
    samples: list[Json] = []
    for one in read_answers(arm.answers):
        kind = str(one.meta.get("set"))
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= SAMPLES:
            samples.append(_sample(arm, one, verdicts[one.id]))
    return samples


def _sample(arm: _Arm, one: Answer, verdict: Verdict) -> dict[str, Json]:
    """An answer with its verdict. One to a harmful probe that was not refused is marked, so that reports redact it."""
    kind = str(one.meta.get("set"))
    return {
        "labels": dict(arm.labels),
        "set": kind,
        "task": one.meta.get("task"),
        "query": one.query,
        "answer": one.text,
        "refused": verdict.refused,
        "coherent": verdict.coherent,
        "unsafe": kind == "harmful" and verdict.refused != "full",
    }


def _weakest(arms: Sequence[Arm], store: Store) -> list[Json]:
    """The task that `weakest` stood for, by model and seed, with the process rates on training documents that named it."""
    found: dict[tuple[str | int, int], dict[str, Json]] = {}
    for arm in (one for one in arms if one.labels.get("trained on") == WEAKEST):
        step = next(step for step in in_order(arm.phases) if step.name == "weakest")
        named = cast(Mapping[str, Json], read_json(store.folder(step) / "weakest.json"))
        found[arm.labels["model"], _seed(arm)] = {"model": arm.labels["model"], "seed": _seed(arm), **named}
    return list(found.values())


def _paper_rule(kind: str, seeds: Sequence[int], arms: Sequence[_Arm], judge: _Judge) -> dict[str, Json]:
    """The stored answers about documents judged once more by the authors' phrases, documents under attack apart.

    Returns:
        `judge` (the recipe's), `cells` (by model, seed, task and label over all arms: counts of `compare`), `examples` (a few
        answers of the first seed that the two read otherwise). Empty if there is nothing to compare.
    """
    if kind != "cross_task" or judge.name == PAPER:
        return {}
    pairs: dict[tuple[str | int, ...], list[tuple[Verdict, Verdict]]] = {}
    examples: dict[tuple[Json, ...], dict[str, Json]] = {}
    paper = judge_named(PAPER)
    for arm in arms:
        answers = [one for one in read_answers(arm.answers) if _is_plain_document(one)]
        ours = {one.id: one for one in read_verdicts(arm.verdicts)}
        for one, theirs in zip(answers, paper.judge(answers), strict=True):
            mine, task, label = ours[one.id], str(one.meta["task"]), str(one.meta["label"])
            pairs.setdefault((arm.labels["model"], arm.seed, task, label), []).append((mine, theirs))
            if arm.seed == seeds[0] and None is not mine.is_refusal != theirs.is_refusal is not None:
                # one of a kind: the same answer comes back in many arms
                examples.setdefault((mine.refused, label, task), {**_sample(arm, one, mine), "paper": theirs.refused})
    names = ("model", "seed", "task", "label")
    cells: list[Json] = [{**dict(zip(names, at, strict=True)), **compare(some).to_json()} for at, some in pairs.items()]
    return {"judge": judge.name, "cells": cells, "examples": list(examples.values())[:EXAMPLES]} if cells else {}


def _is_plain_document(one: Answer) -> bool:
    return "attack" not in one.meta and isinstance(one.meta.get("task"), str) and isinstance(one.meta.get("label"), str)


def _figures(plan: Plan, store: Store, prefix: str, file: str) -> dict[str, Json]:
    return {
        name.removeprefix(prefix): read_json(Path(store.folder(step)) / file)
        for name, step in plan.figures.items()
        if name.startswith(prefix)
    }
