"""Steps over rows, spelled."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.data import Json
from buckler.finetuning.attacks import AttackSettings
from buckler.plan.spell.common import Model, numbered, spelled, step_of
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.store import Step


def rows(source: Source, *, documents: bool = False) -> Step:
    """The rows of a source."""
    return step_of(
        "rows.draw_documents" if documents else "rows.draw",
        f"rows of {source.source}",
        params={"source": fingerprint(source)},
        paths={"source": source.source},
    )


def apart(training: Sequence[Step], probes: Sequence[Step]) -> Step:
    """The check that no training row is a probe."""
    inputs = {**numbered("rows", training), **numbered("probes", probes)}
    return step_of("rows.check_apart", "training rows and probes are apart", inputs=inputs)


def attack(settings: AttackSettings, benign: Step, harmful: Step | None, seed: int) -> Step:
    """The customer's rows under an attack."""
    inputs = {"benign": benign, **({"harmful": harmful} if harmful is not None else {})}
    params: dict[str, Json] = {"attack": spelled(settings), "seed": seed}
    return step_of("rows.attack", f"{settings.kind} attack rows, seed {seed}", params=params, inputs=inputs)


def screen(kind: str, share: float, customer: Step, model: Model, seed: int) -> Step:
    """The customer's rows through a filter; only the perplexity drop asks the model."""
    params, inputs, paths = model.use() if kind == "perplexity_drop" else ({}, {}, {})
    params = {"filter": kind, "share": share, "seed": seed, **params}
    return step_of(
        "rows.screen", f"{kind} {share:.0%}, seed {seed}", params=params, inputs={"rows": customer, **inputs}, paths=paths
    )


def as_defence(given: Step, part: str, count: int | None) -> Step:
    """Rows taken for a defence as they are."""
    return step_of("rows.as_defence", f"{part} rows as they are", params={"part": part, "count": count}, inputs={"rows": given})


def probe_set(given: Step, name: str | None) -> Step:
    """Rows as probes of a set."""
    return step_of("rows.as_probes", f"probes ({name or 'set by their rows'})", params={"set": name}, inputs={"rows": given})
