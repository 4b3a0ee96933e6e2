"""Every metric of an arm over its seeds: the mean with its t interval, and all answers taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from buckler.data import Json
from buckler.evaluation.statistics import Rate, mean, pooled
from buckler.results.arm import MeasuredArm, grouped


def over_seeds(arms: Sequence[MeasuredArm]) -> list[dict[str, Json]]:
    """One row an arm, its seeds together."""
    rows: list[dict[str, Json]] = []
    for key, group in grouped(arms).items():
        by_seed = {arm.seed: flat(arm.metrics) for arm in group}
        names = list(dict.fromkeys(name for found in by_seed.values() for name in found))
        metrics: dict[str, Json] = {
            name: _pooled({seed: found[name] for seed, found in by_seed.items() if name in found}) for name in names
        }
        rows.append({"labels": dict(key), "metrics": metrics})
    return rows


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


def _pooled(by_seed: Mapping[int, Mapping[str, Json]]) -> dict[str, Json]:
    """One metric over its seeds."""
    seeds: dict[str, Json] = {str(seed): one["value"] for seed, one in by_seed.items()}
    if all("hits" in one for one in by_seed.values()):
        return {**pooled([Rate.from_json(one) for one in by_seed.values()]).to_json(), "seeds": seeds}
    return {"over_seeds": mean(cast("float | None", one["value"]) for one in by_seed.values()).to_json(), "seeds": seeds}
