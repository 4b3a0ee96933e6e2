"""Likelihoods a second: `HuggingFaceLM.score` against lm-evaluation-harness' `HFLM.loglikelihood`.

    pip install -e '.[eval]' && OMP_NUM_THREADS=1 python benchmarks/score.py [--model MODEL] [--kinds mixed] [--sizes 4 16]

Both sides hold the same model object and tokenizer, are given the same rows as text, and tokenize them. HFLM runs with the
quickest of several fixed batch sizes, found on the same rows first (its `auto` probes the longest row only, and finds the
largest batch that fits, not the quickest). Runs are warm and alternate in order; the best of each side counts. Numbers must
agree to 1e-4. Without `--model`, two models: the miniature, where the layers cost most and both sides run the same ones, and a
random Llama of 4 layers and 256 dimensions with a vocabulary of 32,000, where the output head does. Prints wall and CPU seconds
and their ratios, and the limit: what the layers alone take, which both sides run, and their share of this thread's peak of matrix
multiplication.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from random_llama import random_llama

from buckler.data import Message
from buckler.miniature import sets
from buckler.models.huggingface import HuggingFaceLM
from buckler.models.protocol import ModelSpec, ScoreRequest

KINDS = ("short", "mixed", "candidates")


def rows(kind: str) -> list[ScoreRequest]:
    """Random words of the miniature's world: questions and answers of the wanted lengths, in tokens, about."""
    rng = random.Random(0)
    chats = sets.chats("commonsense", count=50, seed=0, split="train")
    words = sorted({word for chat in chats for word in (chat.answer or "").split() if word.isalpha()})

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(low, high)))

    def question(low: int, high: int) -> tuple[Message, ...]:
        return (Message(role="user", content=text(low, high)),)

    if kind == "short":
        return [ScoreRequest(messages=question(6, 10), answer=text(7, 11)) for _ in range(256)]
    if kind == "mixed":
        return [ScoreRequest(messages=question(12, 1000), answer=text(5, 250)) for _ in range(24)]
    questions = [question(40, 60) for _ in range(4)]
    return [ScoreRequest(messages=turns, answer=text(30, 60)) for turns in questions for _ in range(26)]


def timed(work: Callable[[], list[float]]) -> tuple[float, float, list[float]]:
    """Wall seconds, CPU seconds, and what came out."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def peak() -> float:
    """Multiplications and additions a second of large float32 products on this thread, the best of ten."""
    one = torch.randn(1024, 1024)
    return 2 * 1024**3 / min(timed(lambda: [float((one @ one)[0, 0])])[1] for _ in range(10))


def in_layers(model: HuggingFaceLM, work: Callable[[], list[float]]) -> tuple[float, float]:
    """CPU seconds of the layers below the output head while something is done, and their multiplications and additions."""
    layers, begun, seconds, sums = model.model.base_model, 0.0, 0.0, 0
    width, count = model.model.config.hidden_size, model.model.config.num_hidden_layers
    size = sum(weight.numel() for name, weight in layers.named_parameters() if "embed" not in name)

    def before(*_: object) -> None:
        nonlocal begun
        begun = time.process_time()

    def after(_: object, given: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], __: object) -> None:
        nonlocal seconds, sums
        seconds += time.process_time() - begun
        rows, length = (named["input_ids"] if "input_ids" in named else given[0]).shape
        sums += 2 * rows * length * (size + count * width * length)

    hooks = [layers.register_forward_pre_hook(before), layers.register_forward_hook(after, with_kwargs=True)]
    work()
    for hook in hooks:
        hook.remove()
    return seconds, float(sums)


def compare(name: str, model: HuggingFaceLM, kind: str, sizes: Sequence[int], rounds: int) -> None:
    """Time both sides on one kind of rows and print the line."""
    pairs = rows(kind)
    contexts = [model.tokenizer.decode(model.template.prompt(pair.messages)) for pair in pairs]
    harness_requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(context, pair.answer), idx=at)
        for at, (context, pair) in enumerate(zip(contexts, pairs, strict=True))
    ]
    harness = {
        size: HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=size, device=str(model.device)) for size in sizes
    }

    def ours() -> list[float]:
        return [likelihood.nll for likelihood in model.score(pairs)]

    # HFLM counts the blanks that end a prompt to the answer: there it is given the tokens.
    ends_blank = any(context != context.rstrip() for context in contexts)
    of_tokens = [
        (("", ""), model.template.prompt(pair.messages), model.tokenizer(pair.answer, add_special_tokens=False)["input_ids"])
        for pair in pairs
    ]

    def theirs(size: int) -> list[float]:
        if ends_blank:
            return [-one[0] for one in harness[size]._loglikelihood_tokens(of_tokens, disable_tqdm=True)]
        return [-one[0] for one in harness[size].loglikelihood(harness_requests, disable_tqdm=True)]

    ours()
    best = min(sizes, key=lambda size: timed(lambda: theirs(size))[1])
    ran: dict[str, list[tuple[float, float, list[float]]]] = {"ours": [], "theirs": []}
    sides: list[tuple[str, Callable[[], list[float]]]] = [("ours", ours), ("theirs", lambda: theirs(best))]
    for turn in range(rounds):
        for side, work in sides if turn % 2 == 0 else reversed(sides):
            ran[side].append(timed(work))
    ours_sums, theirs_sums = ran["ours"][0][2], ran["theirs"][0][2]
    distance = max(abs(a - b) / b for a, b in zip(ours_sums, theirs_sums, strict=True))
    assert distance < 1e-4, f"numbers differ by {distance:.1e}"
    wall, cpu = (min(run[at] for run in ran["ours"]) for at in (0, 1))
    their_wall, their_cpu = (min(run[at] for run in ran["theirs"]) for at in (0, 1))
    print(
        f"{name:10} {kind:11} {len(pairs):4} rows  ours {wall:6.2f} s (cpu {cpu:6.2f})  HFLM {their_wall:6.2f} s (cpu "
        f"{their_cpu:6.2f}, batch_size {best})  ratio {their_wall / wall:4.2f} (cpu {their_cpu / cpu:4.2f})  "
        f"apart {distance:.0e}",
        flush=True,
    )
    (seconds, sums), (their_seconds, _) = in_layers(model, ours), in_layers(model, lambda: theirs(best))
    print(
        f"  layers alone: {seconds:.2f} CPU s of ours, {their_seconds:.2f} of HFLM's, at {sums / seconds / peak():.0%} of the "
        f"peak of products; no side with these layers is more than {their_cpu / seconds:.2f} times as fast as HFLM",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="another model: a folder or a hub id")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64], help="batch sizes tried by HFLM")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{torch.get_num_threads()} threads, best of {options.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        places = {"miniature": "miniature", "llama 32k": str(random_llama(Path(folder)))}
        for name, place in ({Path(options.model).name: options.model} if options.model else places).items():
            model = HuggingFaceLM(ModelSpec(name=place, dtype="float32"))
            for kind in options.kinds:
                compare(name, model, kind, options.sizes, options.rounds)


if __name__ == "__main__":
    main()
