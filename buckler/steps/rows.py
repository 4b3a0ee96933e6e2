"""Steps that draw, mix and filter rows: draw -> attack -> screen, and rows taken as they are."""

from __future__ import annotations

from typing import cast

from buckler.data import ROWS, read_chats, write_json, write_rows
from buckler.data.near_duplicates import require_disjoint
from buckler.evaluation.probes import in_set
from buckler.finetuning.attacks import AttackSettings, customization
from buckler.finetuning.defenses import Screened, perplexity_drop, random_drop
from buckler.models.protocol import ScoreRequest
from buckler.steps import common
from buckler.workflow.sources import read_chats as chats_of
from buckler.workflow.sources import read_documents as documents_of
from buckler.workflow.store import Context


def draw(context: Context) -> None:
    """Chats of a source -> rows.jsonl"""
    write_rows(context.out / ROWS, chats_of(common.source(context)))


def draw_documents(context: Context) -> None:
    """Documents of a source -> rows.jsonl"""
    write_rows(context.out / ROWS, documents_of(common.source(context)))


def as_probes(context: Context) -> None:
    """Rows -> probes of a set: their answers go, and what a good model does with them is written down."""
    name = cast("str | None", context.params["set"])
    write_rows(context.out / ROWS, [in_set(row, name) for row in read_chats(context.inputs["rows"] / ROWS)])


def attack(context: Context) -> None:
    """Benign and harmful rows -> the customer's rows under an attack."""
    harmful = read_chats(context.inputs["harmful"] / ROWS) if "harmful" in context.inputs else []
    rows = customization(
        AttackSettings.model_validate(context.params["attack"]),
        benign=read_chats(context.inputs["benign"] / ROWS),
        harmful=harmful,
        seed=common.seed(context),
    )
    write_rows(context.out / ROWS, rows)


def as_defence(context: Context) -> None:
    """Rows taken as they are for a defence: the uncurated control, and plain safety rows."""
    count = context.params.get("count")
    rows = read_chats(context.inputs["rows"] / ROWS)
    kept = rows if count is None else rows[: int(cast(int, count))]
    write_rows(context.out / ROWS, [row.tagged(part=str(context.params["part"])) for row in kept])


def screen(context: Context) -> None:
    """The customer's rows through a filter -> kept rows, dropped rows with reasons."""
    rows = read_chats(context.inputs["rows"] / ROWS)
    share = float(cast(float, context.params["share"]))
    found: Screened
    if context.params["filter"] == "perplexity_drop":
        model = common.model(context, "model")
        likelihoods = model.score([ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in rows])
        common.require_measured(likelihoods)
        found = perplexity_drop(rows, [one.perplexity for one in likelihoods], share)
    else:
        found = random_drop(rows, share, seed=common.seed(context))
    write_rows(context.out / "dropped.jsonl", found.dropped)
    write_rows(context.out / ROWS, found.kept)


def check_apart(context: Context) -> None:
    """Training rows and probes -> nothing, or an error that names the rows they share."""
    rows, probes = common.all_rows(context, "rows"), common.all_rows(context, "probes")
    require_disjoint(rows, probes)
    write_json(context.out / "apart.json", {"rows": len(rows), "probes": len(probes)})
