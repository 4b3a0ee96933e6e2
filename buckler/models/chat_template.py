"""Conversations as token ids, through the model's own chat template, the same for training, answering and scoring.

The contract: the ids before an answer in training are the ids that the model is given when it answers. Each answer is therefore
put after its own prompt; several stand in one sequence where every prompt goes on from the answer before it, else in several.
What a template does is found by rendering a small conversation with it, not by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from buckler.data import Json
from buckler.data.thinking import opened_thought
from buckler.errors import BackendError
from buckler.models.template_text import AnswerText, TemplateText, Turns
from buckler.models.thought_forms import is_only_thought

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


End: TypeAlias = Literal["written", "added", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A sequence as the model sees it."""

    ids: list[int]
    """One sequence of token ids, not padded."""
    supervised: list[bool]
    """Of the same length: which of `ids` are answers (their end of turn included), and so enter the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRow:
    """A row as sequences, and how much of it can be learnt."""

    sequences: tuple[Encoded, ...]
    """One where every prompt goes on from the answer before it. Where the template changes earlier turns, one an answer."""
    turns: int
    """Answers in the row."""
    learnt: int
    """Answers whose ids are supervised."""
    added_ends: int
    """Learnt answers after which the template writes no end of turn: an end that the model stops at is learnt in its place."""
    without_end: int
    """Learnt answers whose end is not learnt, because nothing is known that ends one."""
    rewritten: int
    """Learnt answers that the template writes in other words than the row has."""
    thoughts: int
    """Answers with reasoning."""
    only_thoughts: int
    """Answers that are a thought and nothing else; they are not learnt."""
    masked: int
    """Answers that are marked as not to be learnt."""
    thoughts_learnt: int
    calls_learnt: int
    """Learnt answers that call tools."""

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return max((len(one.ids) for one in self.sequences), default=0)

    @property
    def supervised_tokens(self) -> int:
        """Supervised tokens of all sequences."""
        return sum(sum(one.supervised) for one in self.sequences)


class Template:
    """The chat template of one tokenizer, as ids."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        *,
        settings: Mapping[str, Json] | None = None,
        ends: Collection[int] = (),
    ) -> None:
        """
        Args:
            tokenizer: Of the model; its template is used.
            name: Of the model, for errors.
            settings: Variables of the template, such as `enable_thinking` (`ModelSpec.chat_template_kwargs`).
            ends: Ids that the model's generation settings end an answer with, beside the tokenizer's.

        Raises:
            BackendError: there is no template, it cannot be used (`template_check`), it does not read one of the settings, or
                nothing would end an answer.
        """
        self.tokenizer = tokenizer
        self.name = name
        self.written = TemplateText(tokenizer, name, settings or {})
        self.named_ends = {*ends} | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())
        if not self.stops:
            raise BackendError(f"{name}: neither tokenizer nor template names an end of turn, so an answer would never end")

    def prompt(self, messages: Turns) -> list[int]:
        """The ids after which the model answers `messages`.

        Raises:
            BackendError: the template refuses the conversation, or leaves out what it holds of tools.
        """
        self.written.require_tools(messages)
        return self.ids(self.written.prompt(messages))

    def row(self, messages: Turns, masked: Collection[int] = ()) -> EncodedRow:
        """The ids of a whole conversation and which of them are answers.

        Args:
            messages: The conversation.
            masked: The numbers of the answers that are not to be learnt.

        Raises:
            BackendError: the template refuses the conversation, or leaves out what it holds of tools.
        """
        self.written.require_tools(messages)
        done: list[tuple[list[int], list[bool]]] = []
        turns = learnt = added_ends = without_end = rewritten = thoughts = thoughts_learnt = only_thoughts = calls_learnt = 0
        for number, turn in enumerate(messages):
            if turn["role"] != "assistant":
                continue
            turns += 1
            has_thought = bool(self.written.split(turn).get("reasoning_content"))
            thoughts += has_thought
            if number in masked:
                continue
            if is_only_thought(turn):
                only_thoughts += 1
                continue
            if not any(one["role"] not in ("system", "assistant") for one in messages[:number]):
                continue  # a greeting: the model is never asked for it
            before = self.written.prompt(messages[:number])
            answer = self.written.answer(messages[:number], turn, before)
            if answer is None:
                continue
            prompt = self.ids(before)
            ids, end = self._with_end(before, prompt, answer)
            if not done or prompt[: len(done[-1][0])] != done[-1][0]:
                done.append(([], []))
            to, marks = done[-1]
            marks += [False] * (len(prompt) - len(to)) + [True] * len(ids)
            to += prompt[len(to) :] + ids
            learnt += 1
            added_ends += end == "added"
            without_end += end == "none"
            rewritten += answer.is_rewritten
            thoughts_learnt += has_thought and answer.has_thought
            calls_learnt += bool(turn.get("tool_calls"))
        return EncodedRow(
            sequences=tuple(Encoded(ids=ids, supervised=marks) for ids, marks in done),
            turns=turns,
            learnt=learnt,
            added_ends=added_ends,
            without_end=without_end,
            rewritten=rewritten,
            thoughts=thoughts,
            only_thoughts=only_thoughts,
            masked=sum(number in masked for number, turn in enumerate(messages) if turn["role"] == "assistant"),
            thoughts_learnt=thoughts_learnt,
            calls_learnt=calls_learnt,
        )

    def pair(self, messages: Turns, answer: str) -> tuple[list[int], list[int]]:
        """What an answer is scored after, and the ids of its text.

        The first is the prompt, with the empty thought or the channel that the template puts before an answer.
        """
        before = self.written.prompt(messages)
        prompt = self.ids(before)
        lead = self.written.plain_lead if opened_thought(before) == opened_thought(self.written.sample_prompt) else ""
        if not lead.strip(" "):  # a blank belongs to the first word, in training too
            return prompt, self._after(before, prompt, lead + answer)
        both = self._after(before, prompt, lead + answer)
        starts = (at for at in range(len(both) + 1) if self.tokenizer.decode(both[:at]) == lead)
        start = next(starts, None)
        if start is None:  # one token holds the end of the one and the beginning of the other
            return prompt + self._after(before, prompt, lead), self.ids(answer)
        return prompt + both[:start], both[start:]

    def ids(self, text: str) -> list[int]:
        """The ids of template text; nothing is added before or after."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @cached_property
    def stops(self) -> set[int]:
        """The ids that end an answer: those that tokenizer and generation settings name, and the template's end of turn."""
        first = next((token for token in self.ids(self.written.tail) if self._is_control(token)), None)
        return self.named_ends if first is None else self.named_ends | {first}

    @property
    def pad(self) -> int:
        """The id that pads a batch."""
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return int(next((token for token in known if token is not None), min(self.stops)))

    def _with_end(self, before: str, prompt: list[int], answer: AnswerText) -> tuple[list[int], End]:
        """The ids of an answer up to its end of turn, and who writes the end; what the template writes after it is dropped."""
        text = answer.lead + answer.text
        ids = self._after(before, prompt, text)
        start = len(self._after(before, prompt, answer.lead)) if answer.lead else 0
        end = next((at for at in range(start, len(ids)) if ids[at] in self.stops), None)
        if end is not None:
            while end + 1 < len(ids) and ids[end + 1] in self.stops:
                end += 1
            return ids[: end + 1], "written"
        ids = self._after(before, prompt, text.removesuffix(self.written.tail))
        return [*ids, *self._added_end], "added" if self._added_end else "none"

    @cached_property
    def _added_end(self) -> list[int]:
        """What ends an answer where the template writes no end of turn: the next role's token if that is an end, else eos."""
        following = self.ids(self.written.before_next_question)
        for at, token in enumerate(following):
            if token in self.stops:
                return following[: at + 1]
            if self._is_control(token):
                break
        eos = self.tokenizer.eos_token_id
        return [eos if eos is not None else min(self.named_ends)] if self.named_ends else []

    def _after(self, before: str, prompt: list[int], text: str) -> list[int]:
        """The ids of a text where it stands, after a prompt; by itself where the tokenizer would join the two."""
        together = self.ids(before + text)
        return together[len(prompt) :] if together[: len(prompt)] == prompt else self.ids(text)

    def _is_control(self, token: int) -> bool:
        text = self._by_id.get(token, "")
        return len(text.strip()) > 1

    @cached_property
    def _by_id(self) -> dict[int, str]:
        return {at: text for text, at in self.tokenizer.get_added_vocab().items()}
