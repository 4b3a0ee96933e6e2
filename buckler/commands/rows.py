"""Rows: build a cross-task defence, simulate an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.commands import common
from buckler.crosstask.build import CrossTaskSettings
from buckler.crosstask.documents import DocumentSettings
from buckler.data import ROWS, read_json
from buckler.finetuning.attacks import AttackSettings
from buckler.models.protocol import ModelSpec
from buckler.plan import spell
from buckler.plan.spell.common import Model
from buckler.workflow.sources import Source
from buckler.workflow.store import Step, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenceOrder:
    """What the user asked to have built from documents, and by whom."""

    documents: Sequence[Source]
    settings: CrossTaskSettings
    ready: DocumentSettings
    model: ModelSpec
    labeller: ModelSpec | None = None
    aligned: ModelSpec | None = None
    own_tasks: Path | None = None
    weakest: bool = False
    """Whether refusals are for the one task that the model processes most often."""
    apart_from: Sequence[Source] = ()
    """Documents of the test."""
    max_new_tokens: int = 128
    seed: int = 0


def crosstask(order: DefenceOrder, out: Path) -> None:
    """Documents -> `defence.jsonl`, `counts.json`; what was left out in `documents-rejected.jsonl`, `refusals-rejected.jsonl`."""
    model = Model.outside(order.model)
    labeller = Model.outside(order.labeller or order.model)
    own = spell.OwnTasks(path=str(order.own_tasks or ""))
    test = [spell.rows(source, documents=True) for source in order.apart_from]
    given = [spell.rows(source, documents=True) for source in order.documents]
    ready = spell.made_ready(given, order.ready, test=test, labeller=labeller)
    weakest = _weakest(order, ready, model, own) if order.weakest else None
    step = spell.crosstask(
        order.settings,
        ready,
        model,
        order.seed,
        order.max_new_tokens,
        own=own,
        aligned=Model.outside(order.aligned) if order.aligned else None,
        weakest=weakest,
    )
    folder = common.run_one(step, out)
    store = Store(out / common.WORK)
    common.deliver(
        folder, {ROWS: "defence.jsonl", "counts.json": "counts.json", "rejected.jsonl": "refusals-rejected.jsonl"}, out
    )
    common.deliver(store.folder(ready), {"rejected.jsonl": "documents-rejected.jsonl"}, out)
    common.say_counts(read_json(store.folder(ready) / "counts.json"))
    if weakest is not None:
        common.say_counts(read_json(store.folder(weakest) / "weakest.json"))
    common.say_counts(read_json(out / "counts.json"))


def _weakest(order: DefenceOrder, ready: Step, model: Model, own: spell.OwnTasks) -> Step:
    """The undefended model asked every task of the malicious documents, in the first wording."""
    settings = order.settings
    asking = spell.Asking(
        tasks=settings.tasks, wording=settings.wordings[0], language=settings.language, own=own, harmful_alone=True
    )
    asked = [spell.document_probes(ready, asking)]
    title = "the model, to find its weakest task"
    measured = spell.measured(model, asked, judge="keyword", max_new_tokens=order.max_new_tokens, own=own, title=title)
    return spell.weakest(measured.answers, measured.verdicts, settings.tasks)


def attack(benign: Source, harmful: Source | None, settings: AttackSettings, out: Path, *, seed: int) -> None:
    """The customer's rows under a simulated attack -> `customer.jsonl`."""
    step = spell.attack(settings, spell.rows(benign), spell.rows(harmful) if harmful else None, seed)
    common.deliver(common.run_one(step, out), {ROWS: "customer.jsonl"}, out)
    common.say(f"next: buckler train {out / 'customer.jsonl'} --model MODEL --out attacked/")
