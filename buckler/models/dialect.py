"""What a server's errors mean, and which settings of a request it takes: its dialect.

Servers word their errors as they like. What counts is the HTTP status, the fields meant for programs (`code`, `type`, `param`,
`loc`), and the names of the settings that were sent. A refused setting is renamed or left out, once for all later requests, if
the server then says something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final, TypeAlias, TypeVar

from buckler.data import Json, Message, copy_turn, tools_in
from buckler.data.tool_calls import with_text_arguments
from buckler.progress import LOG

Read = TypeVar("Read")

FILTERED = "filtered"
"""The kind of a fault where a content filter stood before the model: that request's fate, and no other's."""
RENAMED: Final[Mapping[str, str]] = {"max_tokens": "max_completion_tokens"}
"""Settings that some servers know by another name."""
NEUTRAL: Final[Mapping[str, Json]] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM takes sampling defaults from the checkpoint unless set otherwise; here only what is asked for holds."""
_HARMLESS: Final[Mapping[str, Json]] = {**NEUTRAL, "temperature": 1.0, "top_p": 1.0}
"""Values that change nothing: where a server refuses two settings together, these are left out first."""
ONE_VALUE = "temperature"
"""Servers refuse single values of it (0, or all but 1): it is left out at the value that is refused, until another one is too."""
_NOT_SETTINGS = re.compile(r"messages|model|prompt|input|content|body$")
_DAY = re.compile(r"per[ _-]?(?:day|month)|daily|monthly|\b[RT]PD\b", re.IGNORECASE)
_MINUTE = re.compile(r"per[ _-]?(?:min|second|hour)|\b[RT]P[MSH]\b", re.IGNORECASE)
_MONEY = re.compile(r"insufficient[_ ]|billing|payment|credit|balance|spend(?:ing)?[ _]limit|hard[ _]limit", re.IGNORECASE)
_ROLE = re.compile(
    r"\b(?:system|developer)[ _-]?(?:role|message|prompt|turn|instruction|content)|\b(?:jinja|chat[ _-]?template)\b"
    r"|\b(?:system|user|assistant|unknown|unexpected|unsupported|invalid|message|conversation)\b.{0,80}\broles?\b"
    r"|\broles?\b.{0,80}(?:\b(?:system|user|assistant)\b|alternat|support)",
    re.IGNORECASE | re.DOTALL,
)
"""What a template says that takes no system turn."""
_LENGTH = re.compile(r"\b(?:context|length|tokens?|too (?:long|large|many))\b", re.IGNORECASE)
_TRANSIENT = re.compile(
    r"temporar|\b(?:try|retry|trying)\b.{0,20}\b(?:again|later)|overload|over capacity|at capacity|\bbusy\b|out of memory|\bOOM\b"
    r"|tim(?:ed?|ing)[ -]?out|too many requests|rate[ _-]?limit|shutting down|restarting|(?:still|currently) loading",
    re.IGNORECASE,
)
"""Words of a server that is not well, whatever else it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetails:
    """What a server says about an error."""

    words: str = ""
    """In its own words."""
    params: tuple[str, ...] = ()
    """Fields of the request that it is about."""
    status: int = 0
    """The HTTP status that the error itself names, whatever the reply came with; 0: none."""
    filtered_by: str = ""
    """The server's word for the content filter that stood before the model."""
    text: str = ""
    """All of it."""

    @property
    def is_quota(self) -> bool:
        """Whether the limit that was reached is one of a day or of money, which no pause of this run brings back."""
        return bool(_DAY.search(self.text) or (_MONEY.search(self.text) and not _MINUTE.search(self.text)))

    def names(self, setting: str) -> bool:
        """Whether it speaks of a setting, under whatever spelling."""
        return setting in self.params or _place(setting, self.words) >= 0

    def settings(self, sent: Mapping[str, Json], texts: Sequence[str] = ()) -> list[str]:
        """Which of the settings sent are refused, the likeliest first.

        Args:
            sent: The settings with their values.
            texts: Of the request: an error may repeat them.
        """
        if named := [name for name in self.params if name in sent]:
            return named
        if any(_NOT_SETTINGS.match(name) for name in self.params):
            return []
        words = self._without(texts)
        places = {name: at for name in sent if (at := _place(name, words)) >= 0}
        if not places:
            return [old for old, new in RENAMED.items() if old in sent and _place(new, words) >= 0]
        return sorted(places, key=lambda name: (_HARMLESS.get(name, ...) != sent[name], places[name]))

    def names_roles(self, texts: Sequence[str] = ()) -> bool:
        """Whether it speaks of the roles of the turns, or of the template that writes them, apart from these texts."""
        return "role" in self.params or bool(_ROLE.search(self._without(texts)))

    def _without(self, texts: Sequence[str]) -> str:
        words = self.words
        for text in texts:
            words = words.replace(text, " ") if len(text) > 3 else words
        return words


