"""Questions with one right answer, with good answers to compare with, or with none: GSM8K, CSQA2, ComVE, WMT, MT-Bench."""

from __future__ import annotations

from buckler.data import Json
from buckler.errors import DataError
from buckler.formats.choices import why
from buckler.formats.common import shorten
from buckler.formats.rows import Fields, Parsed, conversation, optional, text

LANGUAGES = {
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "is": "Icelandic",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "ro": "Romanian",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "zh": "Chinese",
}


def gsm8k(row: Fields, where: str) -> Parsed:
    """The worked solution; the number after its `####` is the answer, thousands commas taken out."""
    answer = text(row, "answer", where)
    return conversation(text(row, "question", where), answer), {"gold": answer.rpartition("####")[2].strip().replace(",", "")}


def csqa2(row: Fields, where: str) -> Parsed:
    """A statement or question of yes or no."""
    gold = optional(row, "answer", where)
    if gold not in ("yes", "no", None):
        raise DataError(f"{where}: the answer must be 'yes' or 'no', got {shorten(gold)}; correct it")
    query = f"{text(row, 'question', where)}\nAnswer yes or no."
    return conversation(query, gold), {} if gold is None else {"gold": gold}


def comve(row: Fields, where: str) -> Parsed:
    """A statement against common sense, and three good reasons why."""
    reasons = [text(row, name, where) for name in ("right_reason1", "right_reason2", "right_reason3")]
    meta: dict[str, Json] = {"references": reasons, "corrected": text(row, "correct_statement", where)}
    return conversation(why(text(row, "incorrect_statement", where)), reasons[0]), meta


def comve_c(row: Fields, where: str) -> Parsed:
    """As `comve`; the reasons stand in another file, and the reader puts them in as `gold`."""
    gold = row.get("gold")
    reasons = [str(reason) for reason in gold] if isinstance(gold, list) else []
    meta: dict[str, Json] = {"references": reasons} if reasons else {}
    return conversation(why(text(row, "falsesent", where)), reasons[0] if reasons else None), meta


def is_mt_bench(row: Fields) -> bool:
    """Turns in a list; the hub's copy has them in `prompt`, beside a `prompt_id`."""
    return isinstance(row.get("turns"), list) or (isinstance(row.get("prompt"), list) and "prompt_id" in row)


def mt_bench(row: Fields, where: str) -> Parsed:
    """The first turn is the prompt. The later ones answer to an answer nobody gave yet: they wait in meta."""
    name = "turns" if "turns" in row else "prompt"
    turns = row[name]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise DataError(f"{where}: {name!r} must be a list of texts, got {shorten(turns)}; write them out")
    meta: dict[str, Json] = {"followups": turns[1:]}
    return conversation(str(turns[0])), {**meta, "references": row["reference"]} if row.get("reference") else meta


def truthfulqa(row: Fields, where: str) -> Parsed:
    """The best answer; beside it other true ones and common false ones, in lists or parted by `;`."""

    def listed(name: str) -> list[str]:
        told = row.get(name) or []
        parts = told.split(";") if isinstance(told, str) else list(told) if isinstance(told, list) else []
        return [part.strip() for part in map(str, parts) if part.strip()]

    meta: dict[str, Json] = {"references": listed("correct_answers"), "wrong": listed("incorrect_answers")}
    return conversation(text(row, "question", where), text(row, "best_answer", where)), meta


def translate(given: str, source: str | None, target: str | None) -> str:
    """How a translation is asked for; without the languages it is the text that tells them."""
    if source is None or target is None:
        return f"Translate this text:\n{given}"
    return f"Translate this text from {LANGUAGES.get(source, source)} to {LANGUAGES.get(target, target)}:\n{given}"


def shots(row: Fields, where: str) -> Parsed:
    """The languages stand in the file's name (`shots.de-en.json`); the reader puts them in."""
    source, target = optional(row, "source_language", where), optional(row, "target_language", where)
    meta: dict[str, Json] = {} if source is None else {"source_language": source, "target_language": target}
    return conversation(translate(text(row, "source", where), source, target), text(row, "target", where)), meta


def wmt(row: Fields, where: str) -> Parsed:
    """WMT as the hub has it: a text in each of two languages, the first one's is given."""
    pair = row["translation"]
    if not isinstance(pair, dict) or len(pair) != 2 or not all(isinstance(side, str) for side in pair.values()):
        raise DataError(f"{where}: 'translation' must be one text in each of two languages, got {shorten(pair)}")
    (source, given), (target, answer) = pair.items()
    meta: dict[str, Json] = {"source_language": source, "target_language": target}
    return conversation(translate(str(given), source, target), str(answer)), meta


def sst2(row: Fields, where: str) -> Parsed:
    """A sentence whose sentiment is asked for."""
    query = f"Is this sentence positive or negative?\n{text(row, 'sentence', where).strip()}"
    label = optional(row, "label", where)
    if label in (None, "-1"):  # -1 is how GLUE hides the labels of its test set
        return conversation(query), {}
    gold = {"0": "negative", "1": "positive"}.get(str(label), str(label))
    if gold not in ("negative", "positive"):
        raise DataError(f"{where}: the label must be 0 (negative), 1 (positive) or -1 (hidden), got {shorten(label)}")
    return conversation(query, gold), {"gold": gold}
