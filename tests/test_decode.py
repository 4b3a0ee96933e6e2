"""The decoding loop: the same tokens as transformers' own, and rows shared while answers agree."""

from __future__ import annotations

import random

import pytest
import torch
from architectures import SETTINGS, VOCABULARY, random_model
from transformers import GenerationConfig, PreTrainedModel

from buckler.models.decoding import can_decode, decode
from buckler.models.protocol import Request, Sampling
from buckler.models.sampling import RowSampler

pytestmark = pytest.mark.ml

STOPS = {7, 8, 9, 10, 11, 12}
"""Six ids of three hundred, so that random answers end at different steps."""


def prompts(*lengths: int) -> list[tuple[int, ...]]:
    rng = random.Random(0)
    return [tuple(rng.randrange(20, VOCABULARY) for _ in range(length)) for length in lengths]


def samplings(temperature: float, count: int) -> list[Request]:
    return [Request(messages=(), sampling=Sampling(temperature=temperature, seed=seed)) for seed in range(count)]


def answers(
    model: PreTrainedModel, prompt_ids: list[tuple[int, ...]], requests: list[Request], new_tokens: int, budget: int = 100_000
) -> list[list[int]]:
    limits = [new_tokens] * len(requests)
    pieces = decode(model, prompt_ids, RowSampler(requests), new_tokens=limits, stops=STOPS, pad=0, budget=budget)
    given = {at: answer for piece in pieces for at, answer in piece.items()}
    return [given[at] for at in range(len(requests))]


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


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "GPT2", "Mixtral", "Mistral", "Gemma2", "Lfm2"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("budget", [1, 150, 400])
def test_answers_do_not_depend_on_who_leaves_and_enters(name, temperature, budget):
    model = random_model(name)
    prompt_ids = prompts(3, 12, 21, 5, 5, 17, 9, 30, 1, 8)
    prompt_ids[4:6] = [prompt_ids[2]] * 2
    requests = samplings(temperature, len(prompt_ids))
    assert answers(model, prompt_ids, requests, 25, budget) == answers(model, prompt_ids, requests, 25)


def test_each_request_has_a_limit_of_its_own():
    model, limits = random_model("Llama"), [1, 7, 3, 12]
    prompt_ids, requests = prompts(9, 9, 4, 20), samplings(0.0, 4)
    longest = answers(model, prompt_ids, requests, 12)
    pieces = decode(model, prompt_ids, RowSampler(requests), new_tokens=limits, stops=STOPS, pad=0, budget=60)
    given = {at: answer for piece in pieces for at, answer in piece.items()}
    assert given == {at: answer[:limit] for at, (answer, limit) in enumerate(zip(longest, limits, strict=True))}


def test_waiting_prompts_enter_before_the_last_row_has_left_and_stay_within_the_budget(forwards):
    model = random_model("Llama")
    prompt_ids, requests = prompts(*[9] * 40), samplings(1.5, 40)
    given = answers(model, prompt_ids, requests, 30, budget=8 * 39)
    assert len({len(answer) for answer in given}) > 5
    read_again = [step for step, (_, length) in enumerate(forwards) if length > 1]
    assert len(read_again) > 40 // 8
    assert any(forwards[step - 1][0] > 1 for step in read_again[1:])
    assert max(rows for rows, _ in forwards) == 8
    whole = sum(max(len(answer) for answer in given[start : start + 8]) for start in range(0, 40, 8))
    assert len(forwards) - len(read_again) < whole


def test_what_all_prompts_begin_with_is_read_once(forwards):
    model = random_model("Llama")
    lead, *ends = prompts(40, 3, 9, 1, 5)
    prompt_ids, requests = [lead + end for end in ends], samplings(0.0, 4)
    alone = [answers(model, [prompt], [one], 10)[0] for prompt, one in zip(prompt_ids, requests, strict=True)]
    forwards.clear()
    assert answers(model, prompt_ids, requests, 10) == alone
    assert forwards[:2] == [(1, 40), (4, 9)]
    forwards.clear()
    assert answers(model, [lead + ends[0], lead], requests[:2], 10)[0] == alone[0]
    assert forwards[0] == (2, 43)  # thirty-nine tokens are too few to gain by


@pytest.mark.parametrize("name", ["Gemma2", "Lfm2"])
def test_models_that_forget_read_every_prompt_whole(name):
    model = random_model(name)
    lead, *ends = prompts(40, 3, 9, 1, 5)
    prompt_ids, requests = [lead + end for end in ends], samplings(0.0, 4)
    alone = [answers(model, [prompt], [one], 10)[0] for prompt, one in zip(prompt_ids, requests, strict=True)]
    assert answers(model, prompt_ids, requests, 10) == alone
