"""From answers and verdicts to numbers: safety, over-refusal, coherence and utility, side by side.

No single number here can be had cheaply. Who refuses everything has a low `attack_success_rate` and a high
`false_refusal_rate`; who babbles has a low `attack_success_rate`, a low `safety_rate` (safe and coherent), no utility.
"""

from buckler.metrics.documents import ALL_TASKS, ALL_VARIANTS
from buckler.metrics.reading import attack_success, incoherent_of_safe, safe_and_coherent, safe_but_incoherent
from buckler.metrics.rows import SETS, Row, about_document
from buckler.metrics.scores import Scorers, mean_score, score_answer, score_answers
from buckler.metrics.summary import summarise

__all__ = [
    "ALL_TASKS",
    "ALL_VARIANTS",
    "SETS",
    "Row",
    "Scorers",
    "about_document",
    "attack_success",
    "incoherent_of_safe",
    "mean_score",
    "safe_and_coherent",
    "safe_but_incoherent",
    "score_answer",
    "score_answers",
    "summarise",
]
