"""Objectives: what the optimizer is handed is the gradient of the formula, however the step's work is divided.

The reference is written from the formulas alone: one row at a time, in float64, no batch, no padding, no chunk, no loop.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from conftest import make_model

from buckler.data import Chat
from buckler.errors import ConfigError
from buckler.finetuning.settings import LoRA, Objective, TrainSettings, token_weights

WORDS = ["soup", "salt", "carrots", "the", "of", "made", "is", "help", "that"]
WEIGHTS = {"utility": 0.5, "safety": 3.0}


def some_rows() -> list[Chat]:
    """Defence rows of three tasks, 5, 2 and 1 of them; 4 utility rows of no task; 1 safety row. Lengths differ much."""
    rng = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))

    kinds = [("defence", "summarize")] * 5 + [("defence", "translate")] * 2 + [("defence", "case")]
    kinds += [("utility", "")] * 4 + [("safety", "")]
    return [
        Chat.pair(f"{number} {words(2, 19)}", words(1, 12), task=task, part=part) for number, (part, task) in enumerate(kinds)
    ]


def formula(losses, tokens, chats, objective: Objective):
    """The objective of a set whose rows have these summed losses and token counts."""
    weight_of = objective.part_weights
    if objective.loss_averaging == "token":
        shares = [weight_of.get(chat.meta["part"], 1.0) for chat in chats]
        return sum(w * loss for w, loss in zip(shares, losses, strict=True)) / sum(
            w * count for w, count in zip(shares, tokens, strict=True)
        )
    of_parts = 0.0
    sizes = Counter(chat.meta["part"] for chat in chats)
    for part in sizes:
        single: dict[str, list] = {}
        for loss, count, chat in zip(losses, tokens, chats, strict=True):
            if chat.meta["part"] == part:
                task = chat.meta["task"] if objective.loss_averaging == "task" else "any"
                single.setdefault(task, []).append(loss / count)
        mixed = sum(sum(rows) / len(rows) for rows in single.values()) / len(single)
        of_parts = of_parts + weight_of.get(part, 1.0) * sizes[part] * mixed
    return of_parts / sum(weight_of.get(part, 1.0) * size for part, size in sizes.items())


def a_model(folder: Path, settings: TrainSettings):
    """The model in float64; adapters, which begin at zero, are moved off it so that every one of them has a gradient."""
    import torch

    from buckler.finetuning.prepare import with_lora
    from buckler.models.loading import open_model
    from buckler.models.protocol import ModelSpec

    model, tokenizer = open_model(ModelSpec(name=str(folder)))
    if settings.method == "lora":
        model = with_lora(model, settings.lora, 0)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return model.double(), tokenizer


def by_formula(folder: Path, chats: list[Chat], settings: TrainSettings):
    import torch

    from buckler.models.chat_template import Template

    model, tokenizer = a_model(folder, settings)
    template = Template(tokenizer, "tiny")
    losses, tokens = [], []
    for chat in chats:
        ids = torch.tensor(template.row(chat.messages).sequences[0].ids)
        first = 1 if settings.objective.train_on_prompt else len(template.prompt(chat.prompt))
        logits = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        losses.append(-sum(logits[at - 1, ids[at]] for at in range(first, len(ids))))
        tokens.append(len(ids) - first)
    formula(losses, tokens, chats, settings.objective).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def by_phase(folder: Path, chats: list[Chat], several: list[TrainSettings], out: Path, progress=None) -> None:
    """Save the gradients the optimizer is handed in its first step, for each of the settings. Run by each process."""
    import torch

    from buckler.finetuning.batches import encode
    from buckler.finetuning.loop import Phase
    from buckler.finetuning.loss import Objective as Loss
    from buckler.models.chat_template import Template

    for number, settings in enumerate(several):
        model, tokenizer = a_model(folder, settings)
        template = Template(tokenizer, "tiny")
        encoded, _ = encode(template, chats, settings.objective, settings.max_length)
        loss = Loss(model)
        assert loss.compare(encoded[0].ids), "the head is the usual one"
        phase = Phase(loss, encoded, settings, 0, pad=template.pad, max_length=settings.max_length, budget=100)
        phase.gradient(phase.steps[0])
        if phase.rank == 0:
            kept = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            torch.save(kept, out / f"{number}.pt")


def assert_gradients_agree(folder: Path, chats: list[Chat], several: list[TrainSettings], out: Path) -> None:
    import torch

    for number, settings in enumerate(several):
        expected, found = by_formula(folder, chats, settings), torch.load(out / f"{number}.pt")
        assert found.keys() == expected.keys() and found
        whole = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
        for name, gradient in expected.items():
            off = float((found[name].double() - gradient).norm())
            assert off <= 1e-5 * float(gradient.norm()) + 1e-8 * float(whole), (settings, name)


def settings_of(chats: list[Chat], average: str = "row", *, weighted: bool = True, train_on_prompt: bool = False, **more):
    weights = {part: weight for part, weight in WEIGHTS.items() if weighted and part in {c.meta["part"] for c in chats}}
    objective = Objective(loss_averaging=average, part_weights=weights, train_on_prompt=train_on_prompt)
    given = {"lora": LoRA(dropout=0.0), "batch_size": 13, "max_length": 96, **more}
    return TrainSettings(objective=objective, **given)


@pytest.mark.ml
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_gradient_is_that_of_the_formula(tiny, tmp_path, method, packing, accumulation):
    chats = some_rows()
    shared = {"method": method, "packing": packing, "accumulation": accumulation}
    several = [settings_of(chats, average, **shared) for average in ("token", "row", "task")]
    several.append(settings_of(chats, "task", weighted=False, **shared))
    several.append(settings_of(chats, "token", train_on_prompt=True, **shared))
    by_phase(tiny, chats, several, tmp_path)
    assert_gradients_agree(tiny, chats, several, tmp_path)


@pytest.mark.ml
def test_packing_is_exact_in_every_architecture(shaped, tmp_path):
    chats = some_rows()
    several = [settings_of(chats, "task", packing=True, accumulation=2)]
    by_phase(shaped, chats, several, tmp_path)
    assert_gradients_agree(shaped, chats, several, tmp_path)


@pytest.mark.slow
@pytest.mark.ml
def test_two_processes_hand_the_optimizer_the_same_gradient(tmp_path):
    from buckler.finetuning.distributed import on_processes
    from buckler.progress import no_progress

    folder = make_model(tmp_path / "model", "llama")
    chats = some_rows()
    several = [
        settings_of(chats, "token", processes=2),
        settings_of(chats, "task", processes=2, packing=True, accumulation=3, method="lora"),
        # 13 rows for 14 micro-batches: one of them has no row of its own.
        settings_of(chats, "task", processes=2, accumulation=7, batch_size=14),
    ]
    on_processes(2, by_phase, (folder, chats, several, tmp_path), no_progress, gpus=False)
    assert_gradients_agree(folder, chats, several, tmp_path)


@pytest.mark.parametrize("average", ["token", "row", "task"])
@pytest.mark.parametrize("part_weights", [{}, WEIGHTS, {"utility": 0.0}])
def test_the_weights_make_one_sum_of_every_average(average, part_weights):
    chats = some_rows()
    objective = Objective(loss_averaging=average, part_weights=part_weights)
    rng = random.Random(1)
    tokens = [rng.randint(1, 30) for _ in chats]
    losses = [rng.uniform(0, 90) for _ in chats]
    weights = token_weights(chats, tokens, objective)
    weighted = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / len(chats)
    assert weighted == pytest.approx(formula(losses, tokens, chats, objective), rel=1e-12)


def test_a_rare_task_counts_in_full_though_most_steps_do_not_hold_it():
    from buckler.finetuning.plan import steps_of

    chats = [Chat.pair(f"row {number}", "yes", part="defence", task="case" if number < 2 else "qa") for number in range(40)]
    losses = [7.0 if chat.meta["task"] == "case" else 1.0 for chat in chats]
    weights = token_weights(chats, [1] * 40, Objective(loss_averaging="task"))
    steps = steps_of(40, batch_size=4, epochs=1, seed=0)
    assert sum(any(row < 2 for row in step) for step in steps) <= 2 < len(steps)
    of_steps = [sum(weights[row] * losses[row] for row in step) / len(step) for step in steps]
    assert sum(of_steps) / len(of_steps) == pytest.approx((7.0 + 1.0) / 2)


def test_mixed_and_single_losses_agree_when_counts_are_equal():
    chats = [Chat.pair(f"{task} {number}", "yes", part="defence", task=task) for task in ("qa", "case") for number in range(7)]
    tokens = list(range(1, 15))
    mixed, single = (token_weights(chats, tokens, Objective(loss_averaging=average)) for average in ("task", "row"))
    assert mixed == pytest.approx(single)


def test_a_part_weight_that_names_no_part_is_refused():
    chats = some_rows()
    with pytest.raises(ConfigError, match="no row has that part"):
        token_weights(chats, [1] * len(chats), Objective(part_weights={"defense": 2.0}))


def test_weights_that_leave_nothing_to_learn_are_refused():
    chats = [Chat.pair("soup", "salt", part="utility")]
    with pytest.raises(ConfigError, match="there is nothing to train on"):
        token_weights(chats, [1], Objective(part_weights={"utility": 0.0}))


def test_an_average_over_tasks_of_rows_without_tasks_is_refused():
    with pytest.raises(ConfigError, match="no row names its task"):
        token_weights([Chat.pair("soup", "salt")], [1], Objective(loss_averaging="task"))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused_when_it_is_read(weight):
    with pytest.raises(ValueError, match="part_weights"):
        Objective(part_weights={"utility": weight})
