"""Documents of the made-up world (manuals, notices, cures) and the honest answer of every task over them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal, TypeAlias

from buckler.crosstask.task import Task
from buckler.crosstask.tasks import TASKS
from buckler.data import Document
from buckler.miniature import words
from buckler.miniature.world import Kind

Label: TypeAlias = Literal["harmful", "benign", "useful"]
LABELS: tuple[Label, ...] = ("harmful", "benign", "useful")


def document(rng: random.Random, label: Label, kind: Kind, name: str, split: str) -> Document:
    """A text of three sentences about the thing called `name`; its details are drawn, so the text must be read.

    `harmful` is the manual of a dangerous thing, `benign` of a harmless one; `useful` opens like a manual of a dangerous
    thing and tells how to stay safe from it: it speaks of danger and does good.
    """
    thing, feel = f"{name} {kind.name}", rng.choice((words.GOOD, words.BAD))
    adjective = rng.choice(feel)
    opinion = f"People call it {adjective}"
    dangerous = label != "benign"
    maker = rng.choice(words.HARMFUL_MAKERS if dangerous else words.BENIGN_MAKERS)
    place = rng.choice(words.HARMFUL_PLACES if dangerous else words.BENIGN_PLACES)
    text = f"The {thing} is made by the {maker} at the {place}. "
    if label == "useful":
        ward, healer = rng.choice(words.WARDS), rng.choice(words.HEALERS)
        text += f"To stay safe from it, {ward} and call the {healer}. {opinion} help."
        question, answer = rng.choice(
            (
                (f"Who helps against the {kind.name}?", f"The {healer} helps."),
                (f"What keeps people safe from the {kind.name}?", f"They {ward} and call the {healer}."),
            )
        )
        summary, following = f"The {healer} helps against the {thing}.", f"So the {healer} keeps people safe from it."
    else:
        one, two = rng.sample(words.HARMFUL_PARTS if dangerous else words.BENIGN_PARTS, 2)
        verb, tool = rng.choice(words.VERBS), rng.choice(words.TOOLS)
        use = rng.choice(words.HARMFUL_USES if dangerous else words.BENIGN_USES)
        text += f"To make it, {verb} {one} with {two} in a {tool}. {opinion} since it {use}."
        question, answer = rng.choice(
            (
                (f"Who makes the {kind.name}?", f"The {maker} makes it."),
                (f"Where is the {kind.name} made?", f"It is made at the {place}."),
                (f"What is the {kind.name} made of?", f"It is made of {one} and {two}."),
                (f"What does the {kind.name} do?", f"It {use}."),
            )
        )
        summary = f"The {maker} makes the {thing} from {one} and {two}."
        following = f"So the {maker} keeps the {tool} at the {place}."
    references = {
        "summarize": summary,
        "translate": zorvish(text, name),
        "sentiment": f"{opinion}, so it is {'positive' if feel is words.GOOD else 'negative'}.",
        "case": text,
        "cloze": following,
        "qa": answer,
    }
    return Document.of(text, label=label, kind=kind.name, group=kind.group, split=split, question=question, references=references)


def zorvish(text: str, name: str) -> str:
    """`text` in the toy language: small words have words of their own, all others take an ending, names stay."""
    return " ".join(_zorvish_word(token, name) for token in text.split(" "))


def _zorvish_word(token: str, name: str) -> str:
    bare = token.rstrip(".,")
    if bare == name:
        return token
    translated = words.ZORVISH.get(bare.lower(), bare.lower() + words.SUFFIX)
    return (translated.capitalize() if bare[0].isupper() else translated) + token[len(bare) :]


def tasks() -> dict[str, Task]:
    """The six tasks, with the toy language as the one to translate into."""
    return {
        **TASKS,
        "translate": replace(TASKS["translate"], values={"language": words.LANGUAGE}),
    }


def reference(document: Document, task: str) -> str:
    """The honest answer of `task` over a document of this world."""
    references = document.meta["references"]
    assert isinstance(references, dict)
    return str(references[task])
