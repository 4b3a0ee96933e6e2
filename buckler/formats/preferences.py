"""Rows with two answers to a question, of which their user says which one is meant: `use`.

TRL and Argilla (`chosen`, `rejected` as texts, turns or whole conversations), HH-RLHF's transcripts, LLaMA-Factory, ms-swift
(`rejected_response`), OpenAI, Together and Fireworks (`preferred_output`), PKU-SafeRLHF, StackExchange pairs, SHP, Chatbot Arena.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buckler.data import Json, turns_to_json
from buckler.errors import ConfigError, DataError
from buckler.formats.rows import Fields, has, shorten
from buckler.formats.turns import is_turn, transcript

USES = ("chosen", "rejected", "better", "safer", "prompt")
"""Which answer of a row is meant. `better` and `safer` are those of sets that say both; `prompt`: none, the question alone."""
_SIDES = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
    ("preferred_completion", "non_preferred_completion"),
    ("response_j", "response_k"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("answer_chosen", "answer_rejected"),
    ("positive", "negative"),
    ("better_response", "worse_response"),
)
"""Columns of the better answer and of the other."""
_ANY_OF = ("completions", "generations", "responses", "candidates")
"""Columns of several answers."""


def sides(row: Fields) -> tuple[str, str] | None:
    """The columns of a row's two answers, the better first, where the columns say which it is."""
    for better, worse in _SIDES:
        if row.get(better) not in (None, "", []) and row.get(worse) not in (None, "", []):
            return better, worse
    return None


def is_preference(row: Fields) -> bool:
    """Whether a row has two answers to its question."""
    output = row.get("output")
    if isinstance(row.get("messages"), list) and row.get("messages") == row.get("chosen"):
        return False  # the row itself says which of them is learnt
    return (
        sides(row) is not None
        or _compared(row) is not None
        or (isinstance(row.get("messages"), list) and bool(row.get("rejected_response")))
        or (isinstance(output, list) and len(output) == 2 and all(isinstance(one, str) for one in output))
    )


def _compared(row: Fields) -> tuple[str, str, dict[str, int]] | None:
    """Two columns, and by each of the uses which of them is meant (0 or 1): what the row says in a column of its own."""
    if has("response_0", "response_1")(row):
        ids = {"better": row.get("better_response_id"), "safer": row.get("safer_response_id")}
        meant = {name: int(str(one)) for name, one in ids.items() if str(one) in ("0", "1")}
        if len(set(meant.values())) == 1:
            meant["chosen"] = next(iter(meant.values()))
        return "response_0", "response_1", meant
    if has("human_ref_a", "human_ref_b", "labels")(row):
        return "human_ref_a", "human_ref_b", {"chosen": 0 if str(row["labels"]) == "1" else 1}
    for a, b in (
        ("conversation_a", "conversation_b"),
        ("response_a", "response_b"),
        ("answer_a", "answer_b"),
        ("output_1", "output_2"),
    ):
        if row.get(a) not in (None, "", []) and row.get(b) not in (None, "", []):
            verdict = row.get("winner", row.get("preference", row.get("label")))
            won = {"model_a": 0, "a": 0, "model_b": 1, "b": 1, "1": 0, "2": 1}.get(str(verdict).strip().lower())
            return a, b, {} if won is None else {"chosen": won}
    return None


