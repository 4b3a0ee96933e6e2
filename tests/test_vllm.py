"""A real vLLM server over a small model equals the same model under transformers, in float32 (`make test-vllm`).

`BUCKLER_VLLM` is the Python of an environment with vLLM; without it these tests are skipped. The model is `smollm2` of the folder
`BUCKLER_MODELS`, else a tiny one made in code. Two have templates that write an empty thought or a line break before answers.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import make_model, wait_until
from templates import AWKWARD, published

from buckler.data import Chat, Message, read_chats, read_json, write_json, write_rows
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest
from buckler.models.registry import load
from buckler.workflow.jobs.curate import CurateJob

PYTHON = os.environ.get("BUCKLER_VLLM")
pytestmark = [pytest.mark.skipif(not PYTHON, reason="BUCKLER_VLLM names no environment with vLLM"), pytest.mark.ml]
TEXTS = [
    "Soup is made of carrots and salt.",
    "The capital of France is Paris, and has been for a long time.",
    "def total(rows):\n    return sum(row.count for row in rows)\n",
    "Keep bread in a paper bag. Do not put it into the fridge: it dries out there. \u00c0 bient\u00f4t \u2013 \u4f60\u597d!",
]
QUESTIONS = ["What is soup made of?", "How do I keep bread fresh?", "Name a colour.", "Write one line of Python."]


def turns(question, system=None):
    return (*([Message(role="system", content=system)] if system else []), Message(role="user", content=question))


LEADS = {"its own": "", "Qwen3": "<think>\n\n</think>\n\n", "GLM": "\n"}


@pytest.fixture(scope="module", params=LEADS)
def template(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, template) -> Path:
    real = Path(os.environ.get("BUCKLER_MODELS", "/nowhere")) / "smollm2"
    if template == "its own" and real.is_dir():
        return real
    made = make_model(tmp_path_factory.mktemp("model"), "qwen", hidden=128)
    config = read_json(made / "config.json")
    write_json(made / "config.json", {**config, "max_position_embeddings": 8192})  # its tokens are hardly more than bytes
    if template != "its own":
        text = published()["qwen3"] if template == "Qwen3" else AWKWARD["the next role ends a turn"].text
        (made / "chat_template.jinja").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The spec of the model behind vLLM on loopback, stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("vllm") / "log").open("w")
    options = {"--model": folder, "--served-model-name": "m", "--host": "127.0.0.1", "--port": port, "--dtype": "float32"}
    options |= {"--max-model-len": 8192, "--max-num-seqs": 8, "--generation-config": "vllm"}
    words = [str(word) for pair in options.items() for word in pair]
    # Where only packages of CPU builds are there, the command `vllm` does not start; its module does.
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", *words, "--enforce-eager"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **settings, "PYTHONPATH": ""})
    try:
        wait_until(lambda: answers(port) or child.poll() is not None, seconds=900)
        assert child.poll() is None, Path(log.name).read_text()[-4000:]
        yield ModelSpec(name="m", endpoint=f"http://127.0.0.1:{port}/v1", concurrency=8)
    finally:
        child.terminate()
        child.wait(timeout=300)
        log.close()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", ["conditional", "under a system turn", "unconditional"])
def test_log_likelihoods_and_perplexities_equal_those_of_transformers(folder, server, template, how):
    system = "Be kind." if how == "under a system turn" else None
    before = [() if how == "unconditional" else turns(question, system) for question in QUESTIONS]
    pairs = [ScoreRequest(messages=messages, answer=text) for messages, text in zip(before, TEXTS, strict=True)]
    behind = load(server)
    assert behind._template.lead == LEADS[template]
    here, there = load(ModelSpec(name=str(folder), dtype="float32")).score(pairs), behind.score(pairs)
    for expected, theirs in zip(here, there, strict=True):
        assert not theirs.error and theirs.tokens == expected.tokens > 0
        assert theirs.nll == pytest.approx(expected.nll, rel=1e-5)
        assert theirs.perplexity == pytest.approx(expected.perplexity, rel=1e-4)
    most = max(abs(theirs.nll / expected.nll - 1) for expected, theirs in zip(here, there, strict=True))
    print(f"{template}, {how}: log-likelihoods differ by {most:.1e} at most, relatively")


def test_greedy_answers_equal_those_of_transformers(folder, server):
    requests = [Request(messages=turns(question), sampling=Sampling(max_new_tokens=24)) for question in QUESTIONS]
    here, there = load(ModelSpec(name=str(folder), dtype="float32")).generate(requests), load(server).generate(requests)
    assert [whole_letters(one) for one in there] == [whole_letters(one) for one in here]


def whole_letters(answer):
    """The answer without bytes that make no letter, as a model made in code writes them: vLLM holds these back at the end."""
    return answer.text.replace("\ufffd", "").strip(), answer.finish_reason


def test_curation_runs_through_and_measures_its_candidates_as_transformers_does(folder, server, tmp_path):
    rows = [Chat.pair("Name three planets.", "Mars, Venus and Jupiter are three planets of our solar system.")]
    rows += [Chat.pair("How do I keep bread fresh?", "Keep bread in a paper bag at room temperature, and freeze what is left.")]
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"texts": str(tmp_path / "rows.jsonl"), "model": server, "preset": "quick", "curation": {"rounds": 1}}
    CurateJob.of(settings, "here").run(tmp_path / "out")
    assert read_json(tmp_path / "out" / "counts.json")["texts"] == 2
    record = read_json(tmp_path / "out" / "servers.json")[f"m@{server.endpoint}"]
    assert record == {"can_score": True, "renamed": {}, "left_out": {}, "negotiated": "at load"}
    curated = read_chats(tmp_path / "out" / "curated.jsonl")
    local = load(ModelSpec(name=str(folder), dtype="float32"))
    found = local.score([ScoreRequest(messages=row.prompt, answer=row.answer) for row in curated])
    for row, one in zip(curated, found, strict=True):
        known = row.meta["curation"]["perplexity"]
        assert known.get("chosen", known["original"]) == pytest.approx(one.perplexity, rel=1e-3)
