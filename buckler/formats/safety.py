"""Probes: prompts that a good model refuses, and prompts that only sound as if it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from buckler.data import Json
from buckler.errors import DataError
from buckler.formats.common import shorten
from buckler.formats.rows import Fields, Parsed, conversation, has, optional, text

OR_BENCH_CATEGORIES = frozenset("deception harassment harmful hate illegal privacy self-harm sexual unethical violence".split())
"""The ten categories of OR-Bench (arXiv 2405.20947), by which its two columns are told from anybody's."""
HARMBENCH_CATEGORIES = frozenset(
    "chemical_biological copyright cybercrime_intrusion harassment_bullying harmful illegal misinformation_disinformation".split()
)
"""The semantic categories of HarmBench (arXiv 2402.04249), by which the hub's copy of its contextual behaviours is told."""
XSTEST_SAFE = frozenset(
    "definitions figurative_language historical_events homonyms nons_group_real_discr privacy_fictional privacy_public "
    "real_group_nons_discr safe_contexts safe_targets".split()
)
"""The ten safe types of XSTest (arXiv 2308.01263); its completions come without the column `focus`."""
XSTEST_TWINS = {"real_group_nons_discr": "discr", "privacy_fictional": "privacy"}
"""Safe types of XSTest whose unsafe contrast goes by another name; the others are named `contrast_` and the type."""


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
        told = (optional(row, verdict, where) or "").strip().lower()
        if told and told not in sets:
            raise DataError(f"{where}: {verdict!r} must be {' or '.join(sets)}, got {shorten(told)}; correct it")
        (asked,), meta = prompt(row, where)
        turns = conversation(asked["content"], optional(row, answer, where) or None)
        return turns, {**meta, "label": sets[told]} if told else meta

    return read


def is_xstest(row: Fields) -> bool:
    """Its prompts, or its completions, which may come without `focus` and are told by their types."""
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
            f"{where}: a behavior about the picture {shorten(row['imagefilename'])}; only texts are asked, take it out"
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
    spelled = re.sub(r"[\s_]+", "-", str(row.get("category")).strip().lower())
    return isinstance(row.get("prompt"), str) and spelled in OR_BENCH_CATEGORIES and not {"chosen", "rejected"} & row.keys()
