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
from buckler.workflow.documents import Prompting, crosstask_rows, document_probe_set, most_misused, prepared
from buckler.workflow.evaluation import evaluation_steps
from buckler.workflow.inputs import ModelRef, own_tasks_at
from buckler.workflow.rows import attack_rows, rows_of
from buckler.workflow.sources import Source
from buckler.workflow.step import Outside, Step
from buckler.workflow.store import Store


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
    model = ModelRef.outside(order.model)
    labeller = ModelRef.outside(order.labeller or order.model)
    own = own_tasks_at(order.own_tasks)
    test = [rows_of(source, documents=True) for source in order.apart_from]
    given = [rows_of(source, documents=True) for source in order.documents]
    ready = prepared(given, order.ready, test=test, labeller=labeller)
    weakest = _weakest(order, ready, model, own) if order.weakest else None
    step = crosstask_rows(
        order.settings,
        ready,
        model,
        order.seed,
        order.max_new_tokens,
        own=own,
        aligned=ModelRef.outside(order.aligned) if order.aligned else None,
        most_misused=weakest,
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


def _weakest(order: DefenceOrder, ready: Step, model: ModelRef, own: dict[str, Outside]) -> Step:
    """The undefended model asked every task of the malicious documents, in the first wording."""
    settings = order.settings
    asking = Prompting(tasks=settings.tasks, wording=settings.wordings[0], language=settings.language, own=own, harmful_only=True)
    asked = [document_probe_set(ready, asking)]
    title = "the model, to find its weakest task"
    measured = evaluation_steps(model, asked, judge="keyword", max_new_tokens=order.max_new_tokens, own=own, title=title)
    return most_misused(measured.answers, measured.verdicts, settings.tasks)


def attack(benign: Source, harmful: Source | None, settings: AttackSettings, out: Path, *, seed: int) -> None:
    """The customer's rows under a simulated attack -> `customer.jsonl`."""
    step = attack_rows(settings, rows_of(benign), rows_of(harmful) if harmful else None, seed)
    common.deliver(common.run_one(step, out), {ROWS: "customer.jsonl"}, out)
    common.say(f"next: buckler train {out / 'customer.jsonl'} --model MODEL --out attacked/")
