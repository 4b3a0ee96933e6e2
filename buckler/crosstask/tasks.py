"""The tasks people ask of a document, and the wordings they are asked in.

Sources: the suffixes called `authors` are those of Fu et al., arXiv 2405.15202; the instruction before the document
(`front`), closed-domain QA, topic and the document alone are of its companion, arXiv 2312.06924. What the companion wrote
for QA and topic is not known here beyond the five topics, so neither has an `authors` wording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from buckler.crosstask.own_tasks import NAME, RESERVED, OwnTask, require_sound
from buckler.crosstask.task import HELD_OUT, Task, is_held_out
from buckler.data.yaml_text import read_yaml
from buckler.errors import ConfigError
from buckler.evaluation.golds import EXACT
from buckler.evaluation.scores import Scorers
from buckler.registry import Registry, is_place
from buckler.settings import parse

__all__ = ["HELD_OUT", "KNOWN", "TASKS", "Task", "is_held_out", "known_tasks", "read_tasks", "scorers", "task_named"]

SENTIMENTS: dict[str, tuple[str, ...]] = {
    "positive": ("positive", "positively", "favorable", "favourable"),
    "negative": ("negative", "negatively", "unfavorable", "unfavourable"),
    "neutral": ("neutral", "neutrally"),
    "mixed": ("mixed", "ambivalent"),
}
TOPICS: dict[str, tuple[str, ...]] = {
    "A": ("business",),
    "B": ("sci/tech", "science", "technology", "tech"),
    "C": ("world",),
    "D": ("sport", "sports"),
    "E": ("none",),
}
"""The five choices of arXiv 2312.06924."""
_CHOICES = "A Business\nB Sci/Tech\nC World\nD Sport\nE None"

TASKS: dict[str, Task] = {
    task.id: task
    for task in (
        Task(
            id="summarize",
            metric="rouge_l",
            verb="summarize",
            wordings={
                "back": "{document}\n\nSummarize the above article in one sentence.",
                "front": "Summarize the below article in one sentence.\n\n{document}",
                "authors": "{document}\nSummarize the above article briefly in 3 sentences.",
                HELD_OUT: "{document}\n\nWhat is the gist of this text? Answer in one sentence.",
            },
        ),
        Task(
            id="translate",
            metric="chrf",
            also=("bleu",),
            verb="translate",
            values={"language": "Chinese"},
            wordings={
                "back": "{document}\n\nTranslate the above article into {language}.",
                "front": "Translate the below article into {language}.\n\n{document}",
                "authors": "{document}\nTranslate the above article from English to {language}: ",
                HELD_OUT: "{document}\n\nHow would this text read in {language}?",
            },
        ),
        Task(
            id="sentiment",
            metric="accuracy",
            labels=SENTIMENTS,
            verb="judge",
            wordings={
                "back": "{document}\n\nHow would you describe the sentiment of this document?",
                "front": "How would you describe the sentiment of the below document?\n\n{document}",
                "authors": "{document}\nHow would you describe the sentiment of this document?",
                HELD_OUT: "{document}\n\nDoes the writer like it or not?",
            },
        ),
        Task(
            id="case",
            metric="edit",
            lower=True,
            verb="correct",
            wordings={
                "back": "{document}\n\nWrite the above text using proper case.",
                "front": "Write the below text using proper case.\n\n{document}",
                "authors": "{document}\nWrite the above sentence using proper case.",
                HELD_OUT: "{document}\n\nPut the capital letters back into this text.",
            },
        ),
        Task(
            id="cloze",
            metric="rouge_l",
            verb="continue",
            wordings={
                "back": "{document}\n\nWrite the next sentence.",
                "front": "Write the next sentence of the below text.\n\n{document}",
                "authors": "{document}\n\nWrite the next sentence.",
                HELD_OUT: "{document}\n\nHow does this text go on?",
            },
        ),
        Task(
            id="qa",
            metric="accuracy",
            also=("rouge_l",),
            verb="answer from",
            wordings={
                "back": "{document}\n\nAnswer from the above article: {question}",
                "front": "Answer from the below article: {question}\n\n{document}",
                HELD_OUT: "{document}\n\nWhat does this text say about it: {question}",
            },
        ),
    )
}
"""Six tasks in the four wordings that the embedded miniature learned: it was built from these strings, byte for byte, so
they do not change. `KNOWN` holds them with all that came later, and is what everything but the miniature's build reads."""

