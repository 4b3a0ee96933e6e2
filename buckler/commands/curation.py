"""The curate command: what it will cost, the compromised copy it may need, the rows, their controls and their card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from buckler.commands import common
from buckler.curation.dataset_card import CURATED, About, dataset_card
from buckler.curation.record import COUNTS, REJECTED
from buckler.curation.settings import CONTROLS, UNCURATED, CurateSettings, control
from buckler.data import ROWS, Json, each_chat, read_chats, read_json, read_jsonl, write_text
from buckler.errors import ConfigError
from buckler.finetuning.train import TrainSettings
from buckler.formats import WRITERS, write_chats
from buckler.models.protocol import ModelSpec
from buckler.plan import spell
from buckler.plan.spell.common import Model
from buckler.steps.curation import read_sample
from buckler.workflow.sources import Source
from buckler.workflow.store import Step, Store

LEAST_COMPROMISED = 0.1
"""Nats a token by which an attack must cheapen its own answers to count as one."""


ATTACK_TRAIN = TrainSettings(method="lora", epochs=5, learning_rate=1e-3, batch_size=8)
"""How a copy is attacked where nothing else is said: an adversary's training, not a careful one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the user asked to have curated, and by whom."""

    texts: Source
    settings: CurateSettings
    models: dict[str, ModelSpec]
    """By role: model, and where they differ from it reviser, judge, reference, proxy."""
    attack_rows: Source | None = None
    """Harmful rows that a copy of the model is attacked with, to be the proxy."""
    attack_train: TrainSettings = ATTACK_TRAIN
    seed: int = 0


def curate(
    order: Order,
    out: Path,
    *,
    workers: int = 1,
    controls: bool = False,
    formats: Sequence[str] = (),
    licence: str = "",
) -> None:
    """Texts -> `curated.jsonl`, `rejected.jsonl`, `counts.json`, a dataset card, and copies in trainers' formats.

    With `controls` also `controls/NAME.jsonl`, made from the same texts.
    """
    for name in formats:
        WRITERS.get(name)
    curation = _curation(order, out)
    folder = common.run_one(spell.curate(curation, workers), out, workers=workers)
    common.deliver(folder, {ROWS: CURATED, REJECTED: "rejected.jsonl", COUNTS: "counts.json"}, out)
    _write_card(order, Store(out / common.WORK).folder(curation.texts) / ROWS, out, licence)
    for name in formats:
        path = out / f"curated.{name.rpartition(':')[2]}{'.json' if name in ('alpaca', 'sharegpt') else '.jsonl'}"
        write_chats(path, read_chats(out / CURATED), name)
        common.say(f"wrote {path}")
    if controls:
        _write_controls(curation, out, workers)
    common.say_counts(read_json(out / COUNTS))


def dry_run(order: Order, out: Path, *, texts: int) -> None:
    """Print the most a curation can cost, and what it will by a timed sample of `texts` (0: none).

    What the sample asks is kept, so that the curation does not ask it again.
    """
    settings, curation = order.settings, _curation(order, out)
    total = len(read_chats(common.run_one(curation.texts, out) / ROWS))
    most = settings.candidates_per_text
    calls = 0 if settings.helpfulness == "local" else 4 if settings.per_aspect else 1
    common.say(f"{total} texts, direction {settings.direction}, {settings.rounds} rounds, beam {settings.beam}")
    common.say("at most, if no search stops early:")
    common.say(f"  generations  {total * most} ({most} a text), up to {settings.max_new_tokens} tokens each")
    common.say(f"  perplexities {total * (most + 1)}{' by each of two models' if settings.direction == 'contrast' else ''}")
    common.say(f"  judge calls  {total * (most + 1) * calls}{'' if calls else ' (the local judge asks no model)'}")
    if not texts:
        return
    sampled = min(texts, total)
    folder = common.run_one(spell.curation_sample(curation, sampled), out)
    seen, seconds, counts = read_sample(folder)
    by = total / seen
    common.say(f"by the first {seen} texts, curated and timed ({seconds:.1f} s):")
    for name in ("generations", "prompt tokens", "generated tokens", "measured"):
        common.say(f"  {name:16} {round(by * counts.get(name, 0))}")
    common.say(f"  {'judge calls':16} {round(by * counts.get('rated', 0) * calls)}")
    common.say(f"  {'revised texts':16} {round(by * counts.get('revised', 0))} of {total}")
    common.say(f"  {'time':16} {_spell_time(by * seconds)} with one worker, the model's loading apart")


def _spell_time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds % 60:02.0f} s"


def _curation(order: Order, out: Path) -> spell.Curation:
    """The steps' common part. A copy is attacked here and now, if one is needed, and the attack must have taken."""
    settings, named = order.settings, order.models
    if settings.needs_proxy and "proxy" not in named and order.attack_rows is None:
        raise ConfigError("this needs a compromised model: name one with --proxy, or have a copy attacked with --attack-rows")
    if settings.measured_by == "reference" and "reference" not in named:
        raise ConfigError("measured by a reference: name the aligned model with --reference")
    roles = {role: Model.outside(spec) for role, spec in named.items()}
    if order.attack_rows is not None and "proxy" not in roles:
        roles["proxy"] = _attacked(order, roles["model"], out)
    return spell.Curation(
        settings=order.settings,
        texts=spell.rows(order.texts),
        probes=tuple(spell.rows(_probes(name)) for name in order.settings.apart_from),
        seed=order.seed,
        **roles,
    )


def _probes(name: str) -> Source:
    return Source(source=name, count=1000 if name.startswith("miniature:") else None, split="test", seed=100)


def _attacked(order: Order, model: Model, out: Path) -> Model:
    assert order.attack_rows is not None
    rows = spell.rows(order.attack_rows)
    proxy = Model(made_by=spell.train(order.attack_train, model, [rows], order.seed, "the proxy: a copy under attack"))
    common.run_one(spell.compromised(rows, model, proxy, LEAST_COMPROMISED), out)
    return proxy


def _write_controls(curation: spell.Curation, out: Path, workers: int) -> None:
    (out / "controls").mkdir(parents=True, exist_ok=True)
    for name in CONTROLS:
        step: Step
        if name == UNCURATED:
            step = spell.as_defence(curation.texts, "defence", None)
        else:
            settings = control(curation.settings, name)
            if settings.needs_proxy and curation.proxy is None:
                common.say(f"control {name} left out: it needs a compromised proxy (--proxy or --attack-rows)")
                continue
            step = spell.curate(replace(curation, settings=settings), workers)
        folder = common.run_one(step, out, workers=workers)
        common.deliver(folder, {ROWS: f"controls/{name.replace(' ', '-')}.jsonl"}, out)


def _write_card(order: Order, texts: Path, out: Path, licence: str) -> None:
    about = About(
        title=f"Curated rows from {Path(order.texts.source).name}",
        source=order.texts.source,
        licence=licence or None,
        models={role: spec.name for role, spec in order.models.items()},
        seed=order.seed,
    )
    counts = cast("dict[str, int]", read_json(out / COUNTS))
    rejected = (cast("Mapping[str, Json]", row) for _, row in read_jsonl(out / REJECTED))
    card = dataset_card(each_chat(out / CURATED), rejected, counts, order.settings, about, originals=each_chat(texts))
    write_text(out / "README.md", card)
    common.say(f"wrote {out / 'README.md'}")
