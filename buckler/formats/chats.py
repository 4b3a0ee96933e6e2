"""The published shapes of a row, as one table: its name, how it is recognised, how it becomes turns.

A reader gives the turns and what goes into the row's meta; an answer that is an empty text is left in, so that the caller
can tell a prompt set from a broken row. Answers that can be checked stand in meta as `gold` (GSM8K's number, a choice's
label), several good ones as `references`. The readers of rows to train on (chats, instructions, pairs) come first.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from buckler.data import is_json
from buckler.errors import DataError
from buckler.formats import benchmarks, choices, question_sets, turns
from buckler.formats.benchmarks import probe
from buckler.formats.marks import of_turns
from buckler.formats.rows import (
    Fields,
    Format,
    Parsed,
    after_history,
    conversation,
    has,
    optional,
    pair,
    shorten,
    system_in,
    text,
)
from buckler.registry import Registry

QUESTIONS = "prompt instruction question query input problem user human user_input user_prompt request inputs".split()
"""Columns of a question, in the order in which they are tried."""
ANSWERS = (
    "completion response output answer generation reply solution assistant gpt bot model_output model_response "
    "assistant_response gpt_response generated_response outputs targets"
).split()
"""Columns of its answer."""


def answers_in(row: Fields) -> list[str]:
    """The columns of a row that hold an answer."""
    return [name for name in ANSWERS if isinstance(row.get(name), str) and str(row[name]).strip()]


def is_pair(row: Fields) -> bool:
    """A question and an answer under any of their names; which, where several could be the answer, `any_pair` asks."""
    return any(isinstance(row.get(name), str) for name in QUESTIONS) and bool(answers_in(row))


def any_pair(row: Fields, where: str) -> Parsed:
    """A question, what it is about, and its answer, with a system prompt where there is one (SlimOrca, distilabel, Magpie).

    Raises:
        DataError: two columns may be the answer.
    """
    question = next(name for name in QUESTIONS if isinstance(row.get(name), str))
    found = answers_in(row)
    if len({str(row[name]).strip() for name in found}) > 1:
        raise DataError(
            f"{where}: {' and '.join(found)} may be the answer; say which with --columns prompt={question},answer={found[0]}"
        )
    context = next((str(row[name]) for name in ("input", "context") if name != question and isinstance(row.get(name), str)), "")
    query = text(row, question, where) + (f"\n\n{context}" if context.strip() else "")
    turns = conversation(query, text(row, found[0], where) if found else None, system=system_in(row, where))
    return after_history(turns, row, where), {}


def alpaca(row: Fields, where: str) -> Parsed:
    """Also the rows of LLM-Adapters, whose `answer` is the short gold answer beside the full `output`."""
    context = optional(row, "input", where) or ""
    query = text(row, "instruction", where) + (f"\n\n{context}" if context.strip() else "")
    turns = conversation(query, optional(row, "output", where), system=system_in(row, where))
    gold = optional(row, "answer", where)
    return after_history(turns, row, where), {} if gold is None else {"gold": gold}


def dolly(row: Fields, where: str) -> Parsed:
    """The context, where there is one, follows the instruction."""
    context = optional(row, "context", where) or ""
    query = text(row, "instruction", where) + (f"\n\n{context}" if context.strip() else "")
    return conversation(query, text(row, "response", where), system=system_in(row, where)), {}


def cell_pair(row: Fields, where: str) -> Parsed:
    """A record without a header: a prompt, or a prompt and its answer."""
    cells = row["cells"]
    if not isinstance(cells, list) or len(cells) not in (1, 2):
        raise DataError(f"{where}: expected a prompt and an answer, got {shorten(cells)}; give the columns a header")
    return conversation(str(cells[0]), str(cells[1]) if len(cells) == 2 else None), {}


def two_turns(row: Fields, where: str) -> Parsed:
    """TRL's conversational rows: lists of messages on both sides, of which only the second is learnt."""
    prompt, completion = (list(side) if isinstance(side := row.get(name), list) else [] for name in ("prompt", "completion"))
    listed, meta = turns.conversation_of([*prompt, *completion], row, where)
    numbers = range(len(listed) - len(completion)) if completion else ()
    before = [at for at in numbers if listed[at]["role"] == "assistant"]
    masked = meta.get("masked_turns")
    return listed, {**meta, **of_turns(listed, sorted({*before, *(masked if isinstance(masked, list) else ())}))}


def is_plain_pair(row: Fields) -> bool:
    """Not the gold answers of ComVE: an id before the answers is no prompt."""
    cells = row.get("cells")
    return isinstance(cells, list) and len(cells) in (1, 2) and not re.fullmatch(r"[\d\s]*", str(cells[0]))


def is_two_turns(row: Fields) -> bool:
    """A prompt that is a list of messages."""
    side = row.get("prompt")
    return isinstance(side, list) and bool(side) and turns.is_turn(side[0])


def _is_prompt(row: Fields) -> bool:
    """A prompt without an answer: completions that are a list have no one answer."""
    return has("prompt")(row)


