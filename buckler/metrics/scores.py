"""How well answers do what was asked, from 0 to 1: against facts, a reference or a gold answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from buckler.data import Answer, Json
from buckler.errors import DataError
from buckler.stats import mean, rate

Scorers: TypeAlias = Mapping[str, Callable[[str, str], float]]
"""By task: how well an answer does it against a reference, from 0 to 1."""


def score_answer(answer: Answer, scorers: Scorers) -> float | None:
    """How well the answer does what was asked, from 0 to 1; None if it never came, or its meta says nothing to score against.

    `meta["facts"]`: the share of these words that stand in the answer as whole words, case aside. Otherwise
    `meta["reference"]` by the scorer of `meta["task"]`; without a task, `meta["gold"]` by the scorer of `meta["format"]`,
    where there is one. Nobody is marked down for a reference that is missing.

    Raises:
        DataError: `facts` is not a list of texts, or no scorer has the task's name.
    """
    if answer.finish == "failed":
        return None
    facts, reference, task = (answer.meta.get(name) for name in ("facts", "reference", "task"))
    if facts is not None:
        if isinstance(facts, str) or not isinstance(facts, Sequence) or not all(isinstance(one, str) for one in facts):
            raise DataError(f'answer {answer.id}: meta "facts" must be a list of texts, got {facts!r}')
        return sum(_stands_in(str(one), answer.text) for one in facts) / len(facts) if facts else None
    if task is None:
        checked, gold = scorers.get(str(answer.meta.get("format"))), answer.meta.get("gold")
        return checked(answer.text, gold) if checked and isinstance(gold, str) else None
    if not isinstance(reference, str) or not isinstance(task, str):
        return None
    if task not in scorers:
        raise DataError(f"answer {answer.id}: no scorer for task {task!r}; there are {', '.join(scorers)}")
    return scorers[task](answer.text, reference)


def _stands_in(fact: str, text: str) -> bool:
    # not \b: a fact may begin or end with a sign, and "42" must not be found in "1942"
    return re.search(rf"(?<!\w){re.escape(fact.casefold())}(?!\w)", text.casefold()) is not None


def score_answers(answers: Iterable[Answer], scorers: Scorers) -> dict[str, float | None]:
    """Scores by probe id."""
    return {answer.id: score_answer(answer, scorers) for answer in answers}


def mean_score(scores: Sequence[float | None]) -> dict[str, Json]:
    """Mean of the scores there are, with its t interval over probes cut to [0, 1], and how many there were not.

    Scores that are all 0 or 1 are a rate, and have Wilson's interval: t's has no width where they are all the same.
    """
    found = mean(scores)
    if all(score in (None, 0.0, 1.0) for score in scores):
        share = rate(None if score is None else score == 1.0 for score in scores)
        low, high = share.low, share.high
    else:
        low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (found.low, found.high))
    return {"value": found.value, "n": found.n, "unscored": len(scores) - found.n, "low": low, "high": high}