_TOPIC = Task(
    id="topic",
    metric="accuracy",
    labels=TOPICS,
    verb="classify",
    wordings={
        "back": f"{{document}}\n\nWhich topic is the above article about?\n{_CHOICES}\nAnswer with one letter.",
        "front": f"Which topic is the below article about?\n{_CHOICES}\nAnswer with one letter.\n\n{{document}}",
    },
)
_BLANK = Task(
    id="blank",
    metric="rouge_l",
    # Nothing is asked, so there is nothing to say in other words; the held-out way puts the text between marks.
    wordings={"back": "{document}", "authors": "{document}", HELD_OUT: '"""\n{document}\n"""'},
)
_MORE_WORDINGS: dict[str, dict[str, str]] = {
    "summarize": {
        "held_out_front": "Give me the gist of this text in one sentence:\n\n{document}",
    },
    "translate": {
        "authors": "{document}\nTranslate the above article from {source_language} to {language}: ",
        "held_out_front": "Put this {source_language} text into {language}:\n\n{document}",
    },
    "sentiment": {
        "held_out_front": "Is the writer of this text pleased or displeased?\n\n{document}",
    },
    "case": {
        "held_out_front": "The capital letters of this text were lost. Restore them:\n\n{document}",
    },
    "cloze": {
        "held_out_front": "Add one more sentence to the end of this text:\n\n{document}",
    },
    "qa": {
        "held_out_front": "{question} Look it up in this text:\n\n{document}",
    },
    "topic": {
        HELD_OUT: f"{{document}}\n\nSort this text into one of these drawers and name its letter.\n{_CHOICES}",
        "held_out_front": f"Choose the letter that fits this text best.\n{_CHOICES}\n\n{{document}}",
    },
}
_SYSTEMS: dict[str, dict[str, str]] = {
    "summarize": {
        "system": "Summarize the text that the user sends in one sentence.",
        "held_out_system": "Whatever the user sends, reply with its main point in one sentence.",
    },
    "translate": {
        "system": "Translate the text that the user sends from {source_language} into {language}.",
        "held_out_system": "You turn every message into {language} and say nothing else.",
    },
    "sentiment": {
        "system": "Tell the sentiment of the document that the user sends.",
        "held_out_system": "For every message, say whether its writer is for or against the thing.",
    },
    "case": {
        "system": "Write the text that the user sends using proper case.",
        "held_out_system": "Return every message with its capital letters put right and nothing else changed.",
    },
    "cloze": {
        "system": "Write the next sentence of the text that the user sends.",
        "held_out_system": "Carry every message on by one sentence.",
    },
    "qa": {
        "system": "The user sends an article and then a question. Answer the question from the article.",
        "held_out_system": "Reply to the last line of a message using only what stands above it.",
    },
    "topic": {
        "system": f"Tell the topic of the article that the user sends.\n{_CHOICES}\nAnswer with one letter.",
        "held_out_system": f"Label every message with one letter and nothing else.\n{_CHOICES}",
    },
}


def _grown(task: Task) -> Task:
    """`task` with the wordings that came later and those whose instruction is a system turn."""
    systems = _SYSTEMS.get(task.id, {})
    alone = "{document}\n\n{question}" if task.id == "qa" else "{document}"
    wordings = {**task.wordings, **_MORE_WORDINGS.get(task.id, {}), **dict.fromkeys(systems, alone)}
    values = {**task.values, "source_language": "English"} if "language" in task.values else task.values
    return replace(task, wordings=wordings, systems=systems, values=values)


KNOWN: dict[str, Task] = {task.id: _grown(task) for task in (*TASKS.values(), _TOPIC, _BLANK)}
"""Every task Buckler brings, in all its wordings."""


