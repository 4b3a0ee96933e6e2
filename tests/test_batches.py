"""Batches: a step holds the same rows whoever shares it, and rows that lie side by side do not see each other."""

from __future__ import annotations

import pytest
import torch

from buckler.errors import ConfigError
from buckler.finetuning.batches import (
    Batches,
    TrainRow,
    first_fit,
    micro_batches,
    packed,
    require_separate_rows,
    side_by_side,
    steps_of,
)

pytestmark = pytest.mark.ml


def a_row(length: int, first: int = 5, weight: float = 0.5) -> TrainRow:
    supervised = [at >= length // 2 and at > 0 for at in range(length)]
    return TrainRow(ids=list(range(first, first + length)), supervised=supervised, weight=weight)


def test_every_epoch_is_another_permutation_and_a_part_of_an_epoch_is_a_part_of_its_steps():
    steps = steps_of(10, batch_size=4, epochs=2.5, seed=0)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2, 4, 4]
    first, second = ([row for step in steps[at : at + 3] for row in step] for at in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert steps == steps_of(10, batch_size=4, epochs=2.5, seed=0) != steps_of(10, batch_size=4, epochs=2.5, seed=1)


@pytest.mark.parametrize(("accumulation", "processes"), [(1, 1), (3, 1), (1, 2), (2, 2), (4, 1)])
def test_micro_batches_of_all_processes_are_the_step_and_none_is_missing_or_twice(accumulation, processes):
    steps = steps_of(11, batch_size=4, epochs=2, seed=0)
    plans = [
        micro_batches(steps, accumulation=accumulation, processes=processes, process=process) for process in range(processes)
    ]
    assert {len(plan) for plan in plans} == {len(steps) * accumulation}, "processes stay in step"
    for number, step in enumerate(steps):
        batches = [micro for plan in plans for micro in plan[number * accumulation : (number + 1) * accumulation]]
        assert sorted(row for micro in batches if micro.counts for row in micro.rows) == sorted(step)
        assert {micro.of_step for micro in batches} == {len(step)}
        sizes = [len(micro.rows) if micro.counts else 0 for micro in batches]
        assert max(sizes) - min(sizes) <= 1 and all(micro.rows for micro in batches)


def test_groups_hold_what_fits_and_lose_nothing():
    lengths = [7, 3, 9, 1, 1, 5, 10]
    groups = first_fit(lengths, 10)
    assert sorted(row for group in groups for row in group) == list(range(7))
    assert all(sum(lengths[row] for row in group) <= 10 for group in groups)
    assert len(groups) == 4


def test_rows_side_by_side_and_packed_have_the_same_weights():
    rows = [a_row(4), a_row(6, weight=0.25), a_row(3)]
    padded, together = side_by_side(rows, pad=0), packed([[rows[1], rows[0]], [rows[2]]], pad=0)
    assert padded["attention_mask"].sum(1).tolist() == [4, 6, 3]
    assert together["input_ids"].shape == (2, 10)
    assert together["position_ids"].tolist() == [[*range(6), *range(4)], [*range(3), *range(7)]]
    assert together["token_weights"].sum() == padded["token_weights"].sum()
    assert together["token_weights"][0, 6] == 0, "a row's first token is not predicted by the row before it"


def test_a_micro_batch_without_a_row_of_its_own_weighs_nothing():
    plan = micro_batches([[0]], accumulation=2, processes=1, process=0)
    batches = Batches([a_row(4)], plan, pad=0, pack_to=None)
    assert sorted(float(batches[at]["token_weights"].sum()) for at in range(2)) == [0.0, 1.0]


def test_a_model_whose_attention_looks_at_positions_may_be_packed(shaped):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shaped).eval()
    require_separate_rows(model, [a_row(9), a_row(20, first=40)], "tiny")
    require_separate_rows(model, [a_row(9)], "tiny")


def test_a_model_in_which_packed_rows_see_each_other_is_refused():
    from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    models = [
        BloomForCausalLM(BloomConfig(vocab_size=100, hidden_size=32, n_layer=2, n_head=2)).eval(),
        MambaForCausalLM(MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, state_size=4)).eval(),
    ]
    for model in models:
        with pytest.raises(ConfigError, match="would see each other"):
            require_separate_rows(model, [a_row(9), a_row(20, first=40)], "tiny")
