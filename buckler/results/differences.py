"""Paired differences between arms that differ in one thing worth asking about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import cast

from buckler.data import Json, read_answers, read_verdicts
from buckler.evaluation.paired import difference
from buckler.evaluation.statistics import difference_over_seeds, holm, mean
from buckler.results.arm import MeasuredArm, grouped, is_plain_document

Refused = Mapping[int, Mapping[str, bool | None]]
"""By seed and probe: whether it was refused."""


def differences(kind: str, arms: Sequence[MeasuredArm]) -> list[Json]:
    """Pairs of arms that differ in one thing worth asking about, on the same probes."""
    refused: dict[Path, dict[str, bool | None]] = {}  # an arm stands in many pairs: its answers are read once

    def of(arm: MeasuredArm) -> dict[str, bool | None]:
        if arm.verdicts not in refused:
            refused[arm.verdicts] = _refusals(arm)
        return refused[arm.verdicts]

    found = [
        _difference(name, at, {arm.seed: of(arm) for arm in first}, {arm.seed: of(arm) for arm in second})
        for name, at, first, second in _pairs(kind, arms)
    ]
    adjusted = holm([cast("float | None", cast(Mapping[str, Json], one["all_answers"])["p"]) for one in found])
    return [{**one, "p_holm": value} for one, value in zip(found, adjusted, strict=True)]


def _pairs(kind: str, arms: Sequence[MeasuredArm]) -> Iterator[tuple[str, dict[str, Json], list[MeasuredArm], list[MeasuredArm]]]:
    """Stages: every two row defences at the same stage, and every arm against no defence. Cross-task: mixed against single
    at the same budget, and every cell against the undefended model. Attacker: what was found against the fixed attack."""
    groups = grouped(arms)
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


def _refusals(arm: MeasuredArm) -> dict[str, bool | None]:
    """Of malicious documents asked as they are where there are some, else of harmful questions."""
    answers = read_answers(arm.answers)
    harmful = {one.id for one in answers if one.meta.get("set") == "harmful"}
    about_documents = {one.id for one in answers if is_plain_document(one) and one.meta["label"] == "harmful"}
    harmful = about_documents or harmful
    return {one.id: one.is_refusal for one in read_verdicts(arm.verdicts) if one.id in harmful}


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
