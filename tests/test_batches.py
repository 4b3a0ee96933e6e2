"""Batches: a step holds the same rows whoever shares it, and rows that lie side by side do not see each other."""

from __future__ import annotations

import pytest
import torch

from buckler.errors import ConfigError
from buckler.finetuning.batches import TrainRow, require_separate_rows, tensors
from buckler.finetuning.plan import first_fit, micro_batches, steps_of

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


@pytest.mark.parametrize("pack_to", [None, 30])
@pytest.mark.parametrize(("least", "processes"), [(1, 1), (3, 1), (1, 2), (2, 2), (4, 1), (7, 2)])
def test_micro_batches_of_all_processes_are_the_step_and_none_is_missing_or_twice(least, processes, pack_to):
    lengths = [7, 30, 12, 3, 9, 9, 25, 4, 18, 6, 11]
    for step in steps_of(11, batch_size=8, epochs=2, seed=0):
        shares = micro_batches(step, lengths, least=least, processes=processes, budget=40, pack_to=pack_to)
        every = [micro for share in shares for micro in share]
        assert len(shares) == processes
        assert sorted(row for micro in every for sequence in micro.sequences for row in sequence) == sorted(step)
        assert len(every) >= min(least * processes, len(step))
        for micro in every:
            sizes = [sum(lengths[row] for row in sequence) for sequence in micro.sequences]
            assert micro.tokens == max(sizes) * len(sizes) and micro.of_step == len(step)
            assert micro.tokens <= 40 or len(sizes) == 1


def test_rows_of_similar_lengths_go_together_where_that_saves_more_than_another_micro_batch_costs():
    lengths = [900, 40, 1000, 35, 30, 950]
    (share,) = micro_batches(range(6), lengths, least=1, processes=1, budget=4000)
    assert [micro.sequences for micro in share] == [((0,), (2,), (5,)), ((1,), (3,), (4,))]
    (share,) = micro_batches(range(3), [20, 40, 10], least=1, processes=1, budget=4000)
    assert [micro.sequences for micro in share] == [((0,), (1,), (2,))], "in their order: nothing is gained by another"
    (share,) = micro_batches(range(3), [20, 5000, 10], least=1, processes=1, budget=100)
    assert [micro.sequences for micro in share] == [((1,),), ((0,), (2,))]


def test_groups_hold_what_fits_and_lose_nothing():
    lengths = [7, 3, 9, 1, 1, 5, 10]
    groups = first_fit(lengths, 10)
    assert sorted(row for group in groups for row in group) == list(range(7))
    assert all(sum(lengths[row] for row in group) <= 10 for group in groups)
    assert len(groups) == 4


def test_rows_side_by_side_and_packed_have_the_same_weights():
    rows = [a_row(4), a_row(6, weight=0.25), a_row(3)]
    padded, together = tensors([[row] for row in rows], 0, 3), tensors([[rows[1], rows[0]], [rows[2]]], 0, 3)
    assert padded["input_ids"].shape == (3, 6) and "position_ids" not in padded
    assert together["input_ids"].shape == (2, 10)
    assert together["position_ids"].tolist() == [[*range(6), *range(4)], [*range(3), *range(7)]]
    assert together["token_weights"].sum() == padded["token_weights"].sum()
    assert together["token_weights"][0, 6] == 0, "a row's first token is not predicted by the row before it"


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
