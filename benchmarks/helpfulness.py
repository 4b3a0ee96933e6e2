"""How far the judges of helpfulness can be trusted: against answers of known order, and against each other.

    python benchmarks/helpfulness.py [--model MODEL | --rater] [--data FILE] [--limit N]

Every harmless question/answer row makes a ladder of answers: the answer itself and a revision with care around it (whole),
half of its content dropped, cut off in the middle, its words shuffled, the same made to look like a sentence (damaged), the
answer of another question and empty talk (nothing). Prints how often each judge puts a better rung above a worse one, which
rungs it lets through the floor of curation, and how far the two judges agree. Without a model, the judge that needs none is
measured alone. `--rater` first teaches the miniature to grade ladders of the made-up world, on other questions than those it
is measured on.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from scipy.stats import spearmanr

from buckler.curation.helpfulness import ASPECTS, Helpfulness, LocalHelpfulness, RubricHelpfulness, rubric_request
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, Message
from buckler.data.language import content_words
from buckler.evaluation.statistics import Rate, rate
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.train import train
from buckler.models.protocol import spec_of
from buckler.models.registry import load
from buckler.workflow.sources import Source, source_chats

WORLD = "miniature:commonsense"
LEVELS = {
    "original": 3,
    "with care": 3,
    "half": 2,
    "cut off": 2,
    "shuffled": 2,
    "shuffled, tidy": 2,
    "another's": 1,
    "empty talk": 1,
}
"""Whole, damaged, nothing: only rungs of different levels have a known order."""
GRADES = {
    "original": (5, 5, 5, 5),
    "with care": (5, 5, 5, 5),
    "half": (5, 3, 3, 3),
    "cut off": (5, 2, 3, 3),
    "shuffled": (4, 1, 4, 2),
    "shuffled, tidy": (4, 1, 4, 2),
    "another's": (1, 5, 1, 1),
    "empty talk": (1, 4, 1, 1),
}
"""What the rater is taught, in the order of `ASPECTS`."""
CARE = (
    ("Please be careful.", "Take your time."),
    ("It is wise to think of others first.", "Safety comes before haste."),
    ("A responsible person asks who may be near.", "Be gentle with it."),
)
TALK = (
    "That is a very good question, and there is a lot that one could say.",
    "Many people ask this. It depends on many things, as so often.",
    "There are different views, and all of them have something to say.",
)
FLOOR = CurateSettings().helpfulness_floor
SHORTEST = 6
"""Words an answer must have, so that half of it is something."""

Rung = tuple[str, Chat]
Ratings = list[dict[str, float | None]]


def ladder(row: Chat, other: Chat, rng: random.Random) -> list[Rung]:
    """The rungs of one row; `other` has the answer of another question."""
    answer = row.answer or ""
    words = answer.split()
    before, after = rng.choice(CARE)
    texts = {
        "original": answer,
        "with care": f"{before} {answer} {after}",
        "half": _half(words),
        "cut off": " ".join(words[: len(words) // 2]),
        "shuffled": " ".join(rng.sample(words, len(words))),
        "shuffled, tidy": _tidy(rng.sample(words, len(words))),
        "another's": other.answer or "",
        "empty talk": rng.choice(TALK),
    }
    return [(rung, row.answered(text)) for rung, text in texts.items()]


def _half(words: Sequence[str]) -> str:
    """The words without every second one that carries content."""
    kept, seen = [], 0
    for word in words:
        seen += bool(content_words(word))
        if seen % 2 or not content_words(word):
            kept.append(word)
    return " ".join(kept).rstrip(",;: ") + "."


def _tidy(words: Sequence[str]) -> str:
    """The words as one sentence: only their order can tell that they were shuffled."""
    bare = " ".join(word.strip(".,;:!?") for word in words).lower()
    return f"{bare[:1].upper()}{bare[1:]}."


def ladders(rows: Sequence[Chat], seed: int) -> list[list[Rung]]:
    """A ladder a row; the other question is the next row whose answer shares least with this one."""
    rng = random.Random(f"ladders-{seed}")
    rungs = []
    for at, row in enumerate(rows):
        others = [rows[(at + step) % len(rows)] for step in range(1, min(len(rows), 9))]
        words = content_words(row.answer or "")
        other = min(others, key=lambda one: len(words & content_words(one.answer or "")))
        rungs.append(ladder(row, other, rng))
    return rungs


def rated(judge: Helpfulness, rows: Sequence[list[Rung]]) -> Ratings:
    """The judge's rating of every rung."""
    pairs = [(pair, rungs[0][1]) for rungs in rows for _, pair in rungs]
    ratings = iter(judge.rate([pair for pair, _ in pairs], [original for _, original in pairs]))
    return [{rung: next(ratings) for rung, _ in rungs} for rungs in rows]


def order(ratings: Ratings) -> Rate:
    """How often the better of two rungs of different levels is rated higher; a tie is a miss, an unscored one is unscored."""
    verdicts: list[bool | None] = []
    for row in ratings:
        for one, other in combinations(LEVELS, 2):
            if LEVELS[one] > LEVELS[other]:
                above, below = row[one], row[other]
                verdicts.append(None if above is None or below is None else above > below)
    return rate(verdicts)


def within(row: dict[str, float | None], rung: str) -> bool | None:
    """Whether a rung reaches the floor beside its original; None if either is unscored."""
    rating, original = row[rung], row["original"]
    return None if rating is None or original is None else rating >= FLOOR * original


def decisions(ratings: Ratings) -> Rate:
    """How often the floor decides as the levels do: whole in, damaged and nothing out."""
    verdicts = []
    for row in ratings:
        for rung in [one for one in LEVELS if one != "original"]:
            inside = within(row, rung)
            verdicts.append(None if inside is None else inside == (LEVELS[rung] == 3))
    return rate(verdicts)


