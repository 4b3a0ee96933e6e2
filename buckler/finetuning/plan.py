"""Which rows an optimizer step holds, and in which micro-batches they go through the model.

A step's rows are decided by their number, the batch size and the seed alone. Micro-batches, processes and packing only divide
them, so none of the three changes what is learnt. Rows of similar length go together: pads cost as much as tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

STARTING = 128
"""What one more micro-batch costs, in tokens: the calls, and adding its gradient to what is there."""
SequenceRows: TypeAlias = tuple[int, ...]
"""Places in the set of the rows that one sequence holds, one after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Sequences that go through the model together."""

    sequences: tuple[SequenceRows, ...]
    of_step: int
    """How many rows the whole optimizer step has, over all its micro-batches and processes."""
    tokens: int
    """Padding included."""


def steps_of(rows: int, *, batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """The rows of each optimizer step: every epoch a new permutation, its last step with what is left."""
    wanted = math.ceil(epochs * math.ceil(rows / batch_size))
    steps: list[list[int]] = []
    for epoch in range(math.ceil(epochs)):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        steps += [order[at : at + batch_size] for at in range(0, rows, batch_size)]
    return steps[:wanted]


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], *, least: int, processes: int, budget: int, pack_to: int | None = None
) -> list[list[MicroBatch]]:
    """A step's micro-batches for each process: all its rows, each once.

    Args:
        rows: The step's, by their places in the set.
        lengths: Of all rows of the set, in tokens.
        least: Least number of micro-batches of a process, while there are rows.
        processes: How many share the step.
        budget: Most tokens of a micro-batch, padding included; a longer sequence stands alone.
        pack_to: How many tokens a packed sequence may hold; None gives each row a sequence of its own.
    """
    if pack_to is None:
        sequences: list[SequenceRows] = [(row,) for row in rows]
    else:
        groups = first_fit([lengths[row] for row in rows], pack_to)
        while len(groups) < min(least * processes, len(rows)):  # fewer sequences than processes and micro-batches want
            groups = _halved(groups, [sum(lengths[rows[at]] for at in group) if len(group) > 1 else 0 for group in groups])
        sequences = [tuple(rows[at] for at in group) for group in groups]
    sizes = [sum(lengths[row] for row in sequence) for sequence in sequences]
    order = sorted(range(len(sequences)), key=lambda at: -sizes[at])
    parts = by_length([sizes[at] for at in order], budget)
    groups = [order[start:end] for start, end in parts]
    while len(groups) < min(least * processes, len(sequences)):
        groups = _halved(groups, [sizes[group[0]] * len(group) if len(group) > 1 else 0 for group in groups])
    shares: list[list[MicroBatch]] = [[] for _ in range(processes)]
    for group in sorted(groups, key=lambda group: -sizes[group[0]] * len(group)):
        share = min(shares, key=lambda share: (sum(micro.tokens for micro in share), len(share)))
        in_order = tuple(sequences[at] for at in sorted(group))
        share.append(MicroBatch(sequences=in_order, of_step=len(rows), tokens=len(group) * sizes[group[0]]))
    return shares


def by_length(sizes: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Where to cut falling sizes so that padding and the number of parts cost least: the spans of the parts.

    A part costs its number of sizes times its largest, at most `budget`, and `STARTING`.
    """
    best = [0.0] + [math.inf] * len(sizes)
    cut = [0] * (len(sizes) + 1)
    for end in range(1, len(sizes) + 1):
        for start in range(end - 1, -1, -1):
            tokens = sizes[start] * (end - start)
            if tokens > budget and end - start > 1:
                break
            if best[start] + tokens + STARTING < best[end]:
                best[end], cut[end] = best[start] + tokens + STARTING, start
    spans: list[tuple[int, int]] = []
    end = len(sizes)
    while end:
        spans.append((cut[end], end))
        end = cut[end]
    return spans[::-1]


def _halved(groups: Sequence[list[int]], sizes: Sequence[int]) -> list[list[int]]:
    """The groups with the largest in two."""
    at = max(range(len(groups)), key=lambda at: sizes[at])
    middle = (len(groups[at]) + 1) // 2
    return [*groups[:at], groups[at][:middle], groups[at][middle:], *groups[at + 1 :]]


def first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Lengths into groups of at most `room`, the longest first, each into the first group that has place for it."""
    groups: list[list[int]] = []
    free: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        at = next((at for at, left in enumerate(free) if left >= lengths[number]), len(groups))
        if at == len(groups):
            groups.append([])
            free.append(room)
        groups[at].append(number)
        free[at] -= lengths[number]
    return groups
