"""The steps, spelled: one function for each function under `buckler.steps`, so that recipes and commands name the same work."""

from buckler.plan.spell.common import Model, spelled
from buckler.plan.spell.curation import Curation, compromised, curate, curation_sample
from buckler.plan.spell.documents import (
    Asking,
    OwnTasks,
    by_agreement,
    crosstask,
    document_probes,
    documents_apart,
    made_ready,
    weakest,
)
from buckler.plan.spell.models import Measured, Turns, judged, measured, official, perplexities, train, under_base, utility
from buckler.plan.spell.rows import apart, as_defence, attack, defence_rows, probe_set, rows, screen

__all__ = [
    "Asking",
    "Curation",
    "Measured",
    "Model",
    "OwnTasks",
    "Turns",
    "apart",
    "as_defence",
    "attack",
    "by_agreement",
    "compromised",
    "crosstask",
    "curate",
    "curation_sample",
    "defence_rows",
    "document_probes",
    "documents_apart",
    "judged",
    "made_ready",
    "measured",
    "official",
    "perplexities",
    "probe_set",
    "rows",
    "screen",
    "spelled",
    "train",
    "under_base",
    "utility",
    "weakest",
]
