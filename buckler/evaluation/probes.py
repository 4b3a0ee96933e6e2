"""Probes by what a good model does with them: refuse (harmful), not refuse (borderline), answer (benign); and their answers.

Answering is the first of three steps (answer, judge, summarise) with a file after each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from buckler.data import Answer, Chat
from buckler.data.answers import of_one_model
from buckler.data.near_duplicates import normalise, text_of
from buckler.data.truncation import cut_to_fit
from buckler.errors import DataError
from buckler.evaluation.scores import SETS
from buckler.finetuning.attacks import AttackSettings, wrap
from buckler.formats.columns import LABEL_COLUMNS
from buckler.formats.fingerprints import kind_of
from buckler.formats.rows import listed, shorten
from buckler.models.calls import generate
from buckler.models.protocol import LM, Completion, Request, Sampling
from buckler.models.template_check import ConversationRefused
from buckler.progress import ProgressCallback, no_progress

HARMFUL_FORMATS = frozenset(
    "advbench air-bench aya-redteaming catqa do-not-answer harmbench harmbench-completions harmbench-plain salad-bench "
    "salad-bench-attack simplesafetytests simplesafetytests-original sorry-bench strongreject".split()
)
"""Published sets whose every row should be refused."""
BENIGN_FORMATS = frozenset(
    "arc boolq choices commonsenseqa comve comve-a comve-b comve-c csqa2 gsm8k hellaswag llm-adapters math mmlu mmlu-rows "
    "mt-bench piqa siqa squad sst2 translation truthfulqa truthfulqa-choice winogrande wmt word-problem".split()
)
"""Published utility sets: ordinary questions, every one of which should be answered."""
SET_LABELS = {
    "unsafe": "harmful",
    "harmful": "harmful",
    "safe": "borderline",
    "useful": "borderline",
    "borderline": "borderline",
    "benign": "benign",
}
"""What the column `label` of a probe says of its set. XSTest's safe half only sounds harmful."""
LABELS: dict[str, str] = {
    **dict.fromkeys("harmful unsafe toxic jailbreak malicious adversarial_harmful true 1 yes".split(), "harmful"),
    **dict.fromkeys("unharmful harmless safe borderline adversarial_benign".split(), "borderline"),
    **dict.fromkeys("benign false 0 no".split(), "benign"),
}
"""What `LABEL_COLUMNS` say of a prompt. Safe prompts of a red-team set sound harmful; benign ones are ordinary."""
PARTS: tuple[tuple[str, str, str | None], ...] = (
    ("jailbreakbench", "benign", "borderline"),
    ("jailbreakbench", "harmful", "harmful"),
    ("or-bench", "toxic", "harmful"),
    ("or-bench", "80k|hard", "borderline"),
    ("alpaca", "i-(?:maliciousinstructions|cona|controversial|physicalsafetyunsafe)|q-harm", "harmful"),
    ("alpaca", "i-(?:physicalsafetysafe|alpaca)", "benign"),
    *((bare, "benign|harmless|safe", None) for bare in ("strings", "prompts")),
    *((bare, "maliciousinstruct|advbench|harmbench|strong[-_]?reject", "harmful") for bare in ("strings", "prompts")),
)
"""Published sets whose content does not tell them, by format and by words of the file's name; None: not even so.

Parts of one set that share a shape, and copies (of the hub, say) that keep no column but the prompts.
"""


def in_set(probe: Chat, probe_set: str | None = None, where: str | None = None) -> Chat:
    """The probe with `meta["set"]`: as given, as its row says, or as its published set is known for; its answer goes.

    `where` names its place in errors.

    Raises:
        DataError: nothing tells which set it belongs to, or its `set` is none that there is.
    """
    known = probe_set or set_of(probe, where)
    if known is None:
        source = probe.meta.get("source", "the file")
        raise DataError(
            f"{source}: its rows do not name their probe set; "
            "pass the file with --harmful, --borderline or --benign instead of --probes"
        )
    reference = {"reference": probe.answer} if probe.answer else {}
    return Chat.of(probe.prompt, **{**reference, **probe.meta, "set": known})


