"""Conversations as token ids, through the model's own chat template.

A training row is tokenized piece by piece at the places where the model would begin to answer, so that the ids before an answer
are exactly the ids the model is given when it answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from buckler.data import Message
from buckler.errors import BackendError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A row as the model sees it."""

    ids: list[int]
    """One row of token ids, not padded."""
    supervised: list[bool]
    """Of the same length: which of `ids` are answers (their end of turn included), and so enter the loss."""


class Template:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        if not tokenizer.chat_template:
            raise BackendError(
                f"{name}: the tokenizer has no chat template; "
                "use the instruct model, or give a template with `chat_template: FILE.jinja`"
            )
        if tokenizer.eos_token_id is None:
            raise BackendError(f"{name}: the tokenizer has no end-of-sequence token, so an answer would never end")
        self.tokenizer = tokenizer
        self.name = name
        specials = sorted({str(token) for token in tokenizer.all_special_tokens} | _added(tokenizer), key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(token) for token in specials if len(token) > 1) or r"(?!)")

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the model answers `messages`."""
        return self.ids(self._render(messages, ask=True))

    def row(self, messages: Sequence[Message]) -> Encoded:
        """The ids of a whole conversation and which of them are answers."""
        whole = self._render(messages, ask=False)
        ids: list[int] = []
        supervised: list[bool] = []
        at = 0
        for number, turn in enumerate(messages):
            if turn["role"] != "assistant":
                continue
            before = self._render(messages[:number], ask=True)
            after = self._render(messages[: number + 1], ask=False)
            # Some templates rewrite earlier turns (a thinking part is dropped): those turns are context only.
            if not (whole.startswith(before) and whole.startswith(after) and len(before) >= at):
                continue
            context, answer = self.ids(whole[at : len(before)]), self._to_end(self.ids(whole[len(before) : len(after)]))
            ids += context + answer
            supervised += [False] * len(context) + [True] * len(answer)
            at = len(after)
        if not ids:
            raise BackendError(
                f"{self.name}: the chat template does not extend its own prompt, so answers cannot be marked; use another one"
            )
        return Encoded(ids=ids, supervised=supervised)

    def ids(self, text: str) -> list[int]:
        """The ids of template text; nothing is added before or after."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _to_end(self, ids: list[int]) -> list[int]:
        """An answer's ids up to its end of turn; what the template writes after it is never generated."""
        ends = [at for at, token in enumerate(ids) if token in self.stops]
        return ids[: ends[-1] + 1] if ends else ids

    @cached_property
    def stops(self) -> set[int]:
        """The ids that end an answer: the end of sequence, and the end of turn of the common templates."""
        tokens = {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>"}
        vocabulary = self.tokenizer.get_added_vocab()
        return {self.tokenizer.eos_token_id, *(vocabulary[token] for token in tokens if token in vocabulary)}

    def _render(self, messages: Sequence[Message], *, ask: bool) -> str:
        """Template text. Control tokens written inside a message are broken apart, so that no text can end a turn."""
        turns = [{"role": turn["role"], "content": self._tame(turn["content"])} for turn in messages]
        try:
            return self._apply(turns, ask)
        except Exception as fault:  # noqa: BLE001 - templates raise whatever they like
            if turns[0]["role"] == "system" and len(turns) > 1:
                merged = {"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
                return self._apply([merged, *turns[2:]], ask)
            raise BackendError(f"{self.name}: the chat template refuses this conversation: {fault}") from None

    def _apply(self, turns: list[dict[str, str]], ask: bool) -> str:
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask))

    def _tame(self, text: str) -> str:
        return self._control.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)


def _added(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token.content) for token in decoder.values() if token.special}
