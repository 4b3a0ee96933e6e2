"""Findings on documents: is there a gap, do refusals on tasks close it, from which task do they carry over, at what cost."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.crosstask.task import MOST_MISUSED_TASK
from buckler.experiments.cross_task.budgets import budget_claims
from buckler.experiments.cross_task.conditions import (
    ON_BENIGN,
    ON_USEFUL,
    SCORE,
    DocumentCondition,
    document_conditions,
    faults_of,
    misuse_of,
    refusal_of,
)
from buckler.experiments.cross_task.document_attacks import attack_claims
from buckler.experiments.cross_task.model_comparison import comparison_claims
from buckler.experiments.cross_task.phrase_rule import rule_claims
from buckler.experiments.cross_task.plan import UNDEFENDED
from buckler.experiments.cross_task.recipe import CROSS, WEAK
from buckler.experiments.results import RunResult
from buckler.experiments.results_view import DOCUMENTS, HARMFUL, ArmView, Metric, contrast, gain, gain_over
from buckler.report.claims import Finding, Part, any_of, decide, finding, format_level, negative, part, together
from buckler.report.tables import format_number


def cross_task_claims(results: RunResult) -> list[Finding]:
    """Every finding that the cells there are allow."""
    seen = document_conditions(results)
    return [
        *finding(
            "There is a gap: the undefended model refuses a harmful question and processes a malicious document.",
            f"{WEAK}: Llama-2-7B-chat processes 10 to 32 % of malicious documents, by task; it refuses direct questions.",
            [_gap(condition) for condition in seen],
        ),
        *finding(
            "Refusals on all tasks close it.",
            f"{CROSS}: suitable tuning raises the refusal of malicious documents greatly.",
            [_closed(condition) for condition in seen],
        ),
        *finding(
            "At the same budget, refusals on mixed tasks protect better than refusals on a single one.",
            f"{CROSS} trains both; which is better over all tasks is asked here.",
            [_mixed(condition) for condition in seen],
        ),
        *_misuse_claims(results),
        *_transfer(seen),
        *finding(
            "It costs usefulness: more useful or benign documents refused, or lower task scores.",
            f"{CROSS}: utility and safety trade off; too many defence rows over-refuse.",
            [_cost(condition) for condition in seen],
        ),
        *budget_claims(results),
        *attack_claims(results),
        *comparison_claims(results),
        *rule_claims(results),
    ]


def _gap(condition: DocumentCondition) -> Part | None:
    bare = condition.undefended
    if bare is None or bare.measured(HARMFUL) is None:
        return None
    gap = contrast(bare.measured(DOCUMENTS), bare.measured(HARMFUL))
    direct, documents = format_level(bare.cell(HARMFUL)), format_level(bare.cell(DOCUMENTS))
    return part(condition.where, {"a gap of": gap}, f"It refuses {direct} of the questions and {documents} of the documents:")


def _closed(condition: DocumentCondition) -> Part | None:
    gains = {condition.name(one): gain(condition.control, one, DOCUMENTS) for one in condition.defended(mixed=True)}
    if condition.control is None or not gains:
        return None
    arms = condition.defended(mixed=True)
    faults = [f"{condition.name(arm)}: {'; '.join(of.values())}" for arm in arms if (of := faults_of(arm, condition.undefended))]
    tail = f"But {'. '.join(faults)}." if faults else ""
    return part(condition.where, gains, f"Refusal of malicious documents, against {condition.control_name}:", tail)


def _mixed(condition: DocumentCondition) -> Part | None:
    singles = condition.defended(mixed=False)
    gains = {
        f"{mixed.label('refusals')} refusals, mixed - {condition.row_name(single)[0]}": gain(single, mixed, DOCUMENTS)
        for mixed in condition.defended(mixed=True)
        for single in singles
        if single.label("refusals") == mixed.label("refusals")
    }
    return part(condition.where, gains, "Refusal of malicious documents over all tasks:") if gains else None


def _others(condition: DocumentCondition, *arms: ArmView) -> list[Metric]:
    """Refusal of malicious documents on every task that none of the arms was trained on."""
    trained = {task for arm in arms for task in condition.trained_tasks(arm)}
    return [refusal_of(task) for task in condition.tasks if task not in trained]


def _transfer(seen: Sequence[DocumentCondition]) -> list[Finding]:
    return [
        *finding(
            "Refusals on a single task carry over to the others.",
            f"{CROSS}: defending one task also protects others.",
            [_carried(condition) for condition in seen],
        ),
        *finding(
            "They carry over best from the task that is misused most.",
            f"{CROSS}: defending summarization, the task misused most, transfers best to the other tasks. Which task that "
            "is here is measured; against tasks in a tie with it nothing is decided.",
            [_best(condition) for condition in seen],
        ),
    ]


def _carried(condition: DocumentCondition) -> Part | None:
    if condition.control is None:
        return None
    gains = {}
    for single in condition.defended(mixed=False):
        others = _others(condition, single)
        if others:
            gains[condition.name(single)] = gain_over(condition.control, single, others)
    return part(condition.where, gains, f"Refusal on the other tasks, against {condition.control_name}:") if gains else None


def _best(condition: DocumentCondition) -> Part | None:
    """The arm on the most misused task against every other single one, on the tasks that neither was trained on."""
    singles, misuse = condition.defended(mixed=False), misuse_of(condition)
    if misuse is None or len({condition.trained_tasks(single) for single in singles}) < 2:
        return None
    lead = f"Misused most: {misuse.text}."
    most_misused = _of_most_misused(condition, singles, misuse.tasks)
    if not most_misused:
        return Part(where=condition.where, status="inconclusive", lead=f"{lead} No arm was trained on it alone.")
    gains, untied = {}, {}
    for one in most_misused:
        for other in singles:
            others = _others(condition, one, other)
            if other.label("refusals") != one.label("refusals") or condition.trained_tasks(one) == condition.trained_tasks(other):
                continue
            if others:
                change = gain_over(other, one, others)
                tie = set(condition.trained_tasks(other)) <= set(misuse.tasks)
                name = f"{one.label('refusals')} refusals, {condition.row_name(one)[0]} - {condition.row_name(other)[0]}"
                gains[name + (", a tie" if tie else "")] = change
                if not tie:
                    untied[name] = change
    status = together(decide(change) for change in untied.values())
    lead = f"{lead} Refusal on the tasks that neither was trained on:"
    return part(condition.where, gains, lead, status=status) if gains else None


def _of_most_misused(condition: DocumentCondition, singles: Sequence[ArmView], tasks: Sequence[str]) -> list[ArmView]:
    """The arms on the most misused task; in a tie those on the one that the recipe's `tasks` chose, else on the first."""
    of = [single for single in singles if set(condition.trained_tasks(single)) <= set(tasks)]
    chosen = [single for single in of if single.label("trained on") == MOST_MISUSED_TASK]
    return chosen or [single for single in of if single.label("trained on") == of[0].label("trained on")]


