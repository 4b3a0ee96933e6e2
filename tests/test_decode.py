"""The decoding loop: the same tokens as transformers' own, and rows shared while answers agree."""

from __future__ import annotations

import random

import pytest
import torch
from architectures import SETTINGS, VOCABULARY, random_model
from transformers import GenerationConfig, PreTrainedModel

from buckler.models.decoding import RowSampler, can_decode, decode
from buckler.models.protocol import Request, Sampling

pytestmark = pytest.mark.ml

STOPS = {7, 8, 9, 10, 11, 12}
"""Six ids of three hundred, so that random answers end at different steps."""


def prompts(*lengths: int) -> list[tuple[int, ...]]:
    rng = random.Random(0)
    return [tuple(rng.randrange(20, VOCABULARY) for _ in range(length)) for length in lengths]


def samplings(temperature: float, count: int) -> list[Request]:
    return [Request(messages=(), sampling=Sampling(temperature=temperature, seed=seed)) for seed in range(count)]


def answers(
    model: PreTrainedModel, prompt_ids: list[tuple[int, ...]], requests: list[Request], new_tokens: int
) -> list[list[int]]:
    return decode(model, prompt_ids, RowSampler(requests), new_tokens=new_tokens, stops=STOPS, pad=0)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and length of everything that goes through a Llama."""
    from transformers import LlamaForCausalLM

    seen: list[tuple[int, int]] = []
    own = LlamaForCausalLM.forward

    def spied(self, *, input_ids, attention_mask=None, position_ids=None, past_key_values=None, logits_to_keep=0, **rest):
        seen.append(tuple(input_ids.shape))
        places = {"attention_mask": attention_mask, "position_ids": position_ids}
        return own(self, input_ids=input_ids, past_key_values=past_key_values, logits_to_keep=logits_to_keep, **places, **rest)

    monkeypatch.setattr(LlamaForCausalLM, "forward", spied)
    return seen


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "Mamba"])
def test_greedy_answers_are_transformers_own_and_draws_do_not_depend_on_the_batch(name):
    model = random_model(name)
    assert can_decode(model)
    prompt_ids = prompts(3, 12, 21)
    prompt_ids.append(prompt_ids[1])
    model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=sorted(STOPS))
    for prompt, given in zip(prompt_ids, answers(model, prompt_ids, samplings(0.0, 4), 16), strict=True):
        ids = torch.tensor([prompt])
        row = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        assert given == row[0, len(prompt) :].tolist()
    drawn = samplings(1.0, 4)
    together = answers(model, prompt_ids, drawn, 16)
    assert together == [answers(model, [p], [r], 16)[0] for p, r in zip(prompt_ids, drawn, strict=True)]
    assert together[1] != together[3]


@pytest.mark.parametrize("name", ["Mamba"])
def test_models_whose_memory_has_no_rows_to_choose_are_known(name):
    assert not can_decode(random_model(name))


def test_each_prompt_is_read_once_and_equal_answers_share_a_row(forwards):
    model = random_model("Llama")
    first, second = prompts(9, 9)
    given = answers(model, [first] * 5 + [second] * 5, samplings(0.0, 10), 6)
    assert given == [given[0]] * 5 + [given[5]] * 5
    assert forwards[0] == (2, 9)
    assert all(rows <= 2 for rows, _ in forwards)


def test_rows_are_as_many_as_the_different_answers_still_going(forwards):
    model = random_model("Llama")
    given = answers(model, prompts(9) * 40, samplings(1.5, 40), 30)
    assert len({len(answer) for answer in given}) > 5
    for step, (rows, length) in enumerate(forwards[1:], start=1):
        going = {tuple(answer[:step]) for answer in given if len(answer) > step}
        assert (rows, length) == (len(going), 1)


def test_answers_end_with_a_stop_or_at_the_limit():
    model = random_model("Llama")
    given = answers(model, prompts(4, 9) * 20, samplings(1.5, 40), 12)
    for answer in given:
        assert not STOPS & set(answer[:-1])
        assert answer[-1] in STOPS or len(answer) == 12
    assert {answer[-1] in STOPS for answer in given} == {True, False}
