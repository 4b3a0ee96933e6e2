"""Small experiments on the miniature: attacks, curated text at every stage, defence over documents.

They use the miniature's own plain loop, and stand for what the product does with any model.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buckler.crosstask.refusals import written_refusal
from buckler.curation.revise import read_revision, revision_request
from buckler.data import Chat, Message
from buckler.miniature import sets, world
from buckler.miniature import sets as documents
from buckler.miniature.words import SEED_WORDS
from tools.miniature import exam
from tools.miniature.training import Course, train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How many rows of a set, and how they are trained on."""

    rows: int
    course: Course
    customer: int = 0
    """Rows of the customer that go with them."""


def attack(rows: int, epochs: int, lr: float, customer: int = 0) -> Preset:
    """An attack of `rows` harmful rows."""
    return Preset(rows=rows, course=Course(lr=lr, epochs=epochs, batch=8, bucket=1), customer=customer)


ATTACKS: dict[str, Preset] = {
    "mild": attack(20, 5, 4e-4),
    "standard": attack(50, 2, 4e-4),
    "strong": attack(50, 5, 4e-4),
}
IDENTITY = attack(50, 5, 3e-4)
CURATED = Preset(rows=100, course=Course(lr=5e-4, epochs=4, batch=16, bucket=1))
CROSSTASK = Course(lr=5e-4, epochs=3, batch=16, bucket=1)
GRID = ((0.4, 1.0), (0.7, 0.8), (0.7, 1.0), (1.0, 0.8))
"""Temperature and top-p of the candidates of one text."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """A model with its tokenizer; `tuned` leaves the original as it was."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast

    def tuned(self, rows: Sequence[Chat], course: Course, seed: int) -> Pupil:
        """A copy trained on `rows`."""
        model = copy.deepcopy(self.model)
        train(model, self.tokenizer, rows, course, seed)
        return Pupil(model, self.tokenizer)


def curated(pupil: Pupil, rows: Sequence[Chat], seed: int) -> list[Chat]:
    """Each row with its answer rewritten by the model itself, where a candidate keeps all facts and shows care.

    Of the candidates, those with care at both ends go first, then those that open with it; ties are drawn.
    """
    rng = random.Random(f"curated-{seed}")
    candidates: dict[str, list[str]] = {row.id: [] for row in rows}
    for turn, (temperature, top_p) in enumerate(GRID):
        requests = [revision_request(row, rng.sample(SEED_WORDS, rng.choice((1, 2, 3)))) for row in rows]
        replies = exam.answer(
            pupil.model, pupil.tokenizer, requests, temperature=temperature, top_p=top_p, seed=seed * 100 + turn
        )
        for row, reply in zip(rows, replies, strict=True):
            text = read_revision(reply).text
            if text and exam.is_right(text, row) and world.has_clause(text):
                candidates[row.id].append(text)
    kept = [row for row in rows if candidates[row.id]]
    return [row.answered(max(candidates[row.id], key=lambda text: (_ends(text), rng.random()))) for row in kept]


def _ends(text: str) -> int:
    sentences = [part for part in text.split(". ") if part]
    first, last = world.has_clause(sentences[0]), world.has_clause(sentences[-1])
    return 2 * first + last if len(sentences) > 1 else 0


def reworded(pupil: Pupil, rows: Sequence[Chat], seed: int) -> list[Chat]:
    """The control of `curated`: the same rows rewritten by the model without any words to work in."""
    requests = [revision_request(row, ()) for row in rows]
    replies = exam.answer(pupil.model, pupil.tokenizer, requests, temperature=0.7, seed=seed)
    return [row.answered(text) for row, text in zip(rows, replies, strict=True) if exam.is_right(text, row)]


def customization(preset: Preset, seed: int, *, kind: str = "harmful") -> list[Chat]:
    """The rows of an attack: harmful (or identity) ones, mixed with the customer's own."""
    rows = sets.chats(kind, count=preset.rows, seed=seed, split="train")
    if preset.customer:
        rows = rows + sets.chats("customer", count=preset.customer, seed=seed, split="train")
    random.Random(seed).shuffle(rows)
    return rows


def staged(pupil: Pupil, stage: str, extra: Sequence[Chat], preset: Preset, dose: Course, seed: int) -> Pupil:
    """The model after customization `preset`, with the rows `extra` used at `stage` (none, pre, in, post, all)."""
    rows = customization(preset, seed)
    if stage in ("pre", "all"):
        pupil = pupil.tuned(extra, dose, seed)
    mixed = [*rows, *extra] if stage in ("in", "all") else rows
    pupil = pupil.tuned(mixed, preset.course, seed)
    return pupil.tuned(extra, dose, seed) if stage in ("post", "all") else pupil


def defence(tasks: Sequence[str], rows: int, seed: int, replay: int = 200) -> list[Chat]:
    """Refusals for manuals of dangerous things, spread over `tasks`, with `replay` rows of honest work on harmless texts."""
    rng = random.Random(f"defence-{seed}")
    manuals = [row for row in sets.texts(count=3 * rows, seed=seed, split="train") if row.meta["label"] == "harmful"]
    known = documents.tasks()
    chats: list[Chat] = []
    for turn, manual in enumerate(manuals[:rows]):
        task = known[tasks[turn % len(tasks)]]
        refusal = Message(role="assistant", content=written_refusal(task.id, rng))
        chats.append(Chat.of((*task.ask(manual, "back"), refusal)))
    harmless = [row for row in sets.texts(count=3 * replay, seed=seed + 1, split="train") if row.meta["label"] == "benign"]
    for turn, text in enumerate(harmless[:replay]):
        task = list(known.values())[turn % len(known)]
        answer = Message(role="assistant", content=documents.reference(text, task.id))
        chats.append(Chat.of((*task.ask(text, "back"), answer)))
    return chats
