"""Documents: whether the model processes malicious ones that it would not write, and what refusals on tasks repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from buckler.experiments.base import Experiment, Key, MeasuredArm, Pair
from buckler.experiments.cross_task.claims import cross_task_claims
from buckler.experiments.cross_task.figures import cross_task_figures
from buckler.experiments.cross_task.phrase_rule import phrase_rule, rule_examples
from buckler.experiments.cross_task.plan import plan_cross_task
from buckler.experiments.cross_task.recipe import CrossTaskRecipe
from buckler.experiments.cross_task.tables import FLAGS, cross_task_tables


def cross_task_pairs(groups: Mapping[Key, Sequence[MeasuredArm]]) -> Iterator[Pair]:
    """Mixed against single tasks at the same budget, and every arm against the undefended model."""
    for (first_key, first), (second_key, second) in combinations(groups.items(), 2):
        a, b = dict(first_key), dict(second_key)
        same = a["model"] == b["model"] and a["wording"] == b["wording"]
        if same and a["refusals"] in (b["refusals"], 0) and a["trained on"] != b["trained on"]:
            at = {"model": a["model"], "wording": a["wording"], "refusals": b["refusals"]}
            yield Pair(differ="trained on", at=at, first=first, second=second)


EXPERIMENT = Experiment(
    kind="cross_task",
    recipe=CrossTaskRecipe,
    plan=plan_cross_task,
    pairs=cross_task_pairs,
    claims=cross_task_claims,
    tables=cross_task_tables,
    figures=cross_task_figures,
    question="Does the model process malicious documents that it would not write, and do refusals on tasks prevent that?",
    flags=FLAGS,
    phrase_rule=phrase_rule,
    examples=rule_examples,
)