class Fault(Exception):
    """A call that brought nothing. It never leaves the backend: it ends as a failed answer or as a `BackendError`."""

    def __init__(
        self,
        reason: str,
        *,
        kind: str = "",
        status: int = 0,
        passes: bool = True,
        ends: bool = False,
        charged: bool = False,
        wait: float = 0.0,
        details: ErrorDetails | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        """Faults of one kind have one cause, whatever their words. Empty: the server or the way to it."""
        self.status = status
        """The HTTP status of the error; 0 where there was no reply, or a broken one."""
        self.passes = passes
        """Whether the same call may succeed a little later."""
        self.ends = ends
        """Whether no other call of the run would fare better."""
        self.charged = charged
        """Whether the call may have been paid for, though it brought nothing."""
        self.wait = wait
        """Seconds the server asks for."""
        self.details = details or ErrorDetails()

    @property
    def refused(self) -> bool:
        """Whether the server understood the request and will not serve it."""
        return bool(self.kind)

    @property
    def negotiable(self) -> bool:
        """Whether the request may be served in another form; `Negotiator` knows of which errors of the server's side too."""
        return self.refused and not self.ends and self.kind != FILTERED and self.status in (200, 400, 422)


def _place(name: str, words: str) -> int:
    """Where a setting is named: `max_tokens`, `maxTokens` and `max tokens` alike; -1 if it is not."""
    match = re.search(rf"(?<![A-Za-z_]){name.replace('_', '[ _-]?')}(?![A-Za-z_])", words, re.IGNORECASE)
    return match.start() if match else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How requests are put to one server."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Settings that it knows by another name."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Settings that it does not take, each with the words of its refusal: its own defaults hold there."""
    refused_at: Mapping[str, Json] = field(default_factory=dict)
    """Of those, settings that it was only seen to refuse at one value, with that value: others are sent."""
    merges_system: bool = False
    """Whether the system turn is put before the question, since its template knows no system role."""

    def body(self, messages: Sequence[Message], settings: Mapping[str, Json]) -> dict[str, Json]:
        """A request in this dialect."""
        turns = [copy_turn(turn) for turn in messages]
        tools = tools_in(turns)
        if self.merges_system and _has_system(turns):
            merged = f"{turns[0]['content']}\n\n{turns[1]['content']}"
            turns[:2] = [Message(role=turns[1]["role"], content=merged)]
        body: dict[str, Json] = {"messages": [_on_the_wire(turn) for turn in turns], **self.spoken(settings)}
        return {**body, "tools": tools} if tools else body

    def spoken(self, settings: Mapping[str, Json]) -> dict[str, Json]:
        """The settings under the names it takes, without those it does not."""
        return {
            self.renamed.get(name, name): value
            for name, value in settings.items()
            if name not in self.left_out or self.refused_at.get(name, value) != value
        }

    def without(self, names: Sequence[str], words: str, sent: Mapping[str, Json]) -> Dialect:
        """The dialect that does not say these: renamed where there is another name, else left out.

        A limit to the length is never left out: an answer without one is not what was requested.
        """
        limits = {name: RENAMED[name] for name in names if name in RENAMED}
        others = {name: words for name in names if name not in RENAMED and name not in RENAMED.values()}
        at = {name: value for name, value in self.refused_at.items() if name not in others}
        if ONE_VALUE in others and ONE_VALUE not in self.left_out:
            at[ONE_VALUE] = sent[ONE_VALUE]
        return replace(self, renamed={**self.renamed, **limits}, left_out={**self.left_out, **others}, refused_at=at)

    def changed(self, known: Dialect) -> set[str]:
        """The settings that it says in another way than `known`, under all their names."""
        renamed = self.renamed.keys() - known.renamed.keys()
        left_out = (self.left_out.keys() - known.left_out.keys()) | (known.refused_at.keys() - self.refused_at.keys())
        return {*renamed, *(self.renamed[name] for name in renamed), *left_out}

    def to_json(self) -> dict[str, Json]:
        """As it is recorded."""
        more: dict[str, Json] = {"refused_at": dict(self.refused_at), "merges_system": self.merges_system}
        more = {name: value for name, value in more.items() if value}
        return {"renamed": dict(self.renamed), "left_out": dict(self.left_out), **more}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> Dialect:
        """As it was recorded."""
        tables = {name: value for name, value in record.items() if isinstance(value, Mapping)}
        words = {name: {one: str(word) for one, word in tables.get(name, {}).items()} for name in ("renamed", "left_out")}
        return cls(**words, refused_at=tables.get("refused_at", {}), merges_system=record.get("merges_system") is True)


Doubt: TypeAlias = Callable[[Fault], bool]
"""Whether a fault that may pass may as well be about the form of the request: that is tried before it is waited for."""


class Negotiator:
    """Finds a server's dialect from its refusals, while requests of many threads are under way. Refusals cost nothing."""

    def __init__(self, server: str) -> None:
        self.server, self.dialect = server, Dialect()
        self._lock = Lock()
        self._vain: set[tuple[str, bool]] = set()
        """Refusals that no other form helped against: their words without ids, and whether there was a system turn."""

    def ask(
        self,
        messages: Sequence[Message],
        settings: Mapping[str, Json],
        send: Callable[[dict[str, Json], Doubt], Read],
        short: Callable[[str], str] = str,
    ) -> Read:
        """What the server replies to a request in the form that it takes.

        Args:
            messages: The conversation.
            settings: Under the names of the OpenAI API.
            send: Makes the call; makes it again where that may help, unless the fault may be about the form of the request.
            short: Makes words of the server fit to be shown.

        Raises:
            Fault: the call brought nothing, or it is refused in every form.
        """

        def doubt(fault: Fault) -> bool:
            return self._may_be_about_the_form(fault, messages, settings)

        begun = self.dialect
        try:
            return send(begun.body(messages, settings), doubt)
        except Fault as first:
            if not (first.negotiable or doubt(first)):
                raise
            fault = first
        with self._lock:
            known = self.dialect  # another thread may have found it meanwhile
            forms = self._forms(fault, messages, settings, short)
            # What is the server's side's, or names nothing that was sent, counts only if it comes again.
            sure = fault.negotiable and self._names_the_form(fault, messages, settings)
            forms = [known] if known is not begun or (forms and not sure) else forms
            while forms:
                tried = forms.pop(0)
                try:
                    reply = send(tried.body(messages, settings), doubt)
                except Fault as again:
                    if not (again.negotiable or doubt(again)):
                        raise
                    if tried is self.dialect or self._helped(tried, fault, again):
                        self._learn(tried)
                        fault = again
                        forms = self._forms(fault, messages, settings, short)
                else:
                    if tried is begun:  # it passed, and will pass another time
                        self._vain.add((_bare(fault.details.words), _has_system(messages)))
                    self._learn(tried)
                    return reply
            self._vain.add((_bare(fault.details.words), _has_system(messages)))
        if fault.passes:  # no form helps, so it is the server: asked again as any other
            return send(self.dialect.body(messages, settings), lambda fault: False)
        raise fault

    def _may_be_about_the_form(self, fault: Fault, messages: Sequence[Message], settings: Mapping[str, Json]) -> bool:
        """Whether an error of the server's side (5xx) names what was sent: some servers raise one for what they do not take."""
        details = fault.details
        if fault.status < 500 or fault.ends or fault.wait or fault.kind == FILTERED:
            return False
        if _TRANSIENT.search(details.words) or (_bare(details.words), _has_system(messages)) in self._vain:
            return False
        return self._names_the_form(fault, messages, settings)

    def _names_the_form(self, fault: Fault, messages: Sequence[Message], settings: Mapping[str, Json]) -> bool:
        """Whether an error names a setting, under any name, or the role of a system turn that was sent."""
        texts = [turn["content"] for turn in messages]
        sent = {**settings, **{RENAMED[name]: value for name, value in settings.items() if name in RENAMED}}
        return bool(fault.details.settings(sent, texts)) or (_has_system(messages) and fault.details.names_roles(texts))

    def _forms(
        self, fault: Fault, messages: Sequence[Message], settings: Mapping[str, Json], short: Callable[[str], str]
    ) -> list[Dialect]:
        """The forms to try after a refusal: without one of the settings it names, without all, without a system turn."""
        if (_bare(fault.details.words), _has_system(messages)) in self._vain:
            return []
        texts = [turn["content"] for turn in messages]
        names = fault.details.settings(self.dialect.spoken(settings), texts)
        words = short(fault.details.words)
        changes = [[name] for name in names] + ([names] if len(names) > 1 else [])
        forms = [form for change in changes if (form := self.dialect.without(change, words, settings)) != self.dialect]
        # A refusal that says nothing of use may be about the system turn; one that names something else is not.
        about_it = fault.details.names_roles(texts) or not (names or fault.status >= 500 or _LENGTH.search(fault.details.words))
        if about_it and _has_system(messages) and not self.dialect.merges_system:
            return [*forms, replace(self.dialect, merges_system=True)]
        return forms

    def _helped(self, tried: Dialect, fault: Fault, again: Fault) -> bool:
        """Whether a form changed what is refused: the next refusal has other words, and none about what was changed."""
        changed = tried.changed(self.dialect)
        other = _bare(again.details.words) != _bare(fault.details.words)
        return bool(changed) and other and not any(again.details.names(name) for name in changed)

    def _learn(self, found: Dialect) -> None:
        known, self.dialect = self.dialect, found
        for name in found.renamed.keys() - known.renamed.keys():
            LOG.info("%s: %s is sent as %s", self.server, name, found.renamed[name])
        for name in found.left_out.keys() - known.left_out.keys():
            at = f" at {found.refused_at[name]}" if name in found.refused_at else ""
            why = f"{name} is refused ({found.left_out[name]}), so it is not sent{at}, and the server's own default holds"
            LOG.warning("%s: %s", self.server, why)
        for name in (known.refused_at.keys() - found.refused_at.keys()) & found.left_out.keys():
            LOG.warning("%s: %s is refused at every value, so it is not sent at all", self.server, name)
        if found.merges_system and not known.merges_system:
            LOG.info("%s: the system turn is put before the question, since the server takes no system role", self.server)


def _bare(words: str) -> str:
    """Words without what differs from call to call: numbers and ids."""
    return re.sub(r"[\w-]*\d[\w-]*", "#", words)


def _on_the_wire(turn: Message) -> dict[str, Json]:
    """A turn as servers take it: the arguments of tool calls are a text."""
    fields: dict[str, Json] = {key: value for key, value in turn.items() if key != "tools"}  # type: ignore[misc]
    return {**fields, "tool_calls": with_text_arguments(turn["tool_calls"])} if "tool_calls" in turn else fields


def _has_system(messages: Sequence[Message]) -> bool:
    return len(messages) > 1 and messages[0]["role"] == "system"