def set_of(probe: Chat, where: str | None = None) -> str | None:
    """The set a probe says or is known to belong to; None if nothing tells. `where` names its place in errors.

    Raises:
        DataError: its `set` is none that there is.
    """
    meta = probe.meta
    if (named := meta.get("set")) is not None:
        if named not in SETS:
            place = where or f"{meta.get('source', 'row')}, id {meta.get('id', probe.id)}"
            raise DataError(f"{place}: set is {shorten(named)}; write {', '.join(SETS)}, or rename the column")
        return str(named)
    if known := SET_LABELS.get(str(meta.get("label", "")).lower()):
        return known
    if word := next((str(meta[name]).strip().lower() for name in LABEL_COLUMNS if name in meta), None):
        if word not in LABELS:
            place = where or f"{meta.get('source', 'row')}, id {meta.get('id', probe.id)}"
            raise DataError(f"{place}: the label {shorten(word)} is none of {listed(LABELS)}; correct it, or rename the column")
        return LABELS[word]
    if isinstance(known_as := meta.get("benchmark"), str) and (kind := kind_of(probe, known_as)):
        return kind
    format, source = meta.get("format"), str(meta.get("source", ""))
    for name, words, part in PARTS:
        if format == name and re.search(rf"(?<![a-z])(?:{words})(?![a-z])", source.lower()):
            return part
    if format in HARMFUL_FORMATS:
        return "harmful"
    return "benign" if format in BENIGN_FORMATS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a file of probes holds."""

    format: str
    benchmark: str | None
    """The published set that its content is of, whole or in part."""
    categories: Mapping[str | None, Mapping[str, int]]
    """By set (None: nothing tells it), how many rows of each category; `""` counts those without one."""
    repeats: Mapping[int, int]
    """Row numbers, from 1, whose words an earlier row already has, and that row's number."""
    checkable: int
    """Rows with a gold answer or choices: they can be scored without a judge."""
    without_gold: int
    """Questions with choices whose right one the file does not give: a test split, or one whose answers stand elsewhere."""
    followups: int
    """Rows with a second turn."""
    ignored_columns: tuple[str, ...]
    """Columns that are passed over."""

    @property
    def sets(self) -> dict[str | None, int]:
        """Rows by set."""
        return {name: sum(counts.values()) for name, counts in self.categories.items()}


def describe(probes: Sequence[Chat], name: str) -> Described:
    """What the probes of the file `name` are.

    Raises:
        DataError: the `set` of a row is none that there is.
    """
    categories: dict[str | None, Counter[str]] = {}
    first: dict[str, int] = {}
    repeats: dict[int, int] = {}
    for number, probe in enumerate(probes, 1):
        category = probe.meta.get("category")
        known = set_of(probe, f"{name}: row {number}")
        categories.setdefault(known, Counter())[str(category) if category is not None else ""] += 1
        earlier = first.setdefault(normalise(text_of(probe)), number)
        if earlier != number:
            repeats[number] = earlier
    return Described(
        format=str(probes[0].meta.get("format", "")) if probes else "",
        benchmark=str(probes[0].meta["benchmark"]) if probes and "benchmark" in probes[0].meta else None,
        categories=categories,
        repeats=repeats,
        checkable=sum("gold" in probe.meta for probe in probes),
        without_gold=sum("choices" in probe.meta and "gold" not in probe.meta for probe in probes),
        followups=sum(bool(probe.meta.get("followups")) for probe in probes),
        ignored_columns=tuple(sorted({str(name) for probe in probes for name in _names(probe)})),
    )


def _names(probe: Chat) -> Sequence[object]:
    names = probe.meta.get("ignored_columns", probe.meta.get("unread_columns", ()))  # the latter from 0.1.0
    return names if isinstance(names, list | tuple) else ()


def merge(files: Sequence[Sequence[Chat]]) -> list[Chat]:
    """The probes of several inputs, each once, with `meta["benchmarks"]` where two or more of them are files.

    A probe of two files keeps what the first says of it, completed by the second, and names both: it counts in the numbers of
    each, and once in those over all.
    """
    names = benchmark_names(files)
    named = sum(name is not None for name in names) > 1
    merged: dict[str, Chat] = {}
    for name, probes in zip(names, files, strict=True):
        for probe in probes:
            earlier = merged.get(probe.id, probe)
            of = earlier.meta.get("benchmarks")
            benchmarks = list(dict.fromkeys([*(of if isinstance(of, list) else []), *([name] if name else [])]))
            more = {"benchmarks": benchmarks} if named and benchmarks else {}
            merged[probe.id] = replace(probe, meta={**probe.meta, **earlier.meta, **more})
    return list(merged.values())


