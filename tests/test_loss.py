"""The loss in chunks: equal to the model's own logits in every architecture, and never more than a chunk of logits at once."""

from __future__ import annotations

import pytest
import torch
from architectures import SETTINGS, VOCABULARY, random_model

from buckler.finetuning import loss as losses
from buckler.finetuning.batches import TrainRow, tensors
from buckler.finetuning.loss import Objective
from buckler.finetuning.settings import LoRA

pytestmark = pytest.mark.ml


def a_batch() -> dict[str, torch.Tensor]:
    """Three rows of different lengths, of which the second half is learnt."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        TrainRow(
            ids=torch.randint(2, VOCABULARY, (length,), generator=generator).tolist(),
            supervised=[at >= length // 2 for at in range(length)],
            weight=weight,
        )
        for length, weight in ((19, 0.5), (8, 1.0), (13, 0.25))
    ]
    return tensors([[row] for row in rows], 0, 3)


def by_own_logits(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """One row at a time, all positions, without pads."""
    total = torch.zeros(())
    for ids, weights in zip(batch["input_ids"], batch["token_weights"], strict=True):
        ids, weights = ids[: int(weights.nonzero()[-1]) + 1], weights[: int(weights.nonzero()[-1]) + 1]
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        total = total + (torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none") * weights[1:]).sum()
    return total / batch["of_step"]


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_and_its_gradient_are_those_of_the_models_own_logits(name, monkeypatch):
    monkeypatch.setattr(losses, "LOGITS", 5 * VOCABULARY)
    model = random_model(name)
    objective, batch = Objective(model), a_batch()
    assert objective.compare(batch["input_ids"][0].tolist())
    expected = by_own_logits(model, batch)
    expected.backward()
    wanted = gradients(model)
    loss = objective(batch)
    loss.backward()
    found = gradients(model)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    largest = max(float(one.abs().max()) for one in wanted.values())
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5 * largest, msg=key)


def test_logits_are_made_for_supervised_positions_and_a_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr(losses, "LOGITS", 5 * VOCABULARY)
    model = random_model("Llama")
    objective, batch = Objective(model), a_batch()
    made: list[int] = []
    model.lm_head.register_forward_hook(lambda layer, given, logits: made.append(logits.shape[0]))
    objective(batch).backward()
    assert made == [5, 5, 5, 5, 1] and sum(made) == int((batch["token_weights"] > 0).sum())


def test_a_head_that_does_something_else_is_left_to_the_model():
    model = random_model("Llama")
    batch = a_batch()
    own = type(model).forward

    class Odd(type(model)):
        def forward(self, *args, **given):
            outputs = own(self, *args, **given)
            outputs.logits = outputs.logits * 3
            return outputs

    model.__class__ = Odd
    objective = Objective(model)
    assert not objective.compare(batch["input_ids"][0].tolist())
    torch.testing.assert_close(objective(batch), by_own_logits(model, batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "lm_head")])
def test_adapters_get_the_gradient_of_the_whole_loss(targets, monkeypatch):
    from buckler.finetuning.prepare import with_lora

    monkeypatch.setattr(losses, "LOGITS", 5 * VOCABULARY)
    model = with_lora(random_model("Llama"), LoRA(targets=targets, dropout=0.0), 0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    batch = a_batch()
    by_own_logits(model, batch).backward()
    wanted = gradients(model)
    Objective(model)(batch).backward()
    found = gradients(model)
    assert found.keys() == wanted.keys() and any("lora" in name for name in found)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(monkeypatch):
    from buckler.finetuning.prepare import set_checkpointing
    from buckler.finetuning.settings import TrainSettings

    found, kept = [], []
    for wanted in ("off", "on"):
        model = random_model("Llama").train()
        objective = Objective(model)
        set_checkpointing(objective, TrainSettings(gradient_checkpointing=wanted), "tiny")
        assert objective.recomputes == (wanted == "on")
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one, sizes=sizes: sizes.append(one.numel()) or one, lambda one: one):
            loss = objective(a_batch())
        loss.backward()
        found.append(gradients(model))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value)
