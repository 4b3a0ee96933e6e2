"""The keys that version 0.1.0 gave to steps, so that work it finished is found and not done again.

0.1.0 hashed the module of a step's function, its version and its parameters under the names they had then. A step that is new
since then, or whose version was raised since then, has no finished work there: its former key meets no folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buckler.data import Json

Params = dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """How 0.1.0 named and hashed a step."""

    function: str
    """`module:function` of then, below `buckler.steps`."""
    params: Callable[[Params], Params] = lambda params: params
    """From today's parameters to those of then."""

    @property
    def name(self) -> str:
        """The name of then: that of the function."""
        return self.function.partition(":")[2].replace("_", "-")


def former_parts(name: str, version: int, params: Mapping[str, Json], digests: Mapping[str, str]) -> tuple[str, dict[str, Json]]:
    """What 0.1.0 called a step, and what it hashed of it beside its inputs.

    Args:
        name: The step's name.
        version: The step's version.
        params: Its parameters.
        digests: The content hash of each outside thing it uses.
    """
    former = FORMER.get(name)
    if former is None:
        return name, {"function": "", "version": version, "params": params}
    known = {_OUTSIDE.get(one, f"{one}_identity"): digest for one, digest in digests.items() if one not in _IN_PARAMS}
    function = f"buckler.steps.{former.function}"
    return former.name, {"function": function, "version": version, "params": {**former.params({**params}), **known}}


_OUTSIDE = {"own_tasks": "own_tasks", "tasks": "folder"}
"""What outside things that are no models were called among the parameters."""
_IN_PARAMS = ("source", "judge")
"""Outside things whose content the parameters told already."""


def _only_set(*names: str) -> Callable[[Params], Params]:
    """Parameters of these names were left out where they were None."""
    return lambda params: {name: value for name, value in params.items() if value is not None or name not in names}


def _answer(params: Params) -> Params:
    limit = params.pop("max_new_tokens", None)
    turns = ("two_turns", "language") if params.get("two_turns") is None else ()
    return {"sampling": {"max_new_tokens": limit}, **{name: value for name, value in params.items() if name not in turns}}


FORMER: dict[str, Former] = {
    "draw": Former(function="rows:draw"),
    "draw-documents": Former(function="rows:draw_documents"),
    "as-probes": Former(function="rows:as_probes"),
    "attack": Former(function="rows:attack"),
    "as-defence": Former(function="rows:as_defence"),
    "filter-rows": Former(function="rows:screen"),
    "decontaminate": Former(function="rows:check_apart"),
    "under-prompt": Former(function="attacker:under_prompt"),
    "prepare-documents": Former(function="documents:make_ready"),
    "crosstask": Former(function="documents:crosstask"),
    "probe-documents": Former(function="documents:probe_documents", params=_only_set("labels", "attack", "options", "seed")),
    "reference-answers": Former(function="documents:by_agreement"),
    "most-misused-task": Former(function="documents:weakest"),
    "decontaminate-documents": Former(function="documents:check_documents_apart"),
    "curate": Former(function="curation:curate", params=_only_set("shard")),
    "gather": Former(function="curation:gather"),
    "sample": Former(function="curation:sample"),
    "compromised": Former(function="curation:compromised"),
    "train": Former(function="models:train"),
    "answer": Former(function="models:answer", params=_answer),
    "base-perplexity": Former(function="models:under_base"),
    "judge": Former(function="models:judge"),
    "summarise-run": Former(function="models:summarise_run"),
    "utility": Former(function="models:utility"),
    "perplexities": Former(function="models:perplexities"),
    "official": Former(function="official:official"),
}
"""By the step's name today."""
