"""Likelihoods: against a plain computation in double precision, within the bound on logits, and nothing read twice."""

from __future__ import annotations

import copy
import functools
import random

import pytest
import torch
from architectures import SETTINGS, VOCABULARY, random_model
from transformers import LlamaForCausalLM, LlamaModel, PreTrainedModel

from buckler.models import scoring
from buckler.models.scoring import Row, Scorer

pytestmark = pytest.mark.ml


def ids(rng: random.Random, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(20, VOCABULARY) for _ in range(length))


def some_rows() -> list[Row]:
    """Short and long, alone and many after one context, some of them twice."""
    rng = random.Random(0)
    alone = [Row(ids(rng, before), ids(rng, after)) for before, after in ((1, 1), (1, 9), (20, 3), (3, 40))]
    contexts = [ids(rng, length) for length in (30, 22, 44)]
    after_one = [Row(context, ids(rng, length)) for context in contexts for length in (1, 2, 5, 9)]
    return [*alone, *after_one, *alone]


def plainly(model: PreTrainedModel, row: Row) -> float:
    """One row in double precision, the logarithm of the softmax by hand."""
    logits = model(input_ids=torch.tensor([row.context + row.answer])).logits[0].double()
    nll = 0.0
    for at, token in enumerate(row.answer, start=len(row.context) - 1):
        shifted = logits[at] - logits[at].max()
        nll -= float(shifted[token] - shifted.exp().sum().log())
    return nll


def sums_of(scorer: Scorer, rows: list[Row], budget: int) -> dict[Row, float]:
    return {row: nll for piece in scorer.sums(rows, budget) for row, nll in piece.items()}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ids the layers of a Llama read, each time."""
    seen: list[int] = []
    own = LlamaModel.forward

    def spied(self, input_ids=None, **rest):
        seen.append(input_ids.numel())
        return own(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(LlamaModel, "forward", spied)
    return seen


@pytest.mark.parametrize("budget", [60, 10_000])
@pytest.mark.parametrize("name", SETTINGS)
@torch.inference_mode()
def test_sums_equal_a_plain_computation(name, budget):
    model = random_model(name)
    exact = copy.deepcopy(model)
    if name != "Mixtral":  # torch multiplies grouped experts in single precision only
        exact.double()
    rows = some_rows()
    found = sums_of(Scorer(model, pad=0), rows, budget)
    assert set(found) == set(rows)
    for row, nll in found.items():
        assert nll == pytest.approx(plainly(exact, row), rel=1e-5)


def test_no_more_logits_are_made_at_once_than_the_bound(monkeypatch):
    monkeypatch.setattr(scoring, "LOGITS", 10 * VOCABULARY)
    model = random_model("Llama")
    made: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda module, given, logits: made.append(logits.numel()))
    rng = random.Random(1)
    rows = [Row(ids(rng, 30), ids(rng, length)) for length in range(1, 60)]
    sums_of(Scorer(model, pad=0), rows, 10_000)
    assert max(made) == 10 * VOCABULARY
    assert sum(made) >= VOCABULARY * sum(len(row.answer) for row in rows)


def test_equal_rows_are_scored_once(read):
    rng = random.Random(2)
    rows = [Row(ids(rng, 9), ids(rng, 4)) for _ in range(3)]
    scorer = Scorer(random_model("Llama"), pad=0)
    sums_of(scorer, rows, 10_000)
    read.clear()
    sums_of(scorer, rows * 10, 10_000)
    assert sum(read) == 3 * (9 + 4 - 1)


def test_a_long_context_of_many_answers_is_read_once(read):
    rng = random.Random(3)
    context = ids(rng, 100)
    rows = [Row(context, ids(rng, 4)) for _ in range(8)]
    scorer = Scorer(random_model("Llama"), pad=0)
    sums_of(scorer, rows, 10_000)
    read.clear()
    sums_of(scorer, rows, 10_000)
    assert sum(read) == 99 + 8 * 4


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Cohere", "Granite"])
def test_the_models_own_forward_runs_once_for_comparison(name, monkeypatch):
    model = random_model(name)
    own, ran = model.forward, []

    @functools.wraps(own)
    def spied(**given):
        ran.append(given)
        return own(**given)

    monkeypatch.setattr(model, "forward", spied)
    scorer = Scorer(model, pad=0)
    for _ in range(2):
        sums_of(scorer, some_rows(), 10_000)
    assert len(ran) == 1


class Louder(LlamaForCausalLM):
    """A model that does something to its logits of which its configuration says nothing."""

    def forward(self, **given):
        output = super().forward(**given)
        output.logits = output.logits * 1.5
        return output


@torch.inference_mode()
def test_a_model_with_something_unknown_after_its_head_is_scored_by_its_own_forward():
    plain = random_model("Llama")
    model = Louder(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    rows = some_rows()
    found = sums_of(Scorer(model, pad=0), rows, 10_000)
    for row in rows:
        assert found[row] == pytest.approx(plainly(model, row), rel=1e-5)
        assert found[row] != pytest.approx(plainly(plain, row), rel=1e-3)
