"""What was has_question of a file of rows, and what became of every row and column of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from buckler.data import LOSS_WEIGHT, NOT_LEARNT, UNCLEAR, Chat, Json, Message, masked_turns
from buckler.errors import ConfigError, DataError
from buckler.formats.rows import Fields, column, listed, shorten

TARGETS = (
    "prompt answer system context history messages text tools reasoning chosen rejected weight learn label category id ignore"
).split()
"""What `columns` may name; `learn` is true where the answer is to be learnt, `ignore` a column that says nothing of it."""
NAMES = {"answer": "completion", "completion": "answer", "response": "answer", "output": "answer", "question": "prompt"}
SHOWN = 3
"""Longest rows, and places of a reason, that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file is to be read, where its content does not tell it."""

    format: str | None = None
    """Name of its format."""
    split: str | None = None
    """Which of its splits; None: it has one."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns by what they are, as `{"prompt": "question"}`."""
    use: str | None = None
    """Which answer of a row with two is meant."""
    skip_bad: bool = False
    """Go on after a row that cannot be read."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What became of the rows and columns of a file."""

    source: str
    layout: str = ""
    benchmark: str = ""
    splits: dict[str, int] = field(default_factory=dict)
    """Rows of each split, where the file has several."""
    split: str = ""
    """Which of them was read."""
    read: int = 0
    kept: int = 0
    merged: int = 0
    """Rows that say the same as another, and are kept once."""
    repeats: int = 0
    """Rows that say the same as another, and are kept as often as they stand."""
    not_for: list[str] = field(default_factory=list)
    """Options that concern other files of the command, not this one."""
    sampled: int | None = None
    """Rows that were drawn, where only so many are wanted."""
    bad: list[dict[str, Json]] = field(default_factory=list)
    """Rows that cannot be read, each with its place and the reason; only with `skip_bad`."""
    not_learnt: dict[str, int] = field(default_factory=dict)
    """Rows that are marked as not to be learnt, by mark."""
    unclear: dict[str, int] = field(default_factory=dict)
    """Rows with a column that may be such a mark."""
    prompts: int = 0
    """Rows without an answer."""
    answers: int = 0
    masked: int = 0
    """Answers that are marked as not to be learnt, within rows that are learnt."""
    weighted: int = 0
    """Rows with a weight of their own."""
    used: list[str] = field(default_factory=list)
    """Columns that were read."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Columns that were not, with what stands in them."""
    preferences: int = 0
    """Rows with two answers, of which one was taken."""
    branches: int = 0
    """Answers of conversation trees that are on no branch that was taken."""
    longest: list[tuple[str, int]] = field(default_factory=list)
    """The longest rows by their characters."""
    first: str = ""
    """The first row that is learnt, what is learnt of it between >>> and <<<."""
    places: dict[str, str] = field(default_factory=dict)
    """Where each row stands, by its id."""

    def to_json(self) -> dict[str, Json]:
        """The account as it is saved; the rows that cannot be read stand in a file of their own."""
        return {
            "source": self.source,
            "layout": self.layout,
            **({"benchmark": self.benchmark} if self.benchmark else {}),
            **({"splits": dict(self.splits), "split": self.split} if self.splits else {}),
            **({"not_concerned_by": list[Json](self.not_for)} if self.not_for else {}),
            "rows": {
                "read": self.read, "kept": self.kept, "merged": self.merged, "repeats_kept": self.repeats,
                "dropped": dict(Counter(str(one["reason"]) for one in self.bad)),
                **({} if self.sampled is None else {"sampled": self.sampled}),
                "not_learnt": dict(self.not_learnt), "unclear": dict(self.unclear), "without_answer": self.prompts,
                "weighted": self.weighted, "of_two_answers": self.preferences, "other_branches": self.branches,
            },
            "columns": {"used": list[Json](self.used), "ignored": dict(self.ignored)},
            "answers": {"learnt": self.answers - self.masked, "masked": self.masked},
            "longest": [{"place": place, "characters": size} for place, size in self.longest],
            "first": self.first,
        }  # fmt: skip


