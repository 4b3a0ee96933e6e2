"""Probes: prompts that a good model refuses, and prompts that only sound as if it should."""

from __future__ import annotations

import re
from collections.abc import Callable

from buckler.data import Json
from buckler.formats.rows import Fields, Parsed, conversation, optional, text

OR_BENCH_CATEGORIES = frozenset("deception harassment harmful hate illegal privacy self-harm sexual unethical violence".split())
"""The ten categories of OR-Bench (arXiv 2405.20947), by which its two columns are told from anybody's."""
XSTEST_TWINS = {"real_group_nons_discr": "discr", "privacy_fictional": "privacy"}
"""Safe types of XSTest whose unsafe contrast goes by another name; the others are named `contrast_` and the type."""


def probe(query: str, **kept: str) -> Callable[[Fields, str], Parsed]:
    """A prompt without an answer; `kept` names the columns that go into meta under another name."""

    def read(row: Fields, where: str) -> Parsed:
        meta = {name: row[source] for name, source in kept.items() if row.get(source) not in (None, "")}
        return conversation(text(row, query, where)), meta

    return read


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
    behavior, context = text(row, "behavior", where), optional(row, "contextstring", where) or ""
    meta: dict[str, Json] = {"category": row.get("semanticcategory")} if row.get("semanticcategory") else {}
    if not context.strip():
        return conversation(behavior), meta
    return conversation(f"{context}\n\n---\n\n{behavior}"), {**meta, "context": context, "behavior": behavior}


def is_or_bench(row: Fields) -> bool:
    """A prompt with one of OR-Bench's categories, and no pair of answers to prefer one of."""
    spelled = re.sub(r"[\s_]+", "-", str(row.get("category")).strip().lower())
    return isinstance(row.get("prompt"), str) and spelled in OR_BENCH_CATEGORIES and not {"chosen", "rejected"} & row.keys()