def _cost(condition: DocumentCondition) -> Part | None:
    """Any of three costs is one, so the part has the status of its worst."""
    if condition.control is None or not condition.defended(mixed=True):
        return None
    costs = {}
    for one in condition.defended(mixed=True):
        for metric, word in ((ON_USEFUL, "useful refused"), (ON_BENIGN, "benign refused"), (SCORE, "score lost")):
            change = gain(condition.control, one, metric)
            if change.value is not None:
                costs[f"{condition.name(one)}: {word}"] = negative(change) if metric == SCORE else change
    if not costs:
        return None
    return part(condition.where, costs, f"Against {condition.control_name}:", status=any_of(costs))


def _misuse_claims(results: RunResult) -> list[Finding]:
    """Whether one task is misused more than every other."""
    return finding(
        "Tasks differ: one is misused more than every other.",
        f"{WEAK}: Llama-2-7B-chat summarizes 31.6 % of malicious documents and translates 10.1 %.",
        [_first(results, condition) for condition in document_conditions(results)],
    )


def _first(results: RunResult, condition: DocumentCondition) -> Part | None:
    misuse = misuse_of(condition)
    if misuse is None or len(misuse.rates) < 2:
        return None
    first, bare = misuse.tasks[0], misuse.bare
    most = bare.measured(refusal_of(first))
    gaps = {task: contrast(most, bare.measured(refusal_of(task))) for task in misuse.rates if task != first}
    lead = f"Processed most by the {UNDEFENDED} model: {misuse.text}. {first} against:"
    return part(condition.where, gaps, lead, chosen_in_words(results, condition.model))


def chosen_in_words(results: RunResult, model: str) -> str:
    """What the recipe's `most_misused_task` stood for, and where its own rates left that to the order of the tasks."""
    seeds: dict[str, list[str]] = {}
    for one in (one for one in results.most_misused if one.model == model):
        highest = one.processed.get(one.task)
        ties = [name for name, rate in one.processed.items() if name != one.task and rate == highest]
        level = "" if highest is None else f" {format_number(highest)}"
        tied = f", in a tie with {', '.join(ties)} and named first" if ties else ""
        seeds.setdefault(f"{one.task}{level}{tied}", []).append(str(one.seed))
    tasks = "; ".join(f"for {what} (seed{'s' if len(of) > 1 else ''} {', '.join(of)})" for what, of in seeds.items())
    return f"By the training documents `{MOST_MISUSED_TASK}` stood {tasks}." if tasks else ""