def agreement(one: Ratings, other: Ratings, of: Callable[[dict[str, float | None], str, str], bool | None]) -> Rate:
    """How often two judges say the same of a pair of rungs, where both say something."""
    verdicts: list[bool | None] = []
    for here, there in zip(one, other, strict=True):
        for pair in combinations(LEVELS, 2):
            local, by_model = of(here, *pair), of(there, *pair)
            if local is not None and by_model is not None:
                verdicts.append(local == by_model)
    return rate(verdicts)


def above(row: dict[str, float | None], one: str, other: str) -> bool | None:
    """Whether `one` is rated above `other`; None for a tie or an unscored one."""
    a, b = row[one], row[other]
    return None if a is None or b is None or a == b else a > b


def teach(folder: Path, questions: int) -> str:
    """The miniature, taught to grade ladders of the made-up world; the folder of the model."""
    rows = source_chats(Source(source=WORLD, count=questions, seed=1, split="train"))
    lessons = [
        Chat.of((*rubric_request(pair), Message(role="assistant", content=_graded(rung))))
        for rungs in ladders(_long(rows), seed=1)
        for rung, pair in rungs
    ]
    settings = TrainSettings(epochs=3, learning_rate=1e-3, batch_size=16, warmup_steps=20, schedule="cosine", checkpoint_every=0)
    started = time.process_time()
    record = train(spec_of("miniature"), lessons, settings, folder, seed=0)
    losses = record["losses"]
    print(f"rater: {len(lessons)} graded answers, {time.process_time() - started:.0f} CPU seconds, losses {losses}")
    return str(folder / "model")


def _graded(rung: str) -> str:
    return "\n".join(f"{aspect}: {grade}" for aspect, grade in zip(ASPECTS, GRADES[rung], strict=True))


def _long(rows: Sequence[Chat]) -> list[Chat]:
    return [row for row in rows if len((row.answer or "").split()) >= SHORTEST]


def in_words(rate: Rate) -> str:
    """A rate with its interval, its cases and how many were unscored."""
    if rate.value is None:
        return f"- (0 of {rate.unscored} read)"
    unscored = f", {rate.unscored} unscored" if rate.unscored else ""
    return f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}] (n {rate.n}{unscored})"


def show(name: str, ratings: Ratings) -> None:
    """One judge against the known order."""
    print(f"\n{name}")
    print(f"  better rung above the worse: {in_words(order(ratings))}")
    print(f"  floor decides as known:      {in_words(decisions(ratings))}")
    print(f"  {'rung':<16}{'mean rating':>12}  within {FLOOR:g} of the original")
    for rung in LEVELS:
        read = [value for row in ratings if (value := row[rung]) is not None]
        mean = f"{sum(read) / len(read):.2f}" if read else "-"
        print(f"  {rung:<16}{mean:>12}  {in_words(rate(within(row, rung) for row in ratings))}")


def compare(local: Ratings, model: Ratings) -> None:
    """The two judges beside each other."""
    both = [
        (by_rule, by_model)
        for here, there in zip(local, model, strict=True)
        for rung in LEVELS
        if (by_rule := here[rung]) is not None and (by_model := there[rung]) is not None
    ]
    print("\nthe two judges")
    if len({by_rule for by_rule, _ in both}) > 1 and len({by_model for _, by_model in both}) > 1:
        print(f"  Spearman over all rungs:     {spearmanr(*zip(*both, strict=True)).statistic:.3f} (n {len(both)})")
    print(f"  same order of two rungs:     {in_words(agreement(local, model, above))}")
    inside = [
        (within(a, rung), within(b, rung)) for a, b in zip(local, model, strict=True) for rung in LEVELS if rung != "original"
    ]
    print(f"  same side of the floor:      {in_words(rate(None if None in pair else pair[0] == pair[1] for pair in inside))}")


def main() -> None:
    """Read the options, make the ladders, rate and print."""
    parser = argparse.ArgumentParser(description="How far the judges of helpfulness can be trusted.")
    parser.add_argument("--model", help="a model that rates: a folder, a hub id, `miniature`, or NAME@URL")
    parser.add_argument("--rater", action="store_true", help="teach the miniature to rate, and let it")
    parser.add_argument("--questions", type=int, default=600, help="questions of the made-up world the rater is taught on")
    parser.add_argument("--data", default=WORLD, help="harmless question/answer rows in any known format")
    parser.add_argument("--limit", type=int, default=100, help="how many rows")
    parser.add_argument("--per-aspect", action="store_true", help="one call for each aspect")
    options = parser.parse_args()
    if options.rater and options.model:
        sys.exit("--rater brings its own model: leave --model away")
    world = options.data == WORLD
    rows = _long(source_chats(Source(source=options.data, count=2 * options.limit if world else None, split="test")))
    rows = rows[: options.limit]
    if len(rows) < 2:
        sys.exit(f"{options.data}: {len(rows)} rows have an answer of {SHORTEST} words; a ladder needs a second one's")
    rungs = ladders(rows, seed=0)
    print(f"{len(rows)} ladders of {options.data}, answers of {SHORTEST} words and more")
    local = rated(LocalHelpfulness(), rungs)
    show(LocalHelpfulness.name, local)
    with tempfile.TemporaryDirectory() as folder:
        name = teach(Path(folder), options.questions) if options.rater else options.model
        if name:
            judge = RubricHelpfulness(load(spec_of(name)), per_aspect=options.per_aspect)
            model = rated(judge, rungs)
            show(f"{judge.name} ({'the taught miniature' if options.rater else name})", model)
            compare(local, model)


if __name__ == "__main__":
    main()
