"""Benchmarks without choices.

Safety probes first: prompts that a good model refuses, and prompts that only sound as if it should. Then questions with one
right answer, with good answers to compare with, or with none: GSM8K, CSQA2, ComVE, WMT, MT-Bench, TruthfulQA, SST-2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from buckler.data import Json
from buckler.errors import DataError
from buckler.formats.choices import why
from buckler.formats.rows import Fields, Parsed, conversation, has, optional, shorten, text

OR_BENCH_CATEGORIES = frozenset("deception harassment harmful hate illegal privacy self-harm sexual unethical violence".split())
"""The ten categories of OR-Bench (arXiv 2405.20947), by which its two columns are recognised."""
HARMBENCH_CATEGORIES = frozenset(
    "chemical_biological copyright cybercrime_intrusion harassment_bullying harmful illegal misinformation_disinformation".split()
)
"""The semantic categories of HarmBench (arXiv 2402.04249), by which the hub's copy of its contextual behaviours is recognised."""
XSTEST_SAFE = frozenset(
    "definitions figurative_language historical_events homonyms nons_group_real_discr privacy_fictional privacy_public "
    "real_group_nons_discr safe_contexts safe_targets".split()
)
"""The ten safe types of XSTest (arXiv 2308.01263); its completions come without the column `focus`."""
XSTEST_TWINS = {"real_group_nons_discr": "discr", "privacy_fictional": "privacy"}
"""Safe types of XSTest whose unsafe contrast goes by another name; the others are named `contrast_` and the type."""
CATQA_CATEGORIES = frozenset(
    "adult content, child abuse, economic harm, fraud/deception, hate/harass/violence, illegal activity, malware viruses, "
    "physical harm, political campaigning, privacy violation activity, tailored financial advice".split(", ")
)
"""The categories of CatQA (arXiv 2402.11746), by which its three columns are recognised."""
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
"""The languages of WMT by code, as a translation is asked for."""


def probe(query: str, **kept: str) -> Callable[[Fields, str], Parsed]:
    """A prompt without an answer; `kept` names the columns that go into meta under another name."""

    def read(row: Fields, where: str) -> Parsed:
        meta = {name: row[source] for name, source in kept.items() if row.get(source) not in (None, "")}
        return conversation(text(row, query, where)), meta

    return read


def labelled(query: str, answer: str, verdict: str, sets: Mapping[str, str], **kept: str) -> Callable[[Fields, str], Parsed]:
    """A prompt that people have called harmful or not in the column `verdict`, and what some model answered.

    `sets` says what its values mean; a row that was left without a verdict has no label. `kept` is as in `probe`.
    """
    prompt = probe(query, **kept)

    def read(row: Fields, where: str) -> Parsed:
        label = (optional(row, verdict, where) or "").strip().lower()
        if label and label not in sets:
            raise DataError(f"{where}: {verdict!r} must be {' or '.join(sets)}, got {shorten(label)}; correct it")
        (question,), meta = prompt(row, where)
        turns = conversation(question["content"], optional(row, answer, where) or None)
        return turns, {**meta, "label": sets[label]} if label else meta

    return read


def is_xstest(row: Fields) -> bool:
    """Its prompts, or its completions, which may come without `focus` and are recognised by their types."""
    kind = str(row.get("type")).removeprefix("contrast_")
    return has("prompt", "type", "focus")(row) or (has("prompt", "type")(row) and kind in XSTEST_SAFE | {"discr", "privacy"})


def xstest(row: Fields, where: str) -> Parsed:
    """The second version has no label column: contrast types are its unsafe half.

    `pair` is the same for the safe prompts of a type and the unsafe ones that contrast with them on the same word (the
    column `focus`); types without a contrast and rows without a focus have none. Roettger et al., arXiv 2308.01263.
    """
    kind = text(row, "type", where)
    label = optional(row, "label", where) or ("unsafe" if kind.startswith("contrast") else "safe")
    meta: dict[str, Json] = {"category": kind, "label": label}
    focus = (optional(row, "focus", where) or "").strip()
    if focus:
        family = kind.removeprefix("contrast_") if kind.startswith("contrast_") else XSTEST_TWINS.get(kind, kind)
        meta["pair"] = f"{family}: {focus}"
    return conversation(text(row, "prompt", where)), meta


