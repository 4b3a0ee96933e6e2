"""The published shapes of a row, as one table: its name, how it is recognised, how it becomes turns.

A reader gives the turns and what goes into the row's meta; an answer that is an empty text is left in, so that the caller
can tell a prompt set from a broken row. Answers that can be checked stand in meta as `gold` (GSM8K's number, a choice's
label), several good ones as `references`.
"""

from __future__ import annotations

from typing import TypeGuard

from buckler.formats import benchmarks, choices, training
from buckler.formats.benchmarks import probe
from buckler.formats.rows import Fields, Format, Parsed, has, pair
from buckler.registry import Registry


def _is_prompt(row: Fields) -> bool:
    """Not a preference set: which of its answers is wanted, its user has to say."""
    return has("prompt")(row) and not {"chosen", "rejected"} & row.keys()


_BUILTIN: dict[str, Format | str] = {
    # The special before the general: the first that fits names the file.
    "messages": Format(lambda row: isinstance(row.get("messages"), list), training.chat("messages", "role", "content")),
    "sharegpt": Format(lambda row: isinstance(row.get("conversations"), list), training.chat("conversations", "from", "value")),
    "prompt-completion-turns": Format(training.is_two_turns, training.two_turns),
    "dolly": Format(has("instruction", "context", "response"), training.dolly),
    "llm-adapters": Format(has("instruction", "output", "answer"), training.alpaca),
    "alpaca": Format(has("instruction"), training.alpaca),
    "commonsenseqa": Format(choices.is_commonsenseqa, choices.arc),
    "arc": Format(choices.is_choice, choices.arc),
    "mmlu-rows": Format(choices.is_mmlu_row, choices.mmlu_row),
    "mmlu": Format(choices.is_mmlu, choices.mmlu),
    "csqa2": Format(has("question", "topic_prompt"), benchmarks.csqa2),
    "comve": Format(has("correct_statement", "incorrect_statement"), benchmarks.comve),
    "comve-a": Format(has("id", "sent0", "sent1"), choices.comve_a),
    "comve-b": Format(has("id", "falsesent", "optiona", "optionb", "optionc"), choices.comve_b),
    "comve-c": Format(has("id", "falsesent"), benchmarks.comve_c),
    "boolq": Format(choices.is_boolq, choices.boolq),
    "piqa": Format(has("goal", "sol1", "sol2"), choices.piqa),
    "truthfulqa-choice": Format(lambda row: isinstance(row.get("mc1_targets"), dict), choices.truthfulqa_choice),
    "truthfulqa": Format(has("question", "best_answer"), benchmarks.truthfulqa),
    "gsm8k": Format(lambda row: has("question", "answer")(row) and "####" in str(row["answer"]), benchmarks.gsm8k),
    "sorry-bench": Format(benchmarks.is_sorry_bench, benchmarks.mt_bench),
    "mt-bench": Format(benchmarks.is_mt_bench, benchmarks.mt_bench),
    "jailbreakbench": Format(has("goal", "behavior", "category"), probe("goal", target="target", behavior="behavior")),
    "advbench": Format(has("goal", "target"), probe("goal", target="target")),
    "strongreject": Format(has("forbidden_prompt"), probe("forbidden_prompt", origin="source")),
    "harmbench": Format(benchmarks.is_harmbench, benchmarks.harmbench),
    "harmbench-plain": Format(has("behavior"), benchmarks.harmbench),
    "do-not-answer": Format(has("question", "risk_area"), probe("question", category="risk_area")),
    "simplesafetytests": Format(has("prompt", "harm_area"), probe("prompt", category="harm_area")),
    "xstest": Format(benchmarks.is_xstest, benchmarks.xstest),
    "wildguard": Format(
        has("prompt", "prompt_harm_label"),
        benchmarks.labelled(
            "prompt",
            "response",
            "prompt_harm_label",
            {"harmful": "harmful", "unharmful": "borderline"},
            category="subcategory",
        ),
    ),
    "toxic-chat": Format(
        has("user_input", "toxicity"),
        benchmarks.labelled("user_input", "model_output", "toxicity", {"1": "harmful", "0": "benign"}),
    ),
    "prompt-completion": Format(has("prompt", "completion"), pair("prompt", "completion")),
    "prompt-response": Format(has("prompt", "response"), pair("prompt", "response")),
    "or-bench": Format(benchmarks.is_or_bench, probe("prompt")),
    "prompts": Format(_is_prompt, probe("prompt")),
    "translation": Format(has("source", "target"), benchmarks.shots),
    "wmt": Format(lambda row: isinstance(row.get("translation"), dict), benchmarks.wmt),
    "sst2": Format(has("sentence"), benchmarks.sst2),
    "question-answer": Format(has("question", "answer"), pair("question", "answer")),
    "input-output": Format(has("input", "output"), pair("input", "output")),
    "questions": Format(has("question"), probe("question")),
    "strings": Format(has("string"), probe("string")),
    "headless": Format(training.is_plain_pair, training.cell_pair),
}


def _accepts(part: object) -> TypeGuard[Format]:
    return isinstance(part, Format)


FORMATS: Registry[Format] = Registry("format", "buckler.formats", _BUILTIN, _accepts, "a `buckler.formats.Format`")
"""All formats: Buckler's in the order in which they are tried, then those of installed packages."""


def matches(name: str, row: Fields) -> bool:
    """Whether a row has the shape of a format."""
    with FORMATS.boundary(name):
        return bool(FORMATS.get(name).matches(row))


def parsed(name: str, row: Fields, where: str) -> Parsed:
    """The turns of a row, and what goes into its meta.

    Raises:
        DataError: the row cannot be read, or a format of the user's own returns something else.
    """
    with FORMATS.boundary(name):
        result: object = FORMATS.get(name).read(row, where)
    match result:
        case (list() as turns, dict() as meta) if all(_is_turn(turn) for turn in turns):
            return turns, meta
    raise FORMATS.returned(name, result, "(turns, meta) from `read`: a list of {role, content} and a dictionary")


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and {"role", "content"} <= turn.keys()
