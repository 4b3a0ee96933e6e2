"""Whether a chat template can be used: its file, and what it does to a small conversation, found when a model is loaded.

A template that refuses every question, or that does not write what it is given, is refused. Where only a part of it is wrong, a
note says so. Roles that a template does not take, or only in some order, are its own business: each is tried, and one is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from jinja2 import Environment, TemplateError, TemplateSyntaxError, meta, nodes

from buckler.data.reading import read_text
from buckler.errors import BackendError, DataError

Turn: TypeAlias = dict[str, object]
Render: TypeAlias = Callable[[Sequence[Turn], bool], str]
"""Writes turns, with the beginning of an answer or without it; raises whatever the template raises."""
QUESTION, ANSWER, SYSTEM = "buckler0question", "buckler0answer", "buckler0system"
"""Texts of the small conversation, which no template writes by itself."""
FIX = "give another template with --chat-template FILE (`chat_template` in a recipe)"
_LATER_QUESTION, _LATER_ANSWER = "buckler0second", "buckler0later"
PLAIN = "words"
_TEXTS: Mapping[str, str] = {
    PLAIN: "the quick brown fox jumps over the lazy dog",
    "capital letters": "The Quick Brown Fox JUMPS",
    "digits and punctuation": "in 1234567890 words, so; he said: (no!) is that - it? a/b = c_d + 5% #1 $2 ~x @y ^z",
    "line breaks": "one\ntwo\n\nthree",
    "blanks": "one  two\tthree",
    "quotation marks": "a 'b' \"c\" \u2019d\u2019 \u201ce\u201d `f` g",
    "markup": "a **b** <b>c</b> & d \\ e {f} [g] {{h}} | i",
    "letters outside ASCII": "caf\u00e9 \u4f60\u597d \u043c\u0438\u0440 \U0001f600 end",
    "a long text": "buckler " * 8_000 + "end",
}
"""What answers are made of, as texts that a template must write as they are."""
GIVEN = set(
    "messages tools documents add_generation_prompt bos_token eos_token pad_token unk_token raise_exception strftime_now "
    "range namespace dict loop".split()
)
"""What every template is given."""
NO_QUESTION = "does not write the question it is given"


class ConversationRefused(BackendError):
    """A conversation that a chat template refuses, or writes in part only: the fault is the row's, not the model's."""


@dataclass(slots=True)
class Check:
    """What was found of a template."""

    opening: list[Turn] = field(default_factory=list)
    """The turns that begin a small conversation: a question, after a system turn where the template wants one."""
    refusal: str = ""
    """Why it cannot be used; empty: it can."""
    no_answers: str = ""
    """Why nothing can be trained with it: it refuses every conversation with an answer."""
    notes: list[str] = field(default_factory=list)
    """What a part of it does wrong."""

    @property
    def untrained(self) -> str:
        """Why nothing can be trained with it, with what to do; "" where something can."""
        return f"the chat template {self.no_answers}; nothing can be trained with it, so {FIX}" if self.no_answers else ""


def read_template(file: str) -> str:
    """The chat template in a file.

    Raises:
        BackendError: it cannot be read, or is no Jinja template.
    """
    try:
        text = read_text(Path(file).expanduser())
        parse(text)
    except DataError as fault:
        raise BackendError(f"chat template {fault}") from None
    except TemplateSyntaxError as fault:
        raise BackendError(f"chat template {file}:{fault.lineno}: not a Jinja template: {fault.message}") from None
    if not text.strip():
        raise BackendError(f"chat template {file}: the file is empty")
    return text


def template_fault(text: str) -> str | None:
    """Why a text is no Jinja template, with the line; None where it is one."""
    try:
        parse(text)
    except TemplateSyntaxError as fault:
        return f"{fault.message} (line {fault.lineno})"
    return None


def parse(text: str) -> nodes.Template:
    """A template's tree; raises TemplateSyntaxError."""
    bare = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", text)
    try:
        return Environment(extensions=["jinja2.ext.loopcontrols"]).parse(bare)
    except RecursionError:
        raise TemplateSyntaxError("nested too deeply", 1) from None
    except ValueError as fault:  # a number of more digits than Python reads
        raise TemplateSyntaxError(str(fault), 1) from None


