"""Curation as steps: the same bytes for any batch size, number of shards or kill, and through every shape of chat template."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from buckler.curation.record import COUNTS, REJECTED
from buckler.curation.settings import CurateSettings
from buckler.data import ROWS, Chat, each_chat, read_json, read_jsonl, write_rows
from buckler.errors import DataError
from buckler.models.protocol import ModelSpec
from buckler.progress import no_progress
from buckler.workflow import curation as steps
from buckler.workflow.step import NoSettings, Run

pytestmark = pytest.mark.ml
SETTINGS = CurateSettings(
    rounds=3, beam=2, temperatures=(0.4, 0.8), top_ps=(0.8, 1.0), helpfulness="local", seed_words="miniature", max_new_tokens=48
)


def context(folder: Path, texts: list[Chat], spec: ModelSpec, settings: CurateSettings, progress=no_progress, **params) -> Run:
    write_rows(folder / "texts" / ROWS, texts)
    return Run(
        settings=steps.CurateStep(curation=settings, seed=3, keyword="6", **params),
        inputs={"texts": folder / "texts"},
        outside={"model": spec.model_dump_json()},
        out=folder / "out",
        shared=folder / "shared",
        progress=progress,
    )


def curated(folder: Path, texts: list[Chat], spec: ModelSpec, settings: CurateSettings = SETTINGS, **params) -> dict[str, bytes]:
    made = context(folder, texts, spec, settings, **params)
    steps.curate(made)
    return files(made.out)


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (ROWS, REJECTED, COUNTS)}


@pytest.fixture(scope="module")
def texts() -> list[Chat]:
    from buckler.miniature import sets

    return sets.chats("commonsense", count=7, seed=5, split="train")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, texts) -> dict[str, bytes]:
    return curated(tmp_path_factory.mktemp("plain"), texts, ModelSpec(name="miniature"))


@pytest.mark.parametrize("rows_a_batch", [1, 7, 64])
def test_the_same_bytes_for_any_batch_size(tmp_path, texts, plain, rows_a_batch):
    longest = 160  # tokens of a prompt of these texts and its revision
    assert curated(tmp_path, texts, ModelSpec(name="miniature", batch_tokens=rows_a_batch * longest)) == plain


def test_the_same_bytes_for_any_block_and_any_order(tmp_path, texts, plain, monkeypatch):
    monkeypatch.setattr(steps, "BLOCK", 2)
    assert curated(tmp_path, texts[::-1], ModelSpec(name="miniature")) == plain


@pytest.mark.parametrize("shards", [2, 3])
def test_the_same_bytes_for_any_number_of_shards(tmp_path, texts, plain, shards):
    parts = {}
    for at in range(shards):
        curated(tmp_path / str(at), texts, ModelSpec(name="miniature"), shard=[at, shards])
        parts[f"part/{at:03}"] = tmp_path / str(at) / "out"
    joined = Run(settings=NoSettings(), inputs=parts, outside={}, out=tmp_path / "joined", shared=tmp_path, progress=no_progress)
    steps.gather(joined)
    assert files(tmp_path / "joined") == plain


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_killed_in_any_round_and_run_again_it_ends_with_the_same_bytes(tmp_path, texts, plain, turn, monkeypatch):
    monkeypatch.setattr(steps, "BLOCK", 4)

    def die(what: str, done: int, total: int) -> None:
        if f"5-7 of 7, round {turn}" in what:  # in the second block
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        steps.curate(context(tmp_path, texts, ModelSpec(name="miniature"), SETTINGS, die))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "out" / ROWS).exists()
    kept = {path.name for path in (tmp_path / "out" / "blocks").iterdir()}
    assert kept == {"00000000"}
    assert curated(tmp_path, texts, ModelSpec(name="miniature")) == plain


OPEN = {"gates": dict.fromkeys(CurateSettings().gates.model_dump()), "helpfulness_floor": 0.0}


def test_every_shape_of_chat_template_goes_through_the_whole(tmp_path, shaped):
    texts = [Chat.pair("What is it?", "A pot of soup."), Chat.pair("Who is he?", "The baker.")]
    settings = CurateSettings.model_validate(
        {**SETTINGS.model_dump(), **OPEN, "rounds": 2, "max_new_tokens": 12, "seed_words": "default"}
    )
    curated(tmp_path, texts, ModelSpec(name=str(shaped)), settings)
    rows = list(each_chat(tmp_path / "out" / ROWS))
    records = [row.meta["curation"] for row in rows]
    assert len(rows) == 2 and all(one["candidates"] >= 4 and one["perplexity"]["chosen"] > 1 for one in records)
    assert all("<think>" not in row.answer for row in rows)


def test_texts_that_can_not_be_curated_are_an_error_that_says_why(tmp_path):
    long = Chat.pair("Why?", "the river runs " * 3000)
    with pytest.raises(DataError, match=r"none of the 1 texts could be curated; the first: too long for the model by \d+ tokens"):
        curated(tmp_path, [long], ModelSpec(name="miniature"))


PUBLISHED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.mark.data
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published sample files are not at hand")
@pytest.mark.parametrize(
    "name",
    [
        "dolly/databricks-dolly-15k-subset_200.jsonl",
        "commonsenseqa/test_rand_split_no_answers.jsonl",
        "comve/subtaskC_dev_data.csv",
    ],
)
def test_published_rows_are_curated_with_a_card_and_their_rejections(tmp_path, name):
    from buckler.workflow.jobs.curate import CurateJob

    changes = {"rounds": 1, "seed_words": "default", "max_new_tokens": 96}
    settings = CurateSettings.model_validate({**SETTINGS.model_dump(), **changes})
    CurateJob(texts=PUBLISHED / name, limit=12, curation=settings, licence="cc-by-sa-3.0").run(tmp_path / "out")
    counts = read_json(tmp_path / "out" / COUNTS)
    rows, rejected = list(each_chat(tmp_path / "out" / "curated.jsonl")), list(read_jsonl(tmp_path / "out" / REJECTED))
    assert counts["texts"] == 12 and len(rows) == counts.get("revised", 0) + counts["kept original"] > 0
    assert rejected and "license: cc-by-sa-3.0" in (tmp_path / "out" / "README.md").read_text()


def test_a_faulty_server_rewrites_and_measures_and_each_answer_is_paid_once(tmp_path, texts):
    from server import Server, Vllm

    from buckler import miniature
    from buckler.workflow.jobs.curate import CurateJob

    def reply(body):
        given = body["messages"][-1]["content"].rsplit("Answer: ", 1)[-1]
        return f"Take care. {given}" if body["temperature"] < 0.7 else (422, {"error": {"message": "too hot"}})

    write_rows(tmp_path / "texts.jsonl", texts)
    settings = CurateSettings.model_validate({**SETTINGS.model_dump(), "rounds": 1, "gates": {"perplexity_ratio": None}})
    with Server(reply, share=0.2, vllm=Vllm(miniature.path("miniature"))).up() as server:
        spec = ModelSpec(name="m", endpoint=server.url, retries=8, concurrency=4)
        CurateJob(texts=tmp_path / "texts.jsonl", curation=settings, model=spec).run(tmp_path / "out")
    counts = read_json(tmp_path / "out" / COUNTS)
    rejected = [row for _, row in read_jsonl(tmp_path / "out" / REJECTED)]
    assert counts["texts"] == counts["revised"] == len(texts)
    assert counts["rejected: the model did not answer"] == 2 * len(texts) == len(rejected), "the hot half of the grid"
    assert all("too hot" in row["reason"] and row["temperature"] == 0.8 for row in rejected)
    assert set(server.paid.values()) == {1} and sum(server.faulty.values()) > 5
