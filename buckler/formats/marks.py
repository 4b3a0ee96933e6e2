"""Marks that say what of a row is to be learnt, as trainers publish them: honoured, or refused where Buckler cannot.

Of turns: `weight` (OpenAI, Mistral, Fireworks, Together, axolotl), `train` and the other names that axolotl's
`message_field_training` is set to, `loss` (ms-swift, XTuner), `trainable` (Tinker), `masked` (torchtune). Of rows: `label` (TRL's
and axolotl's KTO, ms-swift), `kto_tag` (LLaMA-Factory), `weight` (Fireworks), `mask` (NeMo), and the labels of answers in safety
sets. Parts of an answer (`train_detail`, `segments`), token ids and steps with a label each cannot be said here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from buckler.data import LOSS_WEIGHT, MASKED_TURNS, NOT_LEARNT, UNCLEAR, Json, Message
from buckler.errors import DataError
from buckler.formats.rows import Fields, shorten

TURN_WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Of an answer alone; where they stand with another's turn they say nothing."""
TURN_MARKS = "train training trainable train_on_turn should_train is_train loss learn supervise output_with_loss".split()
"""True where the turn is learnt."""
TURN_MASKS = "mask masked is_masked ignore ignore_loss no_loss".split()
"""True where it is not."""
PART_MARKS = "train_detail training_detail reasoning_train_detail reasoning_training_detail".split()
MARKS_OF_TURNS = frozenset((*TURN_WEIGHTS, *TURN_MARKS, *TURN_MASKS, *PART_MARKS))

ROW_WEIGHTS = ("weight", "sample_weight", "example_weight")
"""Beside Buckler's own `loss_weight`."""
GOOD_ANSWER = (
    "label kto_tag kto_label desirable is_desirable is_safe safe is_response_safe response_safe answer_safe is_safe_response "
    "train trainable is_train"
).split()
"""Columns that are true where the answer is one to be learnt."""
ANSWER_HARM = "response_harm_label response_label answer_harm_label response_safety_label".split()
"""Columns in words: `harmful` or `unsafe` is not to be learnt."""
ROW_MARKS = frozenset((*ROW_WEIGHTS, *GOOD_ANSWER, *ANSWER_HARM))
REFUSED: Mapping[str, str] = {
    "input_ids": "token ids of one model cannot be read as text",
    "completion_mask": "a mask of tokens cannot be put on text",
    "assistant_masks": "a mask of tokens cannot be put on text",
    "loss_mask": "a mask of tokens cannot be put on text",
    "attention_mask": "a mask of tokens cannot be put on text",
    "segments": "pieces of text with a mark each are of one chat template",
    "chat_template_kwargs": "settings of the chat template are the model's here (`chat_template_kwargs`), not a row's",
}
"""Columns that change what is learnt in a way that cannot be said here."""
MEDIA = (
    "image images image_url image_urls image_path imagefilename video videos video_path audio audios speech pixel_values"
).split()
_MEDIA_TAG = re.compile(r"(?:\A|\n)\s*<(image|video|audio|img|speech)>|<(image|video|audio)>\s*\Z|<\|(image|video|audio)_?\d*\|>")
_YES, _NO = frozenset("true yes 1".split()), frozenset("false no 0".split())


def learnt(value: Json, name: str, where: str) -> bool:
    """What a mark says.

    Raises:
        DataError: it is neither yes nor no, such as a weight between them.
    """
    text = str(int(value) if isinstance(value, float) and value in (0, 1) else value).strip().lower()
    if text not in _YES | _NO:
        raise DataError(
            f"{where}: {name!r} of a turn must be 0 or 1, true or false, got {shorten(value)}; an answer is learnt whole"
        )
    return text in _YES


def turn_is_masked(turn: Mapping[str, Json], role: str, where: str) -> bool:
    """Whether the marks of a turn say that it is not to be learnt.

    Raises:
        DataError: a mark cannot be honoured: a part of an answer, a weight between 0 and 1, a turn that is not the assistant's.
    """
    masked = False
    for name, value in turn.items():
        if name not in MARKS_OF_TURNS or value is None or (name in TURN_WEIGHTS and role != "assistant"):
            continue
        if name in PART_MARKS:
            parts = {bool(part.get("train")) if isinstance(part, Mapping) else None for part in _listed(value)}
            if len(parts) > 1 or None in parts:
                raise DataError(f"{where}: {name!r} marks parts of an answer, which is learnt whole or not at all; split the row")
            masked |= parts == {False}
            continue
        is_learnt = learnt(value, name, where) != (name in TURN_MASKS)
        if role != "assistant" and is_learnt and name in TURN_MARKS:
            raise DataError(f"{where}: {name!r} asks to learn the turn of {role}; only answers are learnt: remove the mark")
        masked |= role == "assistant" and not is_learnt
    return masked


