"""Steps over rows, spelled."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.data import Json
from buckler.finetuning.attacks import ATTACKS, AttackSettings
from buckler.finetuning.defenses import DEFENSES, DefenseSettings, defense_named
from buckler.plan.spell.common import Model, numbered, spelled, step_of
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.store import Step


def rows(source: Source, *, documents: bool = False) -> Step:
    """The rows of a source."""
    return step_of(
        "rows.draw_documents" if documents else "rows.draw",
        f"rows of {source.source}",
        params={"source": fingerprint(source, documents=documents)},
        paths={"source": source.source},
    )


def apart(training: Sequence[Step], probes: Sequence[Step]) -> Step:
    """The check that no training row is a probe."""
    inputs = {**numbered("rows", training), **numbered("probes", probes)}
    return step_of("rows.check_apart", "training rows and probes are apart", inputs=inputs)


def attack(settings: AttackSettings, benign: Step, harmful: Step | None, seed: int) -> Step:
    """The customer's rows under an attack."""
    inputs = {"benign": benign, **({"harmful": harmful} if harmful is not None else {})}
    params: dict[str, Json] = {"attack": spelled(settings), "seed": seed, **ATTACKS.code(settings.kind)}
    return step_of("rows.attack", f"{settings.kind} attack rows, seed {seed}", params=params, inputs=inputs)


def screen(defence: DefenseSettings, customer: Step, model: Model, seed: int) -> Step:
    """The customer's rows through a filter; only one that uses the model depends on it."""
    asked, inputs, paths = model.use() if defense_named(defence.kind).uses_model else ({}, {}, {})
    params: dict[str, Json] = {"filter": defence.kind, "share": defence.share, "seed": seed, **asked}
    params |= {"options": defence.options} if defence.options else {}
    title = f"{defence.kind} {defence.share:.0%}, seed {seed}"
    params |= DEFENSES.code(defence.kind)
    return step_of("rows.screen", title, params=params, inputs={"rows": customer, **inputs}, paths=paths)


def defence_rows(defence: DefenseSettings, texts: Step, refusals: Step | None, seed: int) -> Step:
    """The rows of a defence of the user's own."""
    settings: dict[str, Json] = {"kind": defence.kind, "share": defence.share, "options": defence.options}
    params: dict[str, Json] = {"defence": settings, "seed": seed, **DEFENSES.code(defence.kind)}
    inputs = {"texts": texts, **({"refusals": refusals} if refusals is not None else {})}
    return step_of("rows.defence_rows", f"{defence.kind} rows, seed {seed}", params=params, inputs=inputs)


def as_defence(given: Step, part: str, count: int | None) -> Step:
    """Rows taken for a defence as they are."""
    return step_of("rows.as_defence", f"{part} rows as they are", params={"part": part, "count": count}, inputs={"rows": given})


def probe_set(given: Step, name: str | None) -> Step:
    """Rows as probes of a set."""
    return step_of("rows.as_probes", f"probes ({name or 'set by their rows'})", params={"set": name}, inputs={"rows": given})