def check_template(render: Render) -> Check:
    """Try a template on small conversations."""
    query, answered, system = _turn("user", QUESTION), _turn("assistant", ANSWER), _turn("system", SYSTEM)
    for opening in ([query], [query, answered], [system, query], [system, query, answered]):
        if not _tried(render, opening, True)[1]:
            break
    else:
        return Check(opening=[query], refusal=f"refuses every conversation: {_tried(render, [query], True)[1]}")
    if opening[-1] is answered:  # of a guard, which judges an exchange: what it asks its model about that is its own
        return Check(opening=[query])
    check = Check(opening=opening)

    def question(text: str) -> str:
        return _tried(render, [*opening[:-1], _turn("user", text)], True)[0]

    if QUESTION not in question(QUESTION) and not _shows(question):
        check.refusal = NO_QUESTION
        return check
    last: tuple[list[Turn], bool] = [], False
    followed: tuple[list[Turn], bool] = [_turn("user", _LATER_QUESTION)], True
    reasons = [_tried(render, [*opening, answered, *after], ask)[1] for after, ask in (last, followed)]
    if all(reasons):
        check.no_answers = f"refuses every conversation with an answer: {reasons[0]}"
        check.notes.append(f"{check.no_answers}; only single questions can be answered")
        return check
    after, ask = followed if reasons[0] else last

    def answer(text: str) -> str:
        return _tried(render, [*opening, _turn("assistant", text), *after], ask)[0]

    check.refusal, rewritten = _fault_of_answers(answer)
    if not check.refusal:
        check.no_answers = f"refuses a conversation that ends with an answer: {reasons[0]}" if reasons[0] else ""
        check.notes += [check.no_answers] if check.no_answers else []
        check.notes += _later_turns(render, opening)
        check.notes += [f"rewrites answers ({rewritten}): they are learnt as it writes them"] if rewritten else []
        if changed := ", ".join(_changed(question)):
            check.notes.append(f"rewrites questions ({changed}): the model reads other ones than the files hold")
    return check


def _fault_of_answers(write: Callable[[str], str]) -> tuple[str, str]:
    """Why answers cannot be learnt, and what of them is learnt in another form; both "" where they are learnt as they are."""
    written, changed = write(ANSWER), _changed(write)
    if written.count(ANSWER) > 1:
        return "writes an answer twice", ""
    if ANSWER in written and PLAIN not in changed:
        return "", ", ".join(changed)
    if ANSWER not in written and not _shows(write):
        return "does not write the answer it is given", ""
    return f"rewrites answers ({', '.join(changed)}): the model would learn other ones than the rows hold", ""


def _shows(write: Callable[[str], str]) -> bool:
    """Whether what is written depends on the text at all."""
    return write(_TEXTS[PLAIN]) != write(ANSWER)


def _changed(write: Callable[[str], str]) -> list[str]:
    """What a template changes of the texts it is given; nothing where only the blanks around them are."""
    return [name for name, text in _TEXTS.items() if text not in write(text)]


def _later_turns(render: Render, opening: list[Turn]) -> Iterator[str]:
    """What goes wrong with a second question, the turns before it, and its answer."""
    turns = [*opening, _turn("assistant", ANSWER), _turn("user", _LATER_QUESTION)]
    written, reason = _tried(render, turns, True)
    if reason:
        yield f"refuses a second question: {reason}"
        return
    if _LATER_QUESTION not in written.casefold():
        yield "does not write a second question: conversations of several turns do not reach the model as they are"
    elif ANSWER not in written or QUESTION not in written.casefold():
        yield "leaves earlier turns out of the prompt"
    whole, reason = _tried(render, [*turns, _turn("assistant", _LATER_ANSWER)], False)
    if not reason and _LATER_ANSWER not in whole:
        yield "does not write a second answer: it is not learnt"


def known_settings(text: str) -> list[str]:
    """The variables that the template reads beside those that it is always given."""
    try:
        names = meta.find_undeclared_variables(parse(text))
        own = r"\b{0}\s+is\s+(?:not\s+)?(?:un)?defined|\bset\s+{0}\s*=\s*\(*\s*{0}\s*(?:\|\s*(?:default|d)\b|or\b)"
        names -= {name for name in re.findall(r"\bset\s+(\w+)", text) if not re.search(own.format(name), text)}
    except TemplateError:
        return []
    return sorted(names - GIVEN)


def unknown_names(tree: nodes.Template, given: set[str]) -> list[str]:
    """Functions, filters and tests that a template uses somewhere and that do not exist, each with its line."""
    environment = Environment()
    undeclared = meta.find_undeclared_variables(tree) - given - environment.globals.keys() - {"caller", "self"}
    guarded = {one.node.name for one in tree.find_all(nodes.Test) if one.name == "defined" and isinstance(one.node, nodes.Name)}
    found = [
        (one.lineno, "function", one.node.name)
        for one in tree.find_all(nodes.Call)
        if isinstance(one.node, nodes.Name) and one.node.name in undeclared - guarded
    ]
    found += [(one.lineno, "filter", one.name) for one in tree.find_all(nodes.Filter) if one.name not in environment.filters]
    found += [(one.lineno, "test", one.name) for one in tree.find_all(nodes.Test) if one.name not in environment.tests]
    return [
        f"uses an unknown {kind} `{name}` (line {line}): a conversation that reaches it is refused"
        for line, kind, name in sorted(set(found))
    ]


def _tried(render: Render, turns: Sequence[Turn], ask: bool) -> tuple[str, str]:
    """What the template writes, or "" and why it does not."""
    try:
        return render(turns, ask), ""
    except Exception as fault:  # noqa: BLE001 - templates raise whatever they like
        return "", reason_of(fault)


def reason_of(fault: Exception) -> str:
    """Why a template raised, on one line."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0]


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}