def part_marks(parts: Sequence[Mapping[str, Json]], where: str) -> dict[str, Json]:
    """The mark of a turn whose text is in parts, each of which may be marked (axolotl).

    Raises:
        DataError: some are to be learnt and some are not.
    """
    marks: set[bool] = set()
    for part in parts:
        if part.get("text"):
            marks.add(all(learnt(part[name], name, where) for name in ("train", "weight") if part.get(name) is not None))
    if len(marks) > 1:
        raise DataError(
            f"{where}: some parts of an answer are to be learnt and some are not; an answer is learnt whole: split the row"
        )
    return {"train": False} if marks == {False} else {}


def require_text_only(row: Fields, turns: Sequence[Message], where: str) -> None:
    """Refuse what is about pictures, films or sounds, and what says in tokens what is learnt.

    Raises:
        DataError: the row is one of these.
    """
    for name in MEDIA:
        if row.get(name) not in (None, "", [], {}):
            raise DataError(f"{where}: {name!r} is {shorten(row[name])}: only text is read; remove the row or the column")
    for turn in turns:
        if found := _MEDIA_TAG.search(turn["content"]):
            raise DataError(f"{where}: the text stands for media ({found.group().strip()}): only text is read; remove the row")
    for name, why in REFUSED.items():
        if row.get(name) not in (None, "", [], {}):
            raise DataError(f"{where}: {name!r}: {why}; remove the column, or export the rows as messages")
    if isinstance(row.get("labels"), list) and isinstance(row.get("completions"), list):
        raise DataError(f"{where}: 'completions' are steps with a label each; make a row of each good answer: prompt, completion")


def marks_of(row: Fields, turns: Sequence[Message], read: frozenset[str], where: str) -> tuple[dict[str, Json], set[str]]:
    """What a row's own columns say of learning it, as meta, and the columns that say it.

    Args:
        row: The row.
        turns: Its turns.
        read: Columns that its format has read: what they mean is known.
        where: The place of the row.

    Raises:
        DataError: a mark is not understood.
    """
    meta: dict[str, Json] = {}
    used: set[str] = set()
    weights = {name: row[name] for name in ROW_WEIGHTS if row.get(name) not in (None, "") and name not in read}
    if weights:
        meta[LOSS_WEIGHT] = weight_of(*next(iter(weights.items())), where)
        used.add(next(iter(weights)))
    if turns[-1]["role"] != "assistant":
        return meta, used
    for name in GOOD_ANSWER:
        value = row.get(name)
        if name in read or value in (None, "", []) or isinstance(value, list | Mapping):
            continue
        text = str(value).strip().lower()
        if isinstance(value, bool) or text in ("true", "false"):
            used.add(name)
            if text == "false":
                meta[NOT_LEARNT] = f"{name}: false"
        elif text in ("0", "1", "0.0", "1.0", "-1"):
            used.add(name)
            meta[UNCLEAR] = (
                f"{name!r} is {text}: a mark of answers not to be learnt, or a class; say it with --columns learn={name} "
                f"or --columns ignore={name}"
            )
        elif name == "label" and text in ("unsafe", "undesirable", "rejected", "bad"):
            meta[UNCLEAR] = (
                f"{name!r} is {text}: of the answer, which is not to be learnt then, or of the prompt; say it with "
                f"--columns learn={name} or --columns ignore={name}"
            )
        elif name.startswith("kto"):
            raise DataError(f"{where}: {name!r} must be true or false, got {shorten(value)}; correct or rename it")
    for name in ANSWER_HARM:
        if name in read or row.get(name) in (None, ""):
            continue
        used.add(name)
        if str(row[name]).strip().lower() in ("harmful", "unsafe", "toxic"):
            meta[NOT_LEARNT] = f"{name}: {row[name]}"
    if isinstance(row.get("mask"), str):
        used.add("mask")
        if str(row["mask"]).strip().lower() in ("assistant", "gpt", "model", "bot"):
            meta[NOT_LEARNT] = f"mask: {row['mask']}"
    return meta, used


def of_turns(turns: Sequence[Message], masked: Sequence[int]) -> dict[str, Json]:
    """The meta of a row with answers that are not to be learnt."""
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not masked:
        return {}
    all_of_them = set(answers) <= set(masked)
    return {MASKED_TURNS: list(masked), **({NOT_LEARNT: "marks of its answers"} if all_of_them else {})}


def weight_of(name: str, value: Json, where: str) -> float:
    """The weight of a row's loss; a table of texts holds it as one.

    Raises:
        DataError: it is no number of at least 0.
    """
    try:
        weight = -1.0 if isinstance(value, bool) or not isinstance(value, str | int | float) else float(value)
    except (ValueError, OverflowError):
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise DataError(f"{where}: {name} must be a number of at least 0, got {shorten(value)}; correct or remove it")
    return weight


def _listed(value: Json) -> Sequence[Json]:
    return value if isinstance(value, list | tuple) else [value]
