"""A chat template as text: what it writes before an answer, as the answer, and after it.

What a template does is found by rendering a small conversation with it, not by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from buckler.data import Json, tools_in
from buckler.data.thinking import opened_thought
from buckler.errors import BackendError
from buckler.models.template_check import (
    ANSWER,
    FIX,
    GIVEN,
    NO_QUESTION,
    QUESTION,
    SYSTEM,
    Check,
    ConversationRefused,
    check_template,
    known_settings,
    parse,
    reason_of,
    unknown_names,
)
from buckler.models.template_turns import SAMPLE_MARKS, folded, in_form, names_called, sample, with_marks
from buckler.models.thought_forms import Thought, answer_mark, form_of, is_closed, split_thought, with_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns: TypeAlias = Sequence[Mapping[str, object]]
"""Turns as `buckler.data.Message`."""
THINKING = "buckler0thinking"
"""The thought of the small conversation, which no template writes by itself."""
DATE = date(2024, 7, 26)
"""The date that is given to every template that asks for today's: an answer does not depend on the day it was asked."""
_CALL = re.compile(r"strftime_now\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*\)")


def with_constant_date(text: str, day: date = DATE) -> str:
    """The template with a constant date in place of today's."""
    constant = _CALL.sub(lambda call: repr(day.strftime(call[1] if call[1] is not None else call[2])), text)
    if "strftime_now(" not in constant:
        return constant
    return "{% macro strftime_now(format) %}" + day.isoformat() + "{% endmacro %}" + constant


def with_defaults(text: str, settings: Mapping[str, object]) -> str:
    """The template with other defaults, so that a model is asked as it was trained wherever it is loaded."""
    lines = [f"{{%- set {name} = {name} if {name} is defined else {value!r} -%}}\n" for name, value in sorted(settings.items())]
    return "".join(lines) + text


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText:
    """An answer as it is to be generated after its prompt."""

    lead: str
    """What the template writes between the prompt and the text of the answer, such as a thought."""
    text: str
    """The answer, and what the template writes after it."""
    has_thought: bool
    is_rewritten: bool = False
    """Whether the template writes another answer than it is given."""


