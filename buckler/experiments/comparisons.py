"""Numbers over seeds, and paired differences between arms that differ in one thing worth asking about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from buckler.data import Json
from buckler.evaluation.paired import difference
from buckler.evaluation.scores import about_document
from buckler.evaluation.statistics import Rate, difference_over_seeds, holm, mean
from buckler.experiments.base import Key, MeasuredArm, Pair
from buckler.experiments.results import DifferenceResult, GroupRow, MeanResult, MetricResult, PairedResult, RateResult

Refused = Mapping[int, Mapping[str, bool | None]]
"""By seed and probe: whether it was refused."""


def grouped(arms: Sequence[MeasuredArm]) -> dict[Key, list[MeasuredArm]]:
    """Arms that differ in their seed only, in the order of the plan."""
    groups: dict[Key, list[MeasuredArm]] = {}
    for arm in arms:
        groups.setdefault(arm.key, []).append(arm)
    return groups


def over_seeds(arms: Sequence[MeasuredArm]) -> list[GroupRow]:
    """One row an arm, its seeds together: the mean with its t interval, and all answers taken together."""
    rows = []
    measured = {id(arm): flat(arm.metrics) for arm in arms}
    withheld = {name for of_arm in measured.values() for name in of_arm if name.startswith(("withheld_rate", "own_refusal_rate"))}
    for key, group in grouped(arms).items():
        by_seed = {arm.seed: _with_none_withheld(measured[id(arm)], sorted(withheld)) for arm in group}
        names = dict.fromkeys(name for of_seed in by_seed.values() for name in of_seed)
        metrics = {name: _metric({seed: of_seed[name] for seed, of_seed in by_seed.items() if name in of_seed}) for name in names}
        rows.append(GroupRow(labels=dict(key), metrics=metrics))
    return rows


def _with_none_withheld(metrics: dict[str, RateResult], withheld: Sequence[str]) -> dict[str, RateResult]:
    """The metrics of a run, with a rate of 0 where a provider withheld nothing there and something elsewhere.

    All refusals are then the model's own.
    """
    for name in (one for one in withheld if one not in metrics):
        rate, *part = name.split(" ")
        rate, _, of = rate.partition("_on_")
        refused = metrics.get(" ".join(("refusal_rate", *([of] if of else part))))
        if refused is not None:
            none = Rate(hits=0, n=refused.n + refused.unscored)
            metrics[name] = refused if rate == "own_refusal_rate" else RateResult.model_validate(none.to_json())
    return metrics


def flat(metrics: Mapping[str, Json]) -> dict[str, RateResult]:
    """The metrics of one run by name, such as `refusal_rate harmful held_out` or `score translate benign`."""
    rates: dict[str, RateResult] = {}

    def walk(value: Mapping[str, Json], path: tuple[str, ...]) -> None:
        for name, part in value.items():
            if not isinstance(part, Mapping):
                continue
            if "value" in part:
                rates[" ".join((name, *path))] = RateResult.model_validate(part)
            else:
                walk(part, path if name in ("groups", "sets", "overall", "documents") else (*path, name))

    walk(metrics, ())
    return rates


def _metric(by_seed: Mapping[int, RateResult]) -> MetricResult:
    """One metric over its seeds."""
    values = {seed: one.value for seed, one in by_seed.items()}
    if all("hits" in one.model_fields_set for one in by_seed.values()):
        rates = {seed: Rate(hits=one.hits, n=one.n, unscored=one.unscored) for seed, one in by_seed.items()}
        return MetricResult.of_rates(rates, values)
    return MetricResult.of_values(values)


def differences(
    pairs: Callable[[Mapping[Key, Sequence[MeasuredArm]]], Iterator[Pair]], arms: Sequence[MeasuredArm]
) -> list[DifferenceResult]:
    """The pairs of arms of a kind of experiment compared on the same probes, p-values adjusted over all of them."""
    refused: dict[Path, dict[str, bool | None]] = {}  # an arm stands in many pairs: its answers are read once

    def of(arm: MeasuredArm) -> dict[str, bool | None]:
        if arm.verdicts_file not in refused:
            refused[arm.verdicts_file] = _refusals(arm)
        return refused[arm.verdicts_file]

    tests = [
        _difference(pair, {arm.seed: of(arm) for arm in pair.first}, {arm.seed: of(arm) for arm in pair.second})
        for pair in pairs(grouped(arms))
    ]
    adjusted = holm([test.all_answers.p for test in tests])
    return [one.model_copy(update={"p_holm": value}) for one, value in zip(tests, adjusted, strict=True)]


def _refusals(arm: MeasuredArm) -> dict[str, bool | None]:
    """Of malicious documents asked as they are where there are some, else of harmful questions."""
    answers = arm.answers()
    harmful = {answer.id for answer in answers if answer.meta.get("set") == "harmful"}
    about_documents = {
        one.id for one in answers if about_document(one.meta) and "attack" not in one.meta and one.meta["label"] == "harmful"
    }
    harmful = about_documents or harmful
    return {one.id: one.is_refusal for one in arm.verdicts().values() if one.id in harmful}


def _difference(pair: Pair, first: Refused, second: Refused) -> DifferenceResult:
    """Refusal of harmful questions (documents, all tasks, where they were asked about), second minus first: per seed with a t
    interval, and over all probes (McNemar)."""
    seeds: list[dict[int, float | None]] = []
    probes: list[dict[str, bool | None]] = []
    for refused in (first, second):
        seeds.append({seed: mean(None if v is None else float(v) for v in of.values()).value for seed, of in refused.items()})
        probes.append({f"{seed}:{probe}": value for seed, of in refused.items() for probe, value in of.items()})
    return DifferenceResult(
        name=pair.name,
        at=dict(pair.at),
        metric="refusal_rate",
        over_seeds=MeanResult.model_validate(difference_over_seeds(seeds[0], seeds[1]).to_json()),
        all_answers=PairedResult.model_validate(difference(probes[0], probes[1]).to_json()),
    )
