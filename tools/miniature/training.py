"""The miniature's own plain training loop: losses on answers only, batches of like length, Muon and AdamW together."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn.functional import cross_entropy

from buckler.data import Chat
from tools.miniature.muon import Muon
from tools.miniature.tokens import CONTEXT, encode

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Row: TypeAlias = tuple[list[int], list[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The shape of a model."""

    hidden: int
    layers: int
    heads: int
    inner: int


SIZES: dict[str, Size] = {
    "small": Size(hidden=96, layers=3, heads=3, inner=288),
    "standard": Size(hidden=128, layers=4, heads=4, inner=384),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a model is trained on rows."""

    lr: float
    epochs: int = 1
    batch: int = 16
    muon: bool = False
    """Muon for the matrices of the layers with a cosine to a tenth, else AdamW alone with a line to zero."""
    bucket: int = 50
    """Batches whose rows are sorted by length together; 1 leaves the order as drawn."""


def new_model(size: Size, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained model of this shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Chat],
    course: Course,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train in place; the mean loss of the last tenth of the steps."""
    rows = [encode(tokenizer, chat) for chat in chats]
    rng = random.Random(seed)
    batches = [batch for _ in range(course.epochs) for batch in _batches(rows, course, rng)]
    optimizers = _optimizers(model, course)
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(batches):
        done = step / len(batches)
        rate = 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2 if course.muon else 1 - done
        loss = _loss(model, batch, tokenizer.pad_token_id, course.muon)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = course.lr * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            say(f"step {step + 1} of {len(batches)}: loss {sum(losses[-100:]) / 100:.3f}")
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _optimizers(model: LlamaForCausalLM, course: Course) -> list[torch.optim.Optimizer]:
    if not course.muon:
        return [torch.optim.AdamW(model.parameters(), lr=course.lr, weight_decay=0.0)]
    matrices = [param for name, param in model.named_parameters() if param.ndim == 2 and "layers" in name]
    rest = [param for name, param in model.named_parameters() if param.ndim != 2 or "layers" not in name]
    return [Muon(matrices, lr=course.lr), torch.optim.AdamW(rest, lr=course.lr, betas=(0.9, 0.95), weight_decay=0.0)]


def _batches(rows: Sequence[Row], course: Course, rng: random.Random) -> Iterator[list[Row]]:
    order = list(rows)
    rng.shuffle(order)
    batches: list[list[Row]] = []
    span = course.batch * course.bucket
    for start in range(0, len(order), span):
        near = order[start : start + span]
        if course.bucket > 1:
            near.sort(key=lambda row: len(row[0]))
        batches.extend(near[at : at + course.batch] for at in range(0, len(near), course.batch))
    rng.shuffle(batches)
    yield from batches


def _loss(model: LlamaForCausalLM, batch: Sequence[Row], pad: int, even: bool) -> torch.Tensor:
    """Mean loss over the answer tokens; padding stands on the right, so causal attention needs no mask.

    With `even`, a token weighs one by the square root of its row's answer tokens, so long answers do not drown short ones.
    """
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in batch])
    answer = torch.tensor([row + [False] * (width - len(row)) for _, row in batch])
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    wanted = answer[:, 1:]
    losses = cross_entropy(model.lm_head(hidden[wanted]), ids[:, 1:][wanted], reduction="none")
    if not even:
        return losses.mean()
    weights = wanted.sum(dim=1, keepdim=True).clamp(min=1).rsqrt().expand(wanted.shape)[wanted]
    return (losses * weights).sum() / weights.sum()