_BUILTIN: dict[str, Format | str] = {
    # The special before the general: the first that fits names the file.
    "messages": Format(lambda row: isinstance(row.get("messages"), list), turns.chat("messages")),
    "sharegpt": Format(lambda row: isinstance(row.get("conversations"), list), turns.chat("conversations")),
    "conversation": Format(lambda row: turns.list_in(row) is not None, turns.chat(*turns.LISTS[2:])),
    "conversation-tree": Format(turns.is_tree, turns.tree),
    "transcript": Format(turns.is_transcript, turns.transcribed),
    "prompt-completion-turns": Format(is_two_turns, two_turns),
    "dolly": Format(has("instruction", "context", "response"), dolly),
    "llm-adapters": Format(has("instruction", "output", "answer"), alpaca),
    "alpaca": Format(lambda row: has("instruction")(row) and ("output" in row or not is_pair(row)), alpaca),
    "commonsenseqa": Format(choices.is_commonsenseqa, choices.arc),
    "arc": Format(choices.is_choice, choices.arc),
    "mmlu-rows": Format(choices.is_mmlu_row, choices.mmlu_row),
    "mmlu": Format(choices.is_mmlu, choices.mmlu),
    "hellaswag": Format(question_sets.is_hellaswag, question_sets.hellaswag),
    "winogrande": Format(question_sets.is_winogrande, question_sets.choices),
    "siqa": Format(question_sets.is_siqa, question_sets.choices),
    "csqa2": Format(has("question", "topic_prompt"), benchmarks.csqa2),
    "comve": Format(has("correct_statement", "incorrect_statement"), benchmarks.comve),
    "comve-a": Format(has("id", "sent0", "sent1"), choices.comve_a),
    "comve-b": Format(has("id", "falsesent", "optiona", "optionb", "optionc"), choices.comve_b),
    "comve-c": Format(has("id", "falsesent"), benchmarks.comve_c),
    "squad": Format(question_sets.is_squad, question_sets.squad),
    "boolq": Format(choices.is_boolq, choices.boolq),
    "piqa": Format(has("goal", "sol1", "sol2"), choices.piqa),
    "truthfulqa-choice": Format(lambda row: isinstance(row.get("mc1_targets"), dict), choices.truthfulqa_choice),
    "truthfulqa": Format(has("question", "best_answer"), benchmarks.truthfulqa),
    "gsm8k": Format(lambda row: has("question", "answer")(row) and "####" in str(row["answer"]), benchmarks.gsm8k),
    "choices": Format(question_sets.is_choices, question_sets.choices),
    "math": Format(question_sets.is_math, question_sets.math),
    "word-problem": Format(question_sets.is_word_problem, question_sets.word_problem),
    "sorry-bench": Format(benchmarks.is_sorry_bench, benchmarks.mt_bench),
    "mt-bench": Format(benchmarks.is_mt_bench, benchmarks.mt_bench),
    "jailbreakbench": Format(has("goal", "behavior", "category"), probe("goal", target="target", behavior="behavior")),
    "advbench": Format(has("goal", "target"), probe("goal", target="target")),
    "strongreject": Format(has("forbidden_prompt"), probe("forbidden_prompt", origin="source")),
    "harmbench": Format(benchmarks.is_harmbench, benchmarks.harmbench),
    "harmbench-plain": Format(has("behavior"), benchmarks.harmbench),
    "do-not-answer": Format(has("question", "risk_area"), probe("question", category="risk_area")),
    "simplesafetytests": Format(has("prompt", "harm_area"), probe("prompt", category="harm_area")),
    "simplesafetytests-original": Format(has("prompts_final", "harm_area"), probe("prompts_final", category="harm_area")),
    "salad-bench-attack": Format(has("augq"), probe("augq", category="1-category", behavior="baseq")),
    "salad-bench": Format(has("question", "1-category"), probe("question", category="1-category")),
    "air-bench": Format(has("prompt", "l2-name", "l3-name"), probe("prompt", category="l2-name")),
    "aya-redteaming": Format(has("prompt", "harm_category", "literal_translation"), probe("prompt", category="harm_category")),
    "catqa": Format(benchmarks.is_catqa, probe("question", category="category")),
    "wildjailbreak": Format(has("adversarial", "data_type"), benchmarks.wildjailbreak),
    "wildjailbreak-vanilla": Format(has("vanilla", "data_type"), benchmarks.wildjailbreak),
    "harmbench-completions": Format(has("test_case", "generation"), probe("test_case", category="behavior_id")),
    "real-toxicity": Format(lambda row: isinstance(row.get("prompt"), dict) and "challenging" in row, benchmarks.real_toxicity),
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
    "prompt-pairs": Format(lambda row: has("prompt")(row) and is_pair(row), any_pair),
    "prompts": Format(_is_prompt, probe("prompt")),
    "translation": Format(has("source", "target"), benchmarks.shots),
    "wmt": Format(lambda row: isinstance(row.get("translation"), dict), benchmarks.wmt),
    "sst2": Format(has("sentence"), benchmarks.sst2),
    "question-answer": Format(has("question", "answer"), pair("question", "answer")),
    "input-output": Format(has("input", "output"), pair("input", "output")),
    "pairs": Format(is_pair, any_pair),
    "questions": Format(has("question"), probe("question")),
    "strings": Format(has("string"), probe("string")),
    "headless": Format(is_plain_pair, cell_pair),
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
            if FORMATS.is_own(name) and not (is_json(turns) and is_json(meta)):
                raise FORMATS.returned(name, result, "turns and meta that JSON can hold")
            return turns, meta
    raise FORMATS.returned(name, result, "(turns, meta) from `read`: a list of {role, content} and a dictionary")


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and {"role", "content"} <= turn.keys()