def plain(row: Fields, use: str | None, where: str) -> Fields:
    """The row with the answer that is meant, under names that every reader knows.

    Raises:
        DataError: nothing says which answer is meant, or the row does not say it of its own.
        ConfigError: there is no such use.
    """
    if use is not None and use not in USES:
        raise ConfigError(f"use is {use!r}; it must be one of {', '.join(USES)}")
    if use is None:
        raise DataError(
            f"{where}: two answers to a question ({', '.join(_shown(row))}); say which is meant with --use chosen (or rejected, "
            "or prompt for the questions alone), in a recipe `use: chosen`"
        )
    rest = dict(row)
    if use == "prompt":
        one, other = sides(row) or (_compared(row) or ("output", ""))[:2]
        answer = rest.pop(one, None)
        if rest.pop("rejected_response", None):  # the chosen one is the last turn
            return {"messages": _listed(row["messages"])[:-1]}
        if isinstance(answer, list) and one == "output":
            return rest
        rest.pop(other, None)
        return _with_answer(rest, answer, where, drop=True)
    if (found := _compared(row)) is not None and sides(row) is None:
        first, second, meant = found
        at = meant.get("chosen") if use == "rejected" else meant.get(use)
        if at is None:
            known = [name for name in USES if name in meant]
            raise DataError(f"{where}: does not say which answer is {use}; --use {' or '.join(known) or 'prompt'} is said here")
        at = 1 - at if use == "rejected" else at
        answer, label = row[(first, second)[at]], row.get(f"is_response_{at}_safe")
        for name in (first, second, "labels", "label", "winner", "preference", "is_response_0_safe", "is_response_1_safe"):
            rest.pop(name, None)
        return {**_with_answer(rest, answer, where), **({} if label is None else {"is_safe": label})}
    if use not in ("chosen", "rejected"):
        raise DataError(f"{where}: does not say which answer is {use}; --use chosen or --use rejected is said here")
    if (pair := sides(row)) is not None:
        answer = rest[pair[use == "rejected"]]
        for name in pair:
            del rest[name]
        return _with_answer(rest, answer, where)
    if isinstance(output := row.get("output"), list):
        return {**rest, "output": output[use == "rejected"]}
    rejected = rest.pop("rejected_response")
    if use == "chosen":
        return rest
    return _with_answer({**rest, "messages": _listed(rest["messages"])[:-1]}, rejected, where)


def _listed(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list) else []


def _shown(row: Fields) -> Sequence[str]:
    found = _compared(row)
    return sides(row) or (
        found[:2] if found else ("messages", "rejected_response") if "messages" in row else ("output[0]", "output[1]")
    )


def _with_answer(rest: Fields, answer: Json, where: str, *, drop: bool = False) -> Fields:
    """A row without its answers, and the one that is meant put where its layout has it; `drop`: the question alone."""
    given = rest.pop("input", None) if isinstance(rest.get("input"), Mapping) else None
    if isinstance(given, Mapping):  # OpenAI
        rest.update(given)
    if isinstance(answer, str) and (turns := transcript(answer)):
        answer = turns_to_json(turns)
    if isinstance(answer, Mapping):
        answer = [answer]
    if isinstance(answer, list):
        if not answer or not all(map(is_turn, answer)):
            raise DataError(f"{where}: an answer must be a text or turns, got {shorten(answer)}; correct or remove the row")
        before = next(
            (rest.pop(name) for name in ("prompt", "messages", "conversations") if isinstance(rest.get(name), list)), None
        )
        if before is None and len(answer) == 1 and isinstance(rest.get("prompt", rest.get("instruction")), str):
            answer = next((answer[0][key] for key in ("content", "value") if key in answer[0]), "")
        else:
            whole = before if isinstance(before, list) else answer[:-1]
            # Where the answer holds the whole conversation, its last turn alone is what is meant.
            if len(answer) > 1:
                whole, answer = answer[:-1], answer[-1:]
            for name in ("prompt", "messages"):
                rest.pop(name, None)
            return {**rest, "prompt": list(whole)} if drop else {**rest, "prompt": list(whole), "completion": list(answer)}
    column = next((one for one in "prompt instruction question history post query input".split() if one in rest), None)
    listed = next((one for one in ("messages", "conversations", "prompt") if isinstance(rest.get(one), list)), None)
    if listed is not None:
        before = list(rest.pop(listed))  # type: ignore[arg-type]
        reply: Json = [{"role": "assistant", "content": answer}]
        return {**rest, "prompt": before} if drop else {**rest, "prompt": before, "completion": reply}
    if column is None:
        raise DataError(f"{where}: two answers and no question; name its column with --columns prompt=NAME")
    if column == "instruction":
        return rest if drop else {**rest, "output": answer}
    question = rest.pop(column)
    return {**rest, "prompt": question} if drop else {**rest, "prompt": question, "completion": answer}
