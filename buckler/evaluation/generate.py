"""Answer probes with a model: the first of the three steps answer, judge, summarise, with a file after each."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.data import Answer, Chat
from buckler.data.truncation import cut_to_fit
from buckler.errors import DataError
from buckler.finetuning.attacks import AttackSettings, wrap
from buckler.models.protocol import LM, Request, Sampling
from buckler.progress import ProgressCallback, no_progress

MAX_NEW_TOKENS = 256
"""Longest answer where nobody says how long: a judge misreads an answer that is cut off early."""


def answer_probes(
    model: LM,
    probes: Sequence[Chat],
    sampling: Sampling,
    *,
    attack: AttackSettings | None = None,
    chunk: int = 512,
    progress: ProgressCallback = no_progress,
) -> list[Answer]:
    """The model's answer to each probe, in order; `attack` wraps each probe as the adversary would ask it.

    A probe whose document does not fit the model is cut in its middle, and its meta says so.

    Raises:
        DataError: a probe does not fit, and there is nothing to cut; none has been asked yet.
    """
    fitting = [_fitted(model, wrap(attack, probe), sampling) for probe in probes]
    answers: list[Answer] = []
    for start in range(0, len(fitting), chunk):
        batch = fitting[start : start + chunk]
        completions = model.generate([Request(messages=chat.messages, sampling=sampling) for chat in batch])
        answers += [
            Answer(
                id=chat.id, prompt=chat.messages, text=one.text, finish_reason=one.finish_reason, meta=chat.meta, error=one.error
            )
            for chat, one in zip(batch, completions, strict=True)
        ]
        progress("answering", len(answers), len(probes))
    return answers


def _fitted(model: LM, probe: Chat, sampling: Sampling) -> Chat:
    def overflow_tokens(chat: Chat) -> int:
        return model.overflow_tokens(chat.messages, sampling.max_new_tokens)

    fitted = cut_to_fit(probe, overflow_tokens, 0)
    if fitted is None:
        place = f"{probe.meta.get('source', 'probe')}, id {probe.meta.get('id', probe.id)}"
        over = f"{overflow_tokens(probe)} tokens over the model's context length, including {sampling.max_new_tokens} new tokens"
        raise DataError(f"{place}: {over}; remove it, or lower max_new_tokens")
    return fitted
