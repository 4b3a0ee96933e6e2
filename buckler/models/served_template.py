"""What the chat template of a server writes between a prompt and an answer, so that answers are weighed as a local model's.

The template itself is not seen: a small conversation is tokenized by the server and turned back into text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from buckler.data import Json
from buckler.data.thinking import opened_thought
from buckler.models.template_check import ANSWER, QUESTION
from buckler.models.template_text import THINKING
from buckler.models.thought_forms import answer_mark, form_of, is_closed, with_mark


class ServedTemplate:
    """Answers after their prompts, as ids; the counterpart of `Template.pair`.

    Args:
        ids: Of a conversation or a text, as the body of `/tokenize` asks for it.
        text: Of ids, with their control tokens.
        settings: Of the template (`chat_template_kwargs`).
    """

    def __init__(
        self, ids: Callable[[Mapping[str, Json]], list[int]], text: Callable[[list[int]], str], settings: Mapping[str, Json]
    ) -> None:
        self._ids, self._text, self._settings = ids, text, settings
        self._texts: dict[tuple[int, ...], str] = {}
        prompt = self._chat([], ask=True)
        self._sample = text(prompt)
        whole = self._text(self._chat([{"role": "assistant", "content": ANSWER}], ask=False))
        self.lead = with_mark(self._sample, self._lead(whole), answer_mark(whole, ANSWER, self._sample))
        """What stands before a plain answer, such as an empty thought."""
        both = self._after(prompt, self.lead + ANSWER)
        ends = (at for at in range(len(both) + 1) if text(both[:at]) == self.lead)
        at = next(ends, None) if self.lead else 0
        self._lead_ids = self._after(prompt, self.lead) if at is None else both[:at]

    def pair(self, prompt: list[int], answer: str) -> tuple[list[int], list[int]]:
        """What an answer is weighed after, and its ids."""
        lead = self.lead if opened_thought(self._written(prompt)) == opened_thought(self._sample) else ""
        both = self._after(prompt, lead + answer)
        if not lead.strip(" "):  # a blank belongs to the first word
            return prompt, both
        start = len(self._lead_ids)
        if both[:start] == self._lead_ids:
            return prompt + both[:start], both[start:]
        return prompt + self._after(prompt, lead), self._of(answer)

    def _lead(self, whole: str) -> str:
        turn: dict[str, Json] = {"role": "assistant", "content": ANSWER}
        opened = opened_thought(self._sample)
        lead = whole.removeprefix(self._sample).partition(ANSWER)[0] if whole.startswith(self._sample) else ""
        if not opened or is_closed(self._sample + lead):
            return lead if ANSWER in whole else ""
        for key in ("enable_thinking", "thinking"):
            empty = self._text(self._chat([], ask=True, **{key: False}))
            if empty.startswith(self._sample) and is_closed(empty, at_end=True):
                return empty[len(self._sample) :]
        thought = self._text(self._chat([{**turn, "reasoning_content": THINKING, "reasoning": THINKING}], ask=False))
        between, found, after = thought.removeprefix(self._sample).partition(THINKING)
        if found and thought.startswith(self._sample) and not between.strip() and ANSWER in after:
            return between + after[: after.index(ANSWER)]
        form = form_of(opened)
        return "" if form is None else form.opening.removeprefix(opened) * form.opening.startswith(opened) + form.closing

    def _chat(self, turns: Sequence[dict[str, Json]], *, ask: bool, **settings: Json) -> list[int]:
        messages: list[Json] = [{"role": "user", "content": QUESTION}, *turns]
        given = {**self._settings, **settings}
        of_template: dict[str, Json] = {"chat_template_kwargs": given} if given else {}
        return self._ids({"messages": messages, "add_generation_prompt": ask, **of_template})

    def _of(self, text: str) -> list[int]:
        return self._ids({"prompt": text, "add_special_tokens": False})

    def _after(self, prompt: list[int], text: str) -> list[int]:
        """The ids of a text where it stands; by itself where the tokenizer would join it with what is before it."""
        together = self._of(self._written(prompt) + text)
        return together[len(prompt) :] if together[: len(prompt)] == prompt else self._of(text)

    def _written(self, prompt: list[int]) -> str:
        """A prompt as text; many answers share one."""
        key = tuple(prompt)
        if key not in self._texts:
            if len(self._texts) >= 64:
                self._texts.clear()
            self._texts[key] = self._text(prompt)
        return self._texts[key]