def benchmark_names(files: Sequence[Sequence[Chat]]) -> list[str | None]:
    """What each input is called: the published set that its content shows, else its file; None for rows of no file.

    Where two would be called the same, the file, the format, and last a number tell them apart.
    """
    called = [_called(probes) for probes in files]
    names = [next(iter(one), None) for one in called]
    for at in (1, 2):
        further = {name: {one[at : at + 1] for other, one in zip(names, called, strict=True) if other == name} for name in names}
        names = [
            f"{name} ({one[at]})" if len(further[name]) > 1 and at < len(one) else name
            for name, one in zip(names, called, strict=True)
        ]
    unique: list[str | None] = []
    for name in names:
        same = (name if number == 1 else f"{name} ({number})" for number in count(1))
        unique.append(None if name is None else next(one for one in same if one not in unique))
    return unique


def _called(probes: Sequence[Chat]) -> tuple[str, ...]:
    """The names of a file of probes, the best first: published set, file, format."""
    meta = probes[0].meta if probes else {}
    if "format" not in meta:
        return ()
    file = meta.get("file", meta.get("source"))
    named = [meta.get("benchmark"), file, meta["format"]]
    return tuple(str(name) for name in named if name)


def pairs_between(probes: Sequence[Chat]) -> int:
    """How many harmful probes have a harmless twin of the same `pair`: what the paired calibration gap stands on."""
    counts = {
        name: Counter(str(probe.meta["pair"]) for probe in probes if "pair" in probe.meta and set_of(probe) == name)
        for name in SETS
    }
    harmless = counts["borderline"] or counts["benign"]
    return sum((counts["harmful"] & harmless).values())


MAX_NEW_TOKENS = 256
"""Longest answer where nobody says how long: a judge misreads an answer that is cut off early."""


def answer_probes(
    model: LM,
    probes: Sequence[Chat],
    sampling: Sampling,
    *,
    attack: AttackSettings | None = None,
    progress: ProgressCallback = no_progress,
) -> list[Answer]:
    """The model's answer to each probe, in order; `attack` wraps each probe as the adversary would ask it.

    A probe whose document does not fit the model is cut in its middle, and its meta says so.

    Raises:
        DataError: a probe does not fit, and there is nothing to cut, or the chat template refuses it; none has been asked yet.
    """
    fitting = [_fitted(model, wrap(attack, probe), sampling) for probe in probes]
    completions = generate(model, [Request(messages=chat.messages, sampling=sampling) for chat in fitting], progress, "answering")
    answers = [_answer(chat, one) for chat, one in zip(fitting, completions, strict=True)]
    return of_one_model(answers, [one.began_inside for one in completions])


def _answer(chat: Chat, completion: Completion) -> Answer:
    return Answer(
        id=chat.id,
        prompt=chat.messages,
        text=completion.text,
        finish_reason=completion.finish_reason,
        meta=chat.meta,
        error=completion.error,
        thinking=completion.thinking,
        tool_calls=completion.tool_calls,
        withheld_by=completion.withheld_by,
        own_words=completion.own_words,
    )


def _fitted(model: LM, probe: Chat, sampling: Sampling) -> Chat:
    def overflow_tokens(chat: Chat) -> int:
        return model.overflow_tokens(chat.messages, sampling.max_new_tokens)

    place = f"{probe.meta.get('source', 'probe')}, id {probe.meta.get('id', probe.id)}"
    try:
        fitted = cut_to_fit(probe, overflow_tokens, 0)
    except ConversationRefused as fault:
        raise DataError(f"{place}: {fault}; change the row or remove it") from None
    if fitted is None:
        over = f"{overflow_tokens(probe)} tokens over the model's context length, including {sampling.max_new_tokens} new tokens"
        raise DataError(f"{place}: {over}; remove it, or lower max_new_tokens")
    return fitted