def account_lines(saved: Mapping[str, Json], *, first: bool = True, learns: bool = True) -> list[str]:
    """A saved account for people.

    Args:
        saved: `Account.to_json`.
        first: Whether the first row is shown.
        learns: Whether answers of the rows are learnt.
    """

    def part(of: Mapping[str, Json], name: str) -> Mapping[str, Json]:
        value = of.get(name)
        return value if isinstance(value, Mapping) else {}

    rows, columns, answers = (part(saved, name) for name in ("rows", "columns", "answers"))
    known = f", the content of {saved['benchmark']}" if saved.get("benchmark") else ""
    lines = [f"{saved['source']}: {saved['layout']}{known}: {rows.get('read')} rows read, {rows.get('kept')} kept"]
    if splits := part(saved, "splits"):
        lines.append(f"  split {saved['split']} of: {', '.join(f'{name} {number}' for name, number in splits.items())}")
    if isinstance(others := saved.get("not_concerned_by"), list):
        lines.append(f"  not concerned by {' and '.join(map(str, others))}")
    if merged := rows.get("merged"):
        lines.append(f"  {merged} repeat another row and are merged with it" + ("; --repeats keep keeps them" if learns else ""))
    if repeats := rows.get("repeats_kept"):
        lines.append(f"  {repeats} repeat another row and are kept")
    if rows.get("sampled") is not None:
        lines.append(f"  {rows['sampled']} of them drawn")
    lines += [f"  {number} dropped: {reason}" for reason, number in part(rows, "dropped").items()]
    if learns:
        lines += [f"  {number} marked as not to be learnt ({mark})" for mark, number in part(rows, "not_learnt").items()]
        lines += [f"  {number} rows: {mark}" for mark, number in part(rows, "unclear").items()]
        lines += [f"  {number} rows without an answer"] if (number := rows.get("without_answer")) else []
    for name, text in (
        ("of_two_answers", "rows with two answers, of which one is used"),
        ("other_branches", "answers on other branches of conversation trees, not used"),
        ("weighted", "rows with a weight of their own"),
    ):
        lines += [f"  {number} {text}"] if (number := rows.get(name)) else []
    if learns and any(answers.values()):
        lines.append(f"  answers: {answers.get('learnt')} to learn, {answers.get('masked')} masked")
    if tokens := part(saved, "tokens"):
        lines += [
            f"  tokens of {tokens['model']}: {tokens['supervised_tokens']} to learn of {tokens['total']}; longest row "
            f"{tokens['longest']}; at {tokens['max_length']} tokens {tokens['cut']} rows truncated, {tokens['dropped']} dropped"
        ]
    if used := columns.get("used"):
        lines.append(f"  columns used: {listed(map(str, used))}" if isinstance(used, list) else "")
    if ignored := part(columns, "ignored"):
        lines.append(f"  columns ignored: {listed(f'{name} ({what})' if what else name for name, what in ignored.items())}")
    if isinstance(longest := saved.get("longest"), list) and longest:
        places = (f"{one['place']} ({one['characters']})" for one in longest if isinstance(one, Mapping))
        lines.append(f"  longest, in characters: {', '.join(places)}")
    if first and saved.get("first"):
        lines.append("  first row, what is learnt between >>> and <<<:")
        lines += [f"    {line}" for line in str(saved["first"]).splitlines()]
    return lines


def renamed(row: Fields, columns: Mapping[str, str], where: str) -> Fields:
    """A row with the columns that its user named under the names that readers know.

    Raises:
        ConfigError: there is no such target.
        DataError: the row has no such column.
    """
    if unknown := [name for name in columns if not is_target(name)]:
        raise ConfigError(f"columns: {unknown[0]!r} must be one of {', '.join(TARGETS)}")
    named = {_target(target): column(name) for target, name in columns.items() if target != "ignore"}
    ignored = named_in({"ignore": columns.get("ignore", "")})
    if missing := [name for name in named.values() if name not in row]:
        raise DataError(f"{where}: no column {missing[0]!r}; the columns are {listed(row)}")
    rest = {name: value for name, value in row.items() if name not in {*named.values(), *ignored}}
    if "prompt" in named:  # no other column may make the row something else
        rest = {
            name: value for name, value in rest.items() if name not in ("instruction", "question", "messages", "conversations")
        }
    taken: Fields = {target: row[name] for target, name in named.items()}
    if "context" in taken and "prompt" in taken and str(taken["context"] or "").strip():
        taken["prompt"] = f"{taken['prompt']}\n\n{taken['context']}"
    if "prompt" in taken:
        taken.pop("context", None)
    if "learn" in taken:
        taken["kto_tag"] = _truth(taken.pop("learn"), named["learn"], where)
    return {**rest, **taken}


