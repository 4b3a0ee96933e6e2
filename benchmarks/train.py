"""Training: tokens a CPU second, and memory, of Buckler, TRL's SFTTrainer and a plain loop, at equal loss.

    pip install -e '.[trl]' && OMP_NUM_THREADS=1 python benchmarks/train.py [--models miniature llama smollm2] [--rounds 3]

All sides are given the same token ids, the same supervised tokens, the same rows in each optimizer step (16 rows, full
fine-tuning, AdamW, loss: the mean over the step's supervised tokens), the same learning rates and the same number format (that
which Buckler's `auto` takes for the model on this machine: float32 weights, and bfloat16 arithmetic on a CPU with AMX). The
losses of the steps must agree to 1e-4 (1e-3 in bfloat16); TRL's packing puts other rows into a step, so that its losses are not
compared. Each side runs in a process of its own, in alternating order. Its CPU seconds are those of the steps, without loading,
tokenizing and saving; what comes before the first step (making the optimizer, the trainer's preparation) is printed apart; its
memory is the peak of resident memory above that before both. Printed: medians, and the range of the ratio to Buckler over the
rounds. With `--log FILE` each run is kept in the file, and the rounds in it go on and count.

Models: the miniature; a random Llama of 15 million parameters with a vocabulary of 32,000; `smollm2`, SmolLM2-135M-Instruct in
the folder of this name below BUCKLER_MODELS (left out without it). Rows: random words of the miniature's world, prompts of 20 to
500 words and answers of 10 to 150; `--rows` takes a file instead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from buckler.data import Chat
from buckler.miniature import sets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from buckler.finetuning.batches import TrainRow
    from buckler.finetuning.settings import TrainSettings

SIDES = ("buckler", "loop", "trl", "trl-micro", "trl-packed", "trl-checkpointing", "buckler-checkpointing")
STEP, RATE, LENGTH = 16, 1e-4, 1024
MICRO = 4
"""Rows of a micro-batch of the side `trl-micro`: less padding, more calls."""


def chats(count: int) -> list[Chat]:
    """Random words, of very different lengths, as in real sets."""
    rng = random.Random(0)
    words = sorted(
        {w for chat in sets.chats("commonsense", count=50, seed=0, split="train") for w in (chat.answer or "").split()}
    )

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(words, k=round(low * (high / low) ** rng.random())))

    return [Chat.pair(text(20, 500), text(10, 150)) for _ in range(count)]


def llama(folder: Path) -> str:
    """The random model of 15 million parameters, in `folder`."""
    from random_llama import random_llama

    return str(random_llama(folder, num_hidden_layers=9, tie_word_embeddings=True))


def run_side(side: str, place: str, rows: Sequence[Chat], dtype: str) -> dict[str, Any]:
    """One side in this process: CPU seconds, memory, tokens and losses."""
    import torch

    from buckler.finetuning.batches import encode
    from buckler.finetuning.plan import steps_of
    from buckler.finetuning.settings import Objective, TrainSettings
    from buckler.models.huggingface import template_of
    from buckler.models.loading import open_model
    from buckler.models.places import dtype_of
    from buckler.models.protocol import ModelSpec

    spec = ModelSpec(name=place, dtype=dtype)
    bf16 = dtype_of(spec) == "bfloat16"
    model, tokenizer = open_model(spec, for_training=True)
    template = template_of(model, tokenizer, spec)
    encoded, _ = encode(template, rows, Objective(), LENGTH)
    settings = TrainSettings(
        epochs=1,
        batch_size=STEP,
        learning_rate=RATE,
        max_length=LENGTH,
        checkpoint_every=0,
        gradient_checkpointing="on" if side == "buckler-checkpointing" else "auto",
    )
    for step in steps_of(len(encoded), batch_size=STEP, epochs=1, seed=0):  # each step's mean over its tokens, as TRL's
        supervised = sum(sum(encoded[at].supervised) for at in step)
        for at in step:
            encoded[at] = replace(encoded[at], weight=len(step) / supervised)
    model.train()
    train: Callable[..., list[float]] = with_trl if side.startswith("trl") else {"loop": with_loop}.get(side, with_buckler)
    torch.ones(8, 8) @ torch.ones(8, 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marks = [time.process_time()]
    losses = train(side, model, tokenizer, encoded, settings, template.pad, bf16, lambda: marks.append(time.process_time()))
    marks.append(time.process_time())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    tokens = sum(len(row.ids) for row in encoded)
    start, cpu = marks[1] - marks[0], marks[-1] - marks[1]
    return {"cpu": cpu, "start": start, "memory": grown, "tokens": tokens, "losses": losses, "bf16": bf16}


def with_buckler(
    side: str, model: PreTrainedModel, tokenizer: object, rows: list[TrainRow], settings: TrainSettings, pad: int, bf16: bool,
    steps_begin: Callable[[], None],
) -> list[float]:  # fmt: skip
    """Buckler with its defaults."""
    from buckler.finetuning.loop import Phase
    from buckler.finetuning.loss import Objective
    from buckler.finetuning.prepare import set_checkpointing
    from buckler.finetuning.trainer import CPU_TOKENS

    objective = Objective(model)
    objective.compare(rows[0].ids)
    set_checkpointing(objective, settings, side)
    phase = Phase(objective, rows, settings, 0, pad=pad, max_length=LENGTH, budget=CPU_TOKENS, bf16=bf16)
    steps_begin()
    with tempfile.TemporaryDirectory() as folder:
        phase.run(Path(folder))
    return phase.losses


def with_loop(
    side: str, model: PreTrainedModel, tokenizer: object, rows: list[TrainRow], settings: TrainSettings, pad: int, bf16: bool,
    steps_begin: Callable[[], None],
) -> list[float]:  # fmt: skip
    """As one writes it by hand: rows sorted within their step, four at a time, the head on supervised positions only."""
    import torch

    from buckler.finetuning.plan import steps_of

    steps = steps_of(len(rows), batch_size=STEP, epochs=1, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    steps_begin()
    losses = []
    for at, step in enumerate(steps):
        total = 0.0
        ordered = sorted(step, key=lambda row: -len(rows[row].ids))
        for start in range(0, len(ordered), MICRO):
            some = [rows[row] for row in ordered[start : start + MICRO]]
            ids = torch.full((len(some), max(len(row.ids) for row in some)), pad)
            labels = torch.full_like(ids, -100)
            for line, row in enumerate(some):
                ids[line, : len(row.ids)] = torch.tensor(row.ids)
                for place, learnt in enumerate(row.supervised):
                    if learnt:
                        labels[line, place] = row.ids[place]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
                wanted = labels[:, 1:] != -100
                logits = model.lm_head(hidden[wanted])
            loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")
            loss = loss * some[0].weight / len(step)
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * (len(steps) - at) / len(steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def with_trl(
    side: str, model: PreTrainedModel, tokenizer: object, rows: list[TrainRow], settings: TrainSettings, pad: int, bf16: bool,
    steps_begin: Callable[[], None],
) -> list[float]:  # fmt: skip
    """TRL's SFTTrainer on the same ids, the rows of a step sorted by length; completion-only loss, no evaluation, no saving."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from buckler.finetuning.plan import steps_of

    class Begin(TrainerCallback):
        def on_train_begin(self, *given: object, **more: object) -> None:
            steps_begin()

    steps = steps_of(len(rows), batch_size=STEP, epochs=1, seed=0)
    order = [at for step in steps for at in sorted(step, key=lambda row: -len(rows[row].ids))]
    data = Dataset.from_list(
        [{"input_ids": rows[at].ids, "completion_mask": [int(one) for one in rows[at].supervised]} for at in order]
    )
    micro = MICRO if side == "trl-micro" else 1 if side == "trl-packed" else STEP
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=bf16,
            num_train_epochs=1,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=STEP // micro if side != "trl-packed" else 4,
            learning_rate=RATE,
            lr_scheduler_type="linear",
            weight_decay=0.0,
            train_sampling_strategy="sequential",
            max_length=LENGTH,
            packing=side == "trl-packed",
            completion_only_loss=True,
            gradient_checkpointing=side == "trl-checkpointing",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Begin())
        with contextlib.redirect_stdout(sys.stderr):
            trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def child(side: str, place: str, options: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--place",
        place,
        "--count",
        str(options.count),
        "--dtype",
        options.dtype,
    ]
    command += ["--rows", str(options.rows)] if options.rows else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, place: str, options: argparse.Namespace) -> None:
    """All sides on one model, in alternating order; print a line for each."""
    rounds: dict[str, dict[int, dict[str, Any]]] = {side: {} for side in options.sides}
    log: Path | None = options.log
    setting = f"{name} {options.dtype} {options.count}"
    for entry in map(json.loads, log.read_text().splitlines() if log and log.exists() else []):
        if entry["setting"] == setting and entry["side"] in rounds:
            rounds[entry["side"]].setdefault(entry["turn"], entry)
    begun = min(map(len, rounds.values()))
    for turn in range(begun, begun + options.rounds):
        for side in options.sides if turn % 2 == 0 else reversed(options.sides):
            if turn in rounds[side]:
                continue
            last = child(side, place, options)
            rounds[side][turn] = last
            if log:
                with log.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"setting": setting, "side": side, "turn": turn, **last}) + "\n")
            print(f"{name} {side}: {last['cpu']:.2f} CPU s, {last['memory']:.0f} MB", file=sys.stderr, flush=True)
    found = {side: [runs[turn] for turn in sorted(runs)] for side, runs in rounds.items()}
    ours = found["buckler"]
    arithmetic = "bfloat16" if ours[0]["bf16"] else "float32"
    print(f"{name}, {arithmetic}: {options.count} rows, {ours[0]['tokens']} tokens, {len(ours[0]['losses'])} steps", flush=True)
    allowed = 1e-3 if ours[0]["bf16"] else 1e-4
    for side, runs in found.items():
        difference = max(abs(a - b) for a, b in zip(runs[0]["losses"], ours[0]["losses"], strict=False))
        if side != "trl-packed":
            assert len(runs[0]["losses"]) == len(ours[0]["losses"]) and difference < allowed, (
                f"{side}: losses differ by {difference:.1e}"
            )
        ratios = sorted(run["cpu"] / own["cpu"] for run, own in zip(runs, ours, strict=True))
        cpu = median(run["cpu"] for run in runs)
        memory, start = (median(run[what] for run in runs) for what in ("memory", "start"))
        print(
            f"  {side:22} {cpu:7.2f} CPU s after {start:5.2f}  {ours[0]['tokens'] / cpu:7.0f} tokens/s  {memory:6.0f} MB  "
            f"ratio {median(ratios):4.2f} ({ratios[0]:4.2f} to {ratios[-1]:4.2f}, {len(runs)} rounds)"
            + ("" if side == "trl-packed" else f"  losses differ by {difference:.0e}"),
            flush=True,
        )


def main() -> None:
    """Compare on each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["miniature", "llama", "smollm2"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="the first must be buckler")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=64, help="rows")
    parser.add_argument("--rows", type=Path, help="a file of rows instead of random words")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--log", type=Path, help="keep each run in this file, and go on with those in it")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        rows = chats(options.count)
        if options.rows:
            from buckler.formats import read_chats

            rows = [row for row in read_chats(str(options.rows)) if row.answer][: options.count]
        print(json.dumps(run_side(options.side, options.place, rows, options.dtype)))
        return
    with tempfile.TemporaryDirectory() as folder:
        places = {"miniature": "miniature", "llama": llama(Path(folder)) if "llama" in options.models else ""}
        if os.environ.get("BUCKLER_MODELS"):
            places["smollm2"] = str(Path(os.environ["BUCKLER_MODELS"], "smollm2"))
        for name in options.models:
            if name in places:
                compare(name, places[name], options)
            else:
                print(f"{name}: left out, no BUCKLER_MODELS")


if __name__ == "__main__":
    main()
