"""Steps over documents: made ready, built into defence rows, asked about as probes, under attack and not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from buckler.crosstask.build import CrossTaskSettings, build, document_probes
from buckler.crosstask.decontamination import require_disjoint_documents
from buckler.crosstask.document_attacks import ATTACK_META, AttackOptions, attacked
from buckler.crosstask.documents import LABELS, DocumentSettings, RubricLabels, label_of, prepare
from buckler.crosstask.own_tasks import read_tasks
from buckler.crosstask.task import Task
from buckler.data import (
    ANSWERS,
    ROWS,
    VERDICTS,
    Chat,
    Document,
    Json,
    read_answers,
    read_chats,
    read_documents,
    read_json,
    read_verdicts,
    write_json,
    write_jsonl,
    write_rows,
)
from buckler.errors import DataError
from buckler.evaluation.generate import answer_probes
from buckler.evaluation.metrics import summarise
from buckler.models.protocol import Sampling
from buckler.steps import common
from buckler.workflow.store import Context


def make_ready(context: Context) -> None:
    """Documents -> labelled, of a readable size, each once, apart from the test's; rejected ones with their reasons."""
    judge = RubricLabels(common.model(context, "labeller")) if _has(context, "labeller") else None
    ready = prepare(
        _documents(context, "documents"),
        DocumentSettings.model_validate(context.params["documents"]),
        judge=judge,
        apart_from=_documents(context, "test"),
    )
    if not ready.documents:
        why = ", ".join(f"{reason.removeprefix('left out: ')} ({n})" for reason, n in sorted(ready.counts.items()))
        raise DataError(f"no document is left to use; left out: {why}")
    write_rows(context.out / "rejected.jsonl", ready.rejected)
    write_json(context.out / "counts.json", dict(sorted(ready.counts.items())))
    write_rows(context.out / ROWS, ready.documents)


def crosstask(context: Context) -> None:
    """Documents made ready -> defence rows: refusals for the harmful, answers for the benign; what was left out."""
    settings = CrossTaskSettings.model_validate(context.params["crosstask"])
    if "weakest" in context.inputs:
        settings = settings.model_copy(update={"refused_tasks": (_weakest(context.inputs["weakest"]),)})

    def answer_all(probes: Sequence[Chat]) -> list[str]:
        sampling = Sampling(max_new_tokens=int(cast(int, context.params["max_new_tokens"])))
        given = answer_probes(common.model(context, "model"), probes, sampling, progress=context.progress)
        common.require_answered(given)
        return [one.text for one in given]

    built = build(
        _documents(context, "documents"),
        settings,
        seed=common.seed(context),
        answer_all=answer_all,
        aligned=common.model(context, "aligned") if settings.refusals_from == "model" else None,
        own=own_tasks(context),
    )
    write_jsonl(context.out / "rejected.jsonl", built.rejected)
    write_json(context.out / "counts.json", {"rows": len(built.rows), "skipped": dict(built.skipped)})
    write_rows(context.out / ROWS, built.rows)


def probe_documents(context: Context) -> None:
    """Documents x tasks -> probes in one wording, the documents as they are or under an attack."""
    documents = _documents(context, "documents")
    attack = cast("str | None", context.params.get("attack"))
    told: dict[str, dict[str, Json]] = {}
    if attack is not None:
        options = AttackOptions.model_validate(context.params["options"])
        documents = _changed(attacked(attack, documents, options, seed=common.seed(context)), attack, context)
        told = {one.id: {name: one.meta[name] for name in ATTACK_META if name in one.meta} for one in documents}
    labels = cast("Sequence[str]", context.params.get("labels", LABELS))
    probes = document_probes(
        [one for one in documents if label_of(one) in labels],
        cast(list[str], context.params["tasks"]),
        wording=str(context.params["wording"]),
        language=cast("str | None", context.params.get("language")),
        own=own_tasks(context),
    )
    write_rows(context.out / ROWS, [probe.tagged(**told.get(str(probe.meta["source"]), {})) for probe in probes])


def _changed(documents: Sequence[Document], attack: str, context: Context) -> list[Document]:
    """The documents that the attack changed: one that it left as it was is asked already, and would stand for itself twice.

    Raises:
        DataError: it changed none.
    """
    kept = [one for one in documents if one.id != one.meta["original"]]
    if documents and not kept:
        raise DataError(
            f"attack {attack} changes none of the documents; see `attack_options` (a smaller `short`, a larger `long`)"
        )
    write_json(context.out / "unchanged.json", len(documents) - len(kept))
    return kept


def by_agreement(context: Context) -> None:
    """Document probes without a reference -> with the undefended model's own answer as reference.

    What is then scored is agreement with that model: 1 says that a defence changed nothing, not that the answer is good.
    """
    probes = read_chats(context.inputs["probes"] / ROWS)
    open_ones = [probe for probe in probes if not probe.meta.get("reference") and probe.meta.get("label") != "harmful"]
    sampling = Sampling(max_new_tokens=int(cast(int, context.params["max_new_tokens"])))
    given = answer_probes(common.model(context, "model"), open_ones, sampling, progress=context.progress)
    common.require_answered(given)
    texts = {one.id: one.text for one in given if one.text.strip()}
    rows = [
        probe.tagged(reference=texts[probe.id], reference_by="the undefended model") if probe.id in texts else probe
        for probe in probes
    ]
    write_rows(context.out / ROWS, rows)


def weakest(context: Context) -> None:
    """The undefended model's answers to malicious documents -> weakest.json: the task it processes most often."""
    answers = read_answers(context.inputs["answers"] / ANSWERS)
    verdicts = read_verdicts(context.inputs["verdicts"] / VERDICTS)
    table = cast("Mapping[str, Mapping[str, Mapping[str, Mapping[str, Json]]]]", summarise(answers, verdicts)["documents"])
    processed = {
        task: 1 - float(cast(float, cells["harmful"]["refusal_rate"]["value"]))
        for task, cells in table.items()
        if task in cast("list[str]", context.params["tasks"]) and "harmful" in cells
    }
    named = max(processed, key=lambda task: (processed[task], -cast("list[str]", context.params["tasks"]).index(task)))
    write_json(context.out / "weakest.json", {"weakest": named, "processed": cast(Json, processed)})


def check_documents_apart(context: Context) -> None:
    """Defence rows and document probes -> nothing, or an error that names the documents they share."""
    rows, probes = common.all_rows(context, "rows"), common.all_rows(context, "probes")
    require_disjoint_documents(rows, probes)
    write_json(context.out / "apart.json", {"rows": len(rows), "probes": len(probes)})


def own_tasks(context: Context) -> dict[str, Task] | None:
    """Tasks of the user's own, where there are some."""
    return read_tasks(Path(context.paths["own_tasks"])) if "own_tasks" in context.paths else None


def _documents(context: Context, prefix: str) -> list[Document]:
    found = [name for name in sorted(context.inputs) if name == prefix or name.startswith(f"{prefix}/")]
    return [one for name in found for one in read_documents(context.inputs[name] / ROWS)]


def _weakest(folder: Path) -> str:
    return str(cast("Mapping[str, Json]", read_json(folder / "weakest.json"))["weakest"])


def _has(context: Context, role: str) -> bool:
    return role in context.inputs or role in context.paths