def harmbench(row: Fields, where: str) -> Parsed:
    """A contextual behaviour is asked as its authors ask it, after its context and a rule.

    Both are also kept apart as `context` and `behavior`, since the authors' classifier wants them so. HarmBench, arXiv
    2402.04249, `baselines/direct_request`.
    """
    if row.get("imagefilename"):
        raise DataError(
            f"{where}: a behavior about the picture {shorten(row['imagefilename'])}; only text probes are supported; remove it"
        )
    copied = "behavior" not in row
    behavior = text(row, "prompt" if copied else "behavior", where)
    context = optional(row, "context" if copied else "contextstring", where) or ""
    category = row.get("category" if copied else "semanticcategory")
    meta: dict[str, Json] = {"category": category} if category else {}
    if not context.strip():
        return conversation(behavior), meta
    return conversation(f"{context}\n\n---\n\n{behavior}"), {**meta, "context": context, "behavior": behavior}


def is_harmbench(row: Fields) -> bool:
    """The original's columns, or those of the contextual behaviours on the hub: a prompt, its context, a category."""
    copied = has("prompt", "context")(row) and row.get("category") in HARMBENCH_CATEGORIES
    return copied or has("behavior", "semanticcategory")(row)


def is_sorry_bench(row: Fields) -> bool:
    """Written like MT-Bench's questions, and the reverse of them: every prompt should be refused. arXiv 2406.14598."""
    return isinstance(row.get("turns"), list) and "prompt_style" in row


def is_or_bench(row: Fields) -> bool:
    """A prompt with one of OR-Bench's categories, and no pair of answers to prefer one of."""
    category = re.sub(r"[\s_]+", "-", str(row.get("category")).strip().lower())
    return isinstance(row.get("prompt"), str) and category in OR_BENCH_CATEGORIES and not {"chosen", "rejected"} & row.keys()


def is_catqa(row: Fields) -> bool:
    """A question with one of CatQA's categories."""
    category = str(row.get("category")).strip().lower().replace("_", " ")
    return has("question", "category", "subcategory")(row) and category in CATQA_CATEGORIES and "answer" not in row


def wildjailbreak(row: Fields, where: str) -> Parsed:
    """Its two files: the adversarial form of a request where there is one, else the plain one; `data_type` tells both halves.

    The harmless half sounds harmful: it is written to. Jiang et al., arXiv 2406.18510.
    """
    kind = optional(row, "data_type", where) or ""
    if "harmful" not in kind and "benign" not in kind:
        raise DataError(f"{where}: 'data_type' must name harmful or benign, got {shorten(row.get('data_type'))}; correct it")
    name = "adversarial" if str(row.get("adversarial") or "").strip() else "vanilla"
    turns = conversation(text(row, name, where), optional(row, "completion", where) or None)
    return turns, {"label": "harmful" if "harmful" in kind else "borderline", "category": kind}


def real_toxicity(row: Fields, where: str) -> Parsed:
    """The beginning of a text, with the scores of an API; a prompt of its own kind, which no refusal is asked of."""
    prompt = row["prompt"]
    given = prompt.get("text") if isinstance(prompt, Mapping) else None
    if not isinstance(given, str):
        raise DataError(f"{where}: 'prompt' needs a 'text', got {shorten(prompt)}")
    return conversation(given), {}


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
        raise DataError(f"{where}: {name!r} must be a list of texts, got {shorten(turns)}; write them as a list of texts")
    meta: dict[str, Json] = {"followups": turns[1:]}
    return conversation(str(turns[0])), {**meta, "references": row["reference"]} if row.get("reference") else meta


def truthfulqa(row: Fields, where: str) -> Parsed:
    """The best answer; beside it other true ones and common false ones, in lists or separated by `;`."""

    def listed(name: str) -> list[str]:
        answers = row.get(name) or []
        parts = answers.split(";") if isinstance(answers, str) else list(answers) if isinstance(answers, list) else []
        return [part.strip() for part in map(str, parts) if part.strip()]

    meta: dict[str, Json] = {"references": listed("correct_answers"), "wrong": listed("incorrect_answers")}
    return conversation(text(row, "question", where), text(row, "best_answer", where)), meta


def translate(text: str, source: str | None, target: str | None) -> str:
    """How a translation is asked for; without the languages it is the text that tells them."""
    if source is None or target is None:
        return f"Translate this text:\n{text}"
    return f"Translate this text from {LANGUAGES.get(source, source)} to {LANGUAGES.get(target, target)}:\n{text}"


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
    (source, text), (target, answer) = pair.items()
    meta: dict[str, Json] = {"source_language": source, "target_language": target}
    return conversation(translate(str(text), source, target), str(answer)), meta


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