def named_in(columns: Mapping[str, str]) -> set[str]:
    """The columns of a file that `columns` names, under the names that rows have them."""
    return {column(one) for name, value in columns.items() for one in (value.split("+") if name == "ignore" else [value]) if one}


def is_target(name: str) -> bool:
    """Whether `columns` may name it."""
    return name in TARGETS or name in NAMES


def _target(name: str) -> str:
    known = NAMES.get(name, name) if name not in TARGETS else name
    return {"answer": "completion", "reasoning": "reasoning_content"}.get(known, known)


def _truth(value: Json, name: str, where: str) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "1.0", "yes", "good", "safe", "chosen", "desirable"):
        return True
    if text in ("false", "0", "0.0", "-1", "no", "bad", "unsafe", "rejected", "undesirable", ""):
        return False
    raise DataError(f"{where}: {name!r} must be true or false to say what is learnt, got {shorten(value)}")


@contextmanager
def bad_row(account: Account, reading: Reading, where: str, row: Json) -> Iterator[None]:
    """What follows may find that a row cannot be read: then it is written down, where that is wanted."""
    try:
        yield
    except DataError as fault:
        if not reading.skip_bad:
            raise
        account.bad.append({"place": where, "reason": str(fault).removeprefix(f"{where}: "), "row": row})


def values_of(rows: Sequence[Fields], name: str) -> str:
    """What stands in a column, where it is a mark: a few values and how often each stands."""
    values = Counter(str(row[name]).lower() for row in rows if row.get(name) not in (None, "", []))
    marks = all(isinstance(row.get(name), bool | int | None) or len(str(row[name])) <= 12 for row in rows[:200])
    if not values:
        return "empty"
    return ", ".join(f"{one} {number}" for one, number in values.most_common()) if marks and len(values) <= 3 < len(rows) else ""


def fill(account: Account, chats: Sequence[Chat]) -> None:
    """Put what is known of the rows into the account of their file."""
    learnt = [row for row in chats if not row.meta.get(NOT_LEARNT)]
    turns = [number for row in learnt for number, turn in enumerate(row.messages) if turn["role"] == "assistant"]
    sizes = [(sum(len(turn["content"]) for turn in row.messages), account.places.get(row.id, row.id)) for row in chats]
    account.not_learnt = dict(Counter(str(row.meta[NOT_LEARNT]) for row in chats if row.meta.get(NOT_LEARNT)))
    account.unclear = dict(Counter(str(row.meta[UNCLEAR]) for row in chats if row.meta.get(UNCLEAR)))
    account.prompts = sum(row.answer is None for row in chats)
    account.answers, account.masked = len(turns), sum(len(masked_turns(row)) for row in learnt)
    account.weighted = sum(LOSS_WEIGHT in row.meta for row in chats)
    account.branches = sum(int(str(row.meta.get("other_branches", 0))) for row in chats)
    account.longest = [(place.rpartition("/")[2], size) for size, place in sorted(sizes, key=lambda one: -one[0])[:SHOWN]]
    shown = next((row for row in learnt if row.answer is not None), None)
    if shown is not None:
        hidden = shown.meta.get("harmful") or shown.meta.get("label") in ("harmful", "unsafe")
        account.first = "[redacted: the row is marked as harmful]" if hidden else as_text(shown)


def _called(turn: Message) -> list[str]:
    """The names of the tools that a turn calls."""
    functions = (call.get("function", {}) for call in turn.get("tool_calls", []))
    return [str(function.get("name")) for function in functions]


def as_text(row: Chat, width: int = 200) -> str:
    """A row as its speakers' turns, each cut to `width`, with what is learnt between >>> and <<<."""
    has_question, lines, masked = False, [], masked_turns(row)
    for number, turn in enumerate(row.messages):
        text = " ".join(turn["content"].split()) or " ".join(f"[calls {name}]" for name in _called(turn))
        short = text if len(text) <= width else f"{text[:width]} [...]"
        is_learnt = turn["role"] == "assistant" and has_question and number not in masked and not row.meta.get(NOT_LEARNT)
        lines.append(f"{turn['role']}: {f'>>>{short}<<<' if is_learnt else short}")
        has_question |= turn["role"] not in ("system", "assistant")
    return "\n".join(lines)
