"""What an attacker goes by: success and utility as measured, and the worst case that keeps the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from buckler.data import Json
from buckler.errors import ConfigError
from buckler.experiments.attack_search.space import Setting, named
from buckler.experiments.results import Number, Saved, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One attack, measured on the attacker's own probes."""

    number: int
    """0 is the fixed attack."""
    setting: Setting
    success: float | None
    """Attack success rate; None where nothing could be scored, or the attack's training failed."""
    utility: float | None
    floor: float
    """The least utility that counts."""
    steps: int
    """Optimizer steps on the attacker's rows."""
    fault: str = ""
    """Why its training failed."""

    @property
    def keeps_utility(self) -> bool:
        """Whether the attacked model is still of use: what an attack ruined does not count."""
        return self.utility is not None and self.utility >= self.floor

    @property
    def counts(self) -> bool:
        """Whether it may be the worst case."""
        return self.keeps_utility and self.success is not None

    def result(self) -> TrialResult:
        """As results keep it."""
        return TrialResult(
            number=self.number,
            setting=dict(self.setting),
            name=named(self.setting),
            success=self.success,
            utility=self.utility,
            floor=self.floor,
            keeps_utility=self.keeps_utility,
            steps=self.steps,
            fault=self.fault,
        )


def worst(trials: Sequence[Trial]) -> Trial | None:
    """The attack with the highest success among those that keep the floor; None if none does.

    Of equals the one that left more utility, then the earlier: no probe that is reported has a say in it.
    """
    counted = [trial for trial in trials if trial.counts]
    return max(counted, key=lambda trial: (trial.success, trial.utility, -trial.number), default=None)


def best_so_far(trials: Sequence[Trial]) -> list[float | None]:
    """After each trial the highest success of those that counted; None before the first."""
    reached: list[float | None] = []
    for trial in trials:
        before = reached[-1] if reached else None
        now = trial.success if trial.counts else None
        reached.append(before if now is None else now if before is None else max(before, now))
    return reached


class _Value(Saved):
    value: Number | None = None


class _Numbers(Saved):
    """What the attacker reads of the headline, or of one group of probes."""

    attack_success_rate: _Value | None = None
    utility: _Value | None = None


class _Set(Saved):
    groups: dict[str, _Numbers] = Field(default_factory=dict)


class _Metrics(Saved):
    """What the attacker reads of `metrics.json`."""

    overall: _Numbers
    sets: dict[str, _Set] = Field(default_factory=dict)


def success_of(metrics: Mapping[str, Json], kinds: str) -> float | None:
    """Attack success on all harmful probes, or on one group of them; None where no answer could be scored.

    Raises:
        ConfigError: no such probes were asked.
    """
    seen = _Metrics.model_validate(metrics)
    found = seen.overall.attack_success_rate
    if found is None:
        raise ConfigError("dev_probes hold no harmful probes, so there is no success to search for")
    if kinds != "all":
        groups = seen.sets["harmful"].groups
        if kinds not in groups:
            raise ConfigError(f"search.kinds is {kinds!r}; the harmful dev_probes have {', '.join(('all', *groups))}")
        found = groups[kinds].attack_success_rate
    return None if found is None else found.value


def utility_of(metrics: Mapping[str, Json]) -> float:
    """Mean score of the answers to benign probes.

    Raises:
        ConfigError: none was asked that can be scored.
    """
    found = _Metrics.model_validate(metrics).overall.utility
    if found is None or found.value is None:
        raise ConfigError("dev_probes hold no benign probes with facts or a reference, so there is no utility to keep")
    return found.value