class TemplateText:
    """The chat template of one tokenizer, with its settings."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str, settings: Mapping[str, Json]) -> None:
        """
        Raises:
            BackendError: there is no template, it does not write what it is given, or does not read one of the settings.
        """
        if not tokenizer.chat_template:
            raise BackendError(f"{name}: the tokenizer has no chat template; use the instruct model, or {FIX}")
        self.tokenizer = tokenizer
        self.name = name
        self.settings = dict(settings)
        try:
            self.text = tokenizer.get_chat_template()
        except ValueError as fault:
            raise BackendError(f"{name}: {str(fault).splitlines()[0]}; give one with --chat-template FILE") from None
        self._text = with_constant_date(self.text)
        named = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}
        self._with_tools = with_constant_date(named["tool_use"]) if "tool_use" in named else ""
        """Of a model that has a template of its own for conversations with tools."""
        if reserved := sorted((GIVEN - {"tools", "documents"}) & self.settings.keys()):
            raise BackendError(f"{name}: chat_template_kwargs: `{reserved[0]}` is set by Buckler itself; remove it")
        known = known_settings(self.text) if self.settings else []
        if unknown := sorted(self.settings.keys() - {*known, "tools", "documents"}):
            hint = f"it reads {', '.join(known)}" if known else "it reads no settings"
            raise BackendError(f"{name}: chat_template_kwargs: the chat template does not read `{unknown[0]}`; {hint}")
        specials = sorted({str(token) for token in tokenizer.all_special_tokens} | _added(tokenizer), key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(token) for token in specials if len(token) > 1) or r"(?!)")
        self._as_parts = False
        self.check = self._checked()
        with_system = self._try([_turn("system", SYSTEM), _turn("user", QUESTION)], ask=True)
        # A template that refuses the question alone as well, such as a guard's, does not show it.
        self._takes_system = SYSTEM in with_system or not self.sample_prompt

    def _checked(self) -> Check:
        """What the template does to a small conversation, whose texts are plain ones or, failing that, lists of parts.

        Raises:
            BackendError: it cannot be used.
        """
        check = check_template(self._apply)
        if check.refusal:
            self._as_parts = True  # as those of models that see images
            as_parts = check_template(self._apply)
            self._as_parts = not as_parts.refusal
            check = check if as_parts.refusal and check.refusal != NO_QUESTION else as_parts
        if check.refusal:
            raise BackendError(f"{self.name}: the chat template {check.refusal}; {FIX}")
        given = GIVEN | {"raise_exception", "strftime_now"} | self.settings.keys()
        check.notes += unknown_names(parse(self.text), given)
        return check

    @cached_property
    def is_dated(self) -> bool:
        """Whether prompts would depend on the day they are written."""
        if "strftime_now" not in self.text:
            return False
        constant, self._text = self._text, with_constant_date(self.text, DATE.replace(year=1999))
        other_day = self._try(self.check.opening, ask=True)
        self._text = constant
        return other_day != self.sample_prompt

    def prompt(self, messages: Turns) -> str:
        """The text after which the model answers `messages`.

        Raises:
            BackendError: the template refuses the conversation.
        """
        return self._render(messages, ask=True)

    def answer(self, messages: Turns, turn: Mapping[str, object], before: str) -> AnswerText | None:
        """What is to be generated after `before`; None where the template does not show where the answer or its calls begin."""
        turn = self.split(turn)
        found = self._answer(messages, turn, before)
        calls = [self._tame_text(name) for name in names_called(turn)]
        return found if found is None or all(name in found.lead + found.text for name in calls) else None

    def _answer(self, messages: Turns, turn: Mapping[str, object], before: str) -> AnswerText | None:
        reasoning = str(turn.get("reasoning_content") or "").strip()
        whole = self._render([*messages, turn], ask=False)
        marked = ""
        with suppress(ConversationRefused):  # gpt-oss: of a thought, a text and calls, two at most
            marked = self._render([*messages, {**turn, "content": ANSWER}], ask=False)
        place = marked.rfind(ANSWER)
        if place < 0 or whole[:place] != marked[:place] or place > len(whole):
            # A template may write an answer with tool calls in another way.
            content = self._tame_text(str(turn.get("content") or "")).strip()
            if content and content not in whole[len(before) :]:
                return None
            text = whole[len(before) :]
            has_thought = bool(reasoning) and self._tame_text(reasoning) in text
            return AnswerText(lead="", text=text, has_thought=has_thought) if whole.startswith(before) else None
        lead = whole[len(before) : place] if whole.startswith(before) and len(before) <= place else None
        if lead is None or (opened_thought(before) and not is_closed(before + lead)):
            lead = self._empty_closing if opened_thought(before) else ""
            if opened_thought(before) and not lead:
                return None  # a thought that nothing is known to close
            lead = with_mark(before, lead, self._opening)
        changed = not whole[place:].lstrip().startswith(self._tame_text(str(turn.get("content") or "")).strip())
        if reasoning and self._tame_text(reasoning) not in lead:
            written = self._written_thought(before, self._tame_text(reasoning))
            if written is not None:  # in place of an empty one, and before calls that stand before the text
                calls = any(self._tame_text(name) in lead for name in names_called(turn))
                lead = written + lead.removeprefix(self.plain_lead) if calls else with_mark(before, written, self._opening)
            return AnswerText(lead=lead, text=whole[place:], has_thought=written is not None, is_rewritten=changed)
        return AnswerText(lead=lead, text=whole[place:], has_thought=bool(reasoning), is_rewritten=changed)

    def _written_thought(self, before: str, reasoning: str) -> str | None:
        """A thought after `before` where the template does not write it; None where none can stand there."""
        if opened_thought(before):
            between, closing = self._around
            return f"{between}{reasoning}{closing}"
        if self.thought is None or is_closed(before, at_end=True):
            return None
        return f"{self.thought.opening}{reasoning}{self.thought.closing}"

    @cached_property
    def _opening(self) -> str:
        return answer_mark(self._try([*self.check.opening, _turn("assistant", ANSWER)], ask=False), ANSWER, self.sample_prompt)

    @cached_property
    def plain_lead(self) -> str:
        """What the template writes between a prompt and a plain answer to it."""
        if not self.sample_prompt or self.check.no_answers:
            return ""
        answer = self.answer(self.check.opening, _turn("assistant", ANSWER), self.sample_prompt)
        return "" if answer is None else answer.lead

    @cached_property
    def thought(self) -> Thought | None:
        """How the template writes a thought; None for one that knows none."""
        return form_of(self.text.replace("\\n", "\n"))

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What stands before and after a thought that the prompt has opened: as the template writes it, else as published."""
        turns = [*self.check.opening, {**_turn("assistant", ANSWER), "reasoning_content": THINKING}]
        written = self._try(turns, ask=False)
        between, found, after = written.removeprefix(self.sample_prompt).partition(THINKING)
        if found and written.startswith(self.sample_prompt) and not between.strip() and ANSWER in after:
            return between, after[: after.index(ANSWER)]
        opened = opened_thought(self.sample_prompt)
        form = form_of(opened)
        if form is None:
            return "", ""
        return form.opening.removeprefix(opened) if form.opening.startswith(opened) else "", form.closing

    @cached_property
    def _empty_closing(self) -> str:
        """What turns an opened thought into the empty one of the model's authors, as the template writes it without thinking."""
        for key in ("enable_thinking", "thinking"):
            if key in self.text:
                empty = self._try(self.check.opening, ask=True, **{key: False})
                if empty.startswith(self.sample_prompt) and is_closed(empty, at_end=True):
                    return empty[len(self.sample_prompt) :]
        return "".join(self._around)

    @cached_property
    def tail(self) -> str:
        """What the template writes after the last answer."""
        return self._try([*self.check.opening, _turn("assistant", ANSWER)], ask=False).partition(ANSWER)[2]

    @cached_property
    def before_next_question(self) -> str:
        """What the template writes between an answer and the text of the next question."""
        turns = [*self.check.opening, _turn("assistant", ANSWER), _turn("user", QUESTION)]
        return self._try(turns, ask=False).partition(ANSWER)[2].partition(QUESTION)[0]

    @cached_property
    def sample_prompt(self) -> str:
        """The prompt of the small conversation."""
        return self._try(self.check.opening, ask=True)

    def split(self, turn: Mapping[str, object]) -> Mapping[str, object]:
        """An answer with the thought in its text as `reasoning_content`, where the template knows thoughts."""
        return split_thought(turn) if turn["role"] == "assistant" and self.thought is not None else turn

    def require_tools(self, messages: Turns) -> None:
        """
        Raises:
            ConversationRefused: the template leaves out the tools of a conversation, a call of one, or a result.
        """
        turns, marks = with_marks(messages)
        written = self._render(turns, ask=messages[-1]["role"] != "assistant") if marks else ""
        if missing := next((part for mark, part in marks.items() if mark not in written), None):
            raise ConversationRefused(
                f"{self.name}: the chat template does not write {missing}; give one that does with --chat-template FILE, "
                "or write tools, calls and results as text in the turns"
            )

    @cached_property
    def _text_arguments(self) -> bool:
        """Whether the arguments of calls must be given as a text; most templates write an object as JSON themselves."""
        fits = [all(mark in self._try(sample(form), ask=True) for mark in SAMPLE_MARKS) for form in (False, True)]
        return fits == [False, True]

    def _render(self, messages: Turns, *, ask: bool) -> str:
        """Template text. Control tokens written inside a message are broken apart, so that no text can end a turn."""
        turns = [dict(self.split(turn)) for turn in messages]
        tools = tools_in(turns)
        if tools or any("tool_calls" in turn for turn in turns):
            turns = [in_form(turn, self._text_arguments) for turn in turns]
        if not self._takes_system:
            turns = list(folded(turns))
        try:
            return self._apply(turns, ask, **({"tools": tools} if tools else {}))
        except Exception as fault:  # noqa: BLE001 - templates raise whatever they like
            roles = ", ".join(str(turn["role"]) for turn in messages[:8])
            more = ", ..." * (len(messages) > 8)
            raise ConversationRefused(
                f"{self.name}: the chat template refuses this conversation ({roles}{more}): {reason_of(fault)}"
            ) from None

    def _try(self, turns: Turns, *, ask: bool, **settings: Json) -> str:
        """The text of a small conversation; empty where the template refuses it."""
        try:
            return self._apply(turns, ask, **settings)
        except Exception:  # noqa: BLE001 - templates raise whatever they like
            return ""

    def _apply(self, turns: Turns, ask: bool, **settings: Json) -> str:
        tamed = [{key: self._tame(value) for key, value in turn.items()} for turn in turns]
        if self._as_parts:
            tamed = [
                {**one, "content": [{"type": "text", "text": one["content"]}]} if one.get("content") else one for one in tamed
            ]
        given = {**self.settings, **settings}
        rendered = self.tokenizer.apply_chat_template(
            tamed,
            chat_template=(self._with_tools if given.get("tools") else "") or self._text,
            tokenize=False,
            add_generation_prompt=ask,
            **{key: self._tame(value) if key == "tools" else value for key, value in given.items()},
        )
        return str(rendered)

    def _tame_text(self, text: str) -> str:
        return self._control.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)

    def _tame(self, value: object) -> object:
        if isinstance(value, str):
            return self._tame_text(value)
        if isinstance(value, Mapping):
            return {key: self._tame(inner) for key, inner in value.items()}
        return [self._tame(inner) for inner in value] if isinstance(value, list | tuple) else value


def _turn(role: str, content: str) -> dict[str, object]:
    return {"role": role, "content": content}


def _added(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token.content) for token in decoder.values() if token.special}


def tokens_before(bare: Sequence[int], marked: Sequence[int]) -> list[int]:
    """The ids that a tokenizer puts before a text, from the ids of one without special tokens and with them.

    Only what it puts there itself counts: many tokenizers name a beginning-of-sequence token that they never write.
    """
    starts = range(len(marked) - len(bare) + 1)
    return list(marked[: next((at for at in starts if list(marked[at : at + len(bare)]) == list(bare)), 0)])
