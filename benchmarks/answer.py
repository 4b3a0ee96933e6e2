"""Answers a second: `HuggingFaceLM.generate` against transformers' own `generate`, lm-evaluation-harness and Inspect.

    pip install -e '.[eval]' && OMP_NUM_THREADS=1 python benchmarks/answer.py --model MODEL [--prompts FILE.csv]

The prompts ask for one word, a sentence, a paragraph or a list about sixteen things, so that answers end at different lengths.
All sides but Inspect hold the same model object, and answer the same chat prompts greedily. Transformers' prompts are sorted by
length, and it and HFLM run with the quickest of several batch sizes, found on the same prompts first (with one size, nothing is
searched). Runs are warm and alternate in order. Texts that differ from ours are counted. Inspect's provider loads the same
folder. Prints CPU seconds and their ratios, least to greatest.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch

from buckler.data import Message
from buckler.miniature import sets
from buckler.models.decoding import left_padded
from buckler.models.huggingface import HuggingFaceLM
from buckler.models.protocol import ModelSpec, Request, Sampling

Work = Callable[[], list[str]]

RIVALS = ("transformers", "lm-eval", "inspect")
THINGS = (
    "the sea,bread,rain,a library,winter,bicycles,bees,the moon,a garden,coffee,trains,music,mountains,a river,cheese,clocks"
).split(",")
FORMS = (
    "In one word: what is the colour of {}?",
    "Answer in one short sentence. What is {}?",
    "Explain in a paragraph what {} is.",
    "Write a list of ten facts about {}.",
)


def prompts(file: str, count: int) -> list[str]:
    """Evenly spread rows of a CSV file with a column `prompt`, or questions of the miniature's world, or short and long ones."""
    if file == "lengths":
        return [form.format(thing) for thing in THINGS for form in FORMS][:count]
    if file == "miniature":
        return [str(chat.prompt[-1]["content"]) for chat in sets.chats("commonsense", count=count, seed=0, split="test")]
    with Path(file).open(encoding="utf-8", newline="") as lines:
        rows = [row["prompt"] for row in csv.DictReader(lines)]
    return rows[:: max(1, len(rows) // count)][:count]


def by_transformers(model: HuggingFaceLM, requests: Sequence[Request], size: int) -> list[str]:
    """Batches of `size` prompts, sorted by length, each until its last answer has ended."""
    ids = [model.template.prompt(request.messages) for request in requests]
    order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    texts = [""] * len(ids)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        padded, mask, _ = left_padded([ids[at] for at in batch], model.pad, model.device)
        new_tokens = requests[0].sampling.max_new_tokens
        with torch.inference_mode():
            output = model.model.generate(input_ids=padded, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False)
        for at, row in zip(batch, output[:, padded.shape[1] :].tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in model.stops), len(row))
            texts[at] = model.tokenizer.decode(row[:end], skip_special_tokens=True).strip()
    return texts


def by_harness(model: HuggingFaceLM, requests: Sequence[Request], sizes: Sequence[int]) -> dict[str, Work]:
    """`HFLM.generate_until` on the rendered prompts; nothing where lm-eval is not installed."""
    try:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        print("lm-eval is not installed")
        return {}
    stops = [model.tokenizer.decode([token]) for token in sorted(model.stops)]
    settings = {"until": stops, "max_gen_toks": requests[0].sampling.max_new_tokens, "do_sample": False}
    contexts = [model.tokenizer.decode(model.template.prompt(request.messages)) for request in requests]
    instances = [
        Instance(request_type="generate_until", doc={}, arguments=(context, settings), idx=at)
        for at, context in enumerate(contexts)
    ]

    def work(size: int) -> Work:
        harness = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=size, device=str(model.device))
        return lambda: harness.generate_until(instances, disable_tqdm=True)

    return {f"lm-eval {size}": work(size) for size in sizes}


def by_inspect(folder: str, requests: Sequence[Request], size: int, dtype: str) -> Work:
    """Inspect's `hf` provider, which batches what is asked at once."""
    from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model

    config = GenerateConfig(max_tokens=requests[0].sampling.max_new_tokens, max_connections=size)
    model = get_model(
        "hf/local", model_path=folder, tokenizer_path=folder, device="cpu", torch_dtype=dtype, do_sample=False, config=config
    )

    async def everything() -> list[str]:
        replies = (model.generate([ChatMessageUser(content=str(request.messages[-1]["content"]))]) for request in requests)
        return [output.completion for output in await asyncio.gather(*replies)]

    return lambda: asyncio.run(everything())


def timed(work: Work) -> tuple[float, list[str]]:
    """CPU seconds of this process, and what came out."""
    started = time.process_time()
    texts = work()
    return time.process_time() - started, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--prompts",
        default="lengths",
        help="`lengths`, `miniature` for its world's questions, or a CSV file",
    )
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64], help="batch sizes tried by the other sides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", type=int, default=0, help="number of the first round; odd ones begin with the last side")
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS[:2], help="inspect: its provider, on a folder")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    model = HuggingFaceLM(ModelSpec(name=options.model, dtype=options.dtype))
    requests = [
        Request(messages=(Message(role="user", content=text),), sampling=Sampling(max_new_tokens=options.new_tokens))
        for text in prompts(options.prompts, options.count)
    ]
    lengths: list[int] = []

    def ours() -> list[str]:
        completions = model.generate(requests)
        lengths[:] = [one.tokens for one in completions]
        return [one.text.strip() for one in completions]

    def transformers(size: int) -> Work:
        return lambda: by_transformers(model, requests, size)

    rivals = {f"transformers {size}": transformers(size) for size in options.sizes if "transformers" in options.rivals}
    rivals |= by_harness(model, requests, options.sizes) if "lm-eval" in options.rivals else {}
    if "inspect" in options.rivals:
        rivals["inspect"] = by_inspect(options.model, requests, max(options.sizes), options.dtype)
    model.generate(requests[:2])
    first = dict.fromkeys(rivals, 0.0)
    for name, work in rivals.items() if len(options.sizes) > 1 else ():
        first[name] = timed(work)[0]
        print(f"tried: {name} {first[name]:.1f} CPU s", flush=True)
    kinds = {name.split()[0] for name in rivals}
    best = {kind: min((name for name in rivals if name.split()[0] == kind), key=lambda name: first[name]) for kind in kinds}
    sides: list[tuple[str, Work]] = [("ours", ours), *((best[kind], rivals[best[kind]]) for kind in sorted(kinds))]
    ran: dict[str, list[float]] = {name: [] for name, _ in sides}
    texts: dict[str, list[str]] = {}
    for turn in range(options.turn, options.turn + options.rounds):
        for name, work in sides if turn % 2 == 0 else reversed(sides):
            seconds, texts[name] = timed(work)
            ran[name].append(seconds)
            print(f"  {name} {seconds:.2f}", flush=True)
    if not options.rounds:
        return
    print(f"{options.model} {options.dtype}, {len(requests)} prompts, {torch.get_num_threads()} threads, {options.rounds} rounds")
    cut = lengths.count(options.new_tokens)
    print(f"answers of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all, {cut} cut off at the limit")
    print(f"{'ours':16} {median(ran['ours']):7.2f} CPU s")
    for name in list(ran)[1:]:
        ratios = sorted(theirs / own for theirs, own in zip(ran[name], ran["ours"], strict=True))
        same = sum(a == b.strip() for a, b in zip(texts["ours"], texts[name], strict=True))
        print(
            f"{name:16} {median(ran[name]):7.2f} CPU s  ratio {median(ratios):4.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})  "
            f"{same} of {len(requests)} texts equal"
        )


if __name__ == "__main__":
    main()
