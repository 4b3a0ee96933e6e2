"""Revisions a second: batches whose rows have their own settings and share what they agree on, against one call a revision.

    python benchmarks/generate.py [MODEL] [TEXTS]

Both sides load the same model, ask the same prompts with the same settings, and run in this process, one after another.
The literal side is transformers' own sampling. Prints wall and CPU seconds, tokens a second, and the ratios of seconds.
"""

from __future__ import annotations

import sys
import time

import torch

from buckler.curation.revise import revision_request
from buckler.data import Chat
from buckler.miniature import sets
from buckler.miniature.words import SEED_WORDS
from buckler.models.huggingface import HuggingFaceLM
from buckler.models.protocol import ModelSpec, Request, Sampling

GRID = [(t, p) for t in (0.2, 0.4, 0.6, 0.8, 1.0) for p in (0.2, 0.4, 0.6, 0.8, 1.0)]
NEW_TOKENS = 64


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "miniature"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    model = HuggingFaceLM(ModelSpec(name=name))
    texts: list[Chat] = sets.chats("commonsense", count=count, seed=0, split="train")
    prompts = [revision_request(text, SEED_WORDS[:3]) for text in texts]
    model.generate([Request(messages=prompts[0], sampling=Sampling(max_new_tokens=8))])  # warm up

    started, cpu = time.perf_counter(), time.process_time()
    requests = [
        Request(messages=messages, sampling=Sampling(temperature=t, top_p=p, max_new_tokens=NEW_TOKENS))
        for messages in prompts
        for t, p in GRID
    ]
    ours = sum(completion.tokens for completion in model.generate(requests))
    ours_seconds, ours_cpu = time.perf_counter() - started, time.process_time() - cpu

    started, cpu = time.perf_counter(), time.process_time()
    theirs = 0
    torch.manual_seed(0)
    for messages in prompts:
        ids = torch.tensor([model.template.prompt(messages)], device=model.device)
        for temperature, top_p in GRID:
            row = model.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=temperature,
                top_p=top_p,
                top_k=0,
                max_new_tokens=NEW_TOKENS,
            )
            theirs += row.shape[1] - ids.shape[1]
    theirs_seconds, theirs_cpu = time.perf_counter() - started, time.process_time() - cpu

    print(f"{len(requests)} revisions of {count} texts, model {name}, {torch.get_num_threads()} threads")
    print(f"batched:   {ours_seconds:7.2f} s (cpu {ours_cpu:.2f}), {ours / ours_seconds:8.0f} tokens/s")
    print(f"one by one:{theirs_seconds:7.2f} s (cpu {theirs_cpu:.2f}), {theirs / theirs_seconds:8.0f} tokens/s")
    print(f"ratio of seconds: {theirs_seconds / ours_seconds:.1f} (cpu {theirs_cpu / ours_cpu:.1f})")


if __name__ == "__main__":
    main()