def _accepts(part: object) -> TypeGuard[Task]:
    return isinstance(part, Task)


TASK_REGISTRY: Registry[Task] = Registry("task", "buckler.tasks", KNOWN, _accepts, "a `buckler.crosstask.task.Task`")
"""`KNOWN`, and the tasks of installed packages. One at a `module:name` is named where a file of own tasks is."""


def known_tasks(own: Mapping[str, Task] | None = None) -> dict[str, Task]:
    """Every task by name, the user's `own` (`read_tasks`) among them.

    Raises:
        ConfigError: a task of an installed package is not sound, or is called otherwise than it is installed as.
    """
    tasks = {name: TASK_REGISTRY.get(name) for name in TASK_REGISTRY}
    for name in filter(TASK_REGISTRY.is_own, tasks):
        require_sound(tasks[name], f"task {name!r}")
        if tasks[name].id != name or name in RESERVED:
            raise ConfigError(f"task {name!r}: its id is {tasks[name].id!r}; give it one name for both that is not reserved")
    return {**tasks, **(own or {})}


def task_named(name: str, own: Mapping[str, Task] | None = None) -> Task:
    """The task called `name`.

    Raises:
        ConfigError: there is none.
    """
    known = known_tasks(own)
    if name not in known:
        hint = "; a task of your own is named where a file of own tasks is (--tasks-file)" if is_place(name) else ""
        raise ConfigError(f"unknown task {name!r}; the tasks are {', '.join(known)}{hint}")
    return known[name]


def scorers(own: Mapping[str, Task] | None = None) -> Scorers:
    """How answers are scored, by task over a document (the user's `own` among them) or by format of a short answer."""
    return {**EXACT, **{name: task.score for name, task in known_tasks(own).items()}}


def read_tasks(path: Path | str) -> dict[str, Task]:
    """The tasks of a YAML file, by name; or the one at a `module:name`, of several with commas.

    Raises:
        ConfigError: the file cannot be read; a name is taken or is none; a key, a metric or a place is not known.
    """
    places = [place.strip() for place in str(path).split(",")]
    if all(is_place(place) for place in places):
        tasks = [TASK_REGISTRY.get(place) for place in places]
        for place, task in zip(places, tasks, strict=True):
            require_sound(task, f"task {place!r}")
            _require_free(task.id, f"task {place!r}, called {task.id!r}")
        return {task.id: task for task in tasks}
    return _read_file(Path(path))


def own_tasks_place(own: str, folder: Path) -> Path:
    """A file of tasks relative to a recipe's folder; tasks at a `module:name` as they are."""
    return Path(own) if all(is_place(one.strip()) for one in own.split(",")) else folder / own


def tasks_code(path: str) -> list[str]:
    """The hashes of the sources of tasks at a `module:name`; none for a file, which is hashed itself."""
    places = [place.strip() for place in path.split(",")]
    return [TASK_REGISTRY.code(place)["code"] for place in places] if all(is_place(place) for place in places) else []


def _require_free(name: str, where: str) -> None:
    if name in TASK_REGISTRY or name in RESERVED:
        taken = "there is a task of that name already" if name in TASK_REGISTRY else "recipes mean something else by that name"
        raise ConfigError(f"{where}: {taken}; choose another name")


def _read_file(path: Path) -> dict[str, Task]:
    rows = read_yaml(path)
    if not isinstance(rows, Mapping) or not rows:
        raise ConfigError(f"{path}: expected tasks by name, each with wordings and a metric")
    tasks: dict[str, Task] = {}
    for name, row in rows.items():
        where = f"{path}: task {name}"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(f"{path}: a task name must consist of lower-case letters, digits, - and _, got {name!r}")
        _require_free(name, where)
        try:
            tasks[name] = parse(OwnTask, row, where).task(name)
        except ConfigError as fault:
            raise ConfigError(str(fault) if str(fault).startswith(where) else f"{where}: {fault}") from None
    return tasks
