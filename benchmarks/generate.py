"""Revisions a second: rows with settings of their own that share what they agree on, against transformers' sampling.

    OMP_NUM_THREADS=1 python benchmarks/generate.py [--model MODEL] [--texts N]

All sides hold the same model, ask the same prompts with the same grid of settings, and run in this process, alternating in
order. Transformers' `generate` has one temperature and top_p a call, so its strongest form asks a cell of the grid for all texts
at once, with its prompts left-padded (`batched`), or a text for as many revisions as the grid has cells, all with the settings
of its middle (`num_return_sequences`: another distribution, and the least that a grid can cost it). `one by one` is the
literal algorithm. Prints CPU seconds, tokens, and the ratio of seconds a token and of seconds.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from statistics import median

import torch

from buckler.curation.revise import revision_request
from buckler.miniature import sets
from buckler.miniature.words import SEED_WORDS
from buckler.models.decoding import left_padded
from buckler.models.huggingface import HuggingFaceLM
from buckler.models.protocol import ModelSpec, Request, Sampling

GRID = [(t, p) for t in (0.2, 0.4, 0.6, 0.8, 1.0) for p in (0.2, 0.4, 0.6, 0.8, 1.0)]
MIDDLE = (0.6, 0.6)


class Transformers:
    """Its own sampling, with its cache."""

    def __init__(self, model: HuggingFaceLM, prompts: list[list[int]], new_tokens: int) -> None:
        self.model, self.prompts, self.new_tokens = model, prompts, new_tokens

    def tokens(self, prompts: list[list[int]], cell: tuple[float, float], copies: int = 1) -> int:
        """Tokens of the answers, pads not counted."""
        ids, mask, _ = left_padded(prompts, self.model.pad, self.model.device)
        with torch.inference_mode():
            output = self.model.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=cell[0],
                top_p=cell[1],
                top_k=0,
                max_new_tokens=self.new_tokens,
                num_return_sequences=copies,
            )
        rows = output[:, ids.shape[1] :].tolist()
        stops = self.model.stops
        return sum(next((at for at, token in enumerate(row) if token in stops), len(row)) for row in rows)

    def one_by_one(self) -> int:
        return sum(self.tokens([prompt], cell) for prompt in self.prompts for cell in GRID)

    def batched(self) -> int:
        return sum(self.tokens(self.prompts, cell) for cell in GRID)

    def num_return_sequences(self) -> int:
        return sum(self.tokens([prompt], MIDDLE, len(GRID)) for prompt in self.prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--literal", action="store_true", help="also one call a revision")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    model = HuggingFaceLM(ModelSpec(name=options.model, dtype=options.dtype))
    texts = sets.chats("commonsense", count=options.texts, seed=0, split="train")
    conversations = [revision_request(text, SEED_WORDS[:3]) for text in texts]
    requests = [
        Request(messages=messages, sampling=Sampling(temperature=t, top_p=p, max_new_tokens=options.new_tokens))
        for messages in conversations
        for t, p in GRID
    ]
    peer = Transformers(model, [model.template.prompt(messages) for messages in conversations], options.new_tokens)

    def ours() -> int:
        return sum(completion.tokens for completion in model.generate(requests))

    sides: list[tuple[str, Callable[[], int]]] = [
        ("ours", ours),
        ("batched", peer.batched),
        ("num_return_sequences", peer.num_return_sequences),
        *([("one by one", peer.one_by_one)] if options.literal else []),
    ]
    model.generate([Request(messages=conversations[0], sampling=Sampling(max_new_tokens=8))])  # warm up
    seconds: dict[str, list[float]] = {name: [] for name, _ in sides}
    tokens: dict[str, list[int]] = {name: [] for name, _ in sides}
    torch.manual_seed(0)
    for turn in range(options.rounds):
        for name, work in sides if turn % 2 == 0 else reversed(sides):
            started = time.process_time()
            tokens[name].append(work())
            seconds[name].append(time.process_time() - started)
    print(f"{len(requests)} revisions of {len(texts)} texts, {options.model} {options.dtype}, {torch.get_num_threads()} threads")
    each = {name: median(s / t for s, t in zip(seconds[name], tokens[name], strict=True)) for name, _ in sides}
    for name, _ in sides:
        ratios = sorted(theirs / own for theirs, own in zip(seconds[name], seconds["ours"], strict=True))
        print(
            f"{name:22} {median(seconds[name]):8.2f} CPU s {median(tokens[name]):8.0f} tokens  ratio a token "
            f"{each[name] / each['ours']:5.2f}  of seconds {median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
