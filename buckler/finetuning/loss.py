"""The loss of a micro-batch, for supervised positions only, whose logits are made a chunk at a time.

The model's layers give hidden states; those of supervised positions go through the output head in chunks, and the gradient of
each chunk is taken at once. Logits of rows x length x vocabulary are never held, neither for the loss nor for its gradient. What
common architectures do to logits after the head (Cohere and Granite scale them, Gemma caps them) is in their configuration. The
short cut is compared with the model's own forward before the first step; where it differs, the model's own forward is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from buckler.models.scoring import differ_by_rounding, logits_of

LOGITS = 1 << 26
"""Most logits made at once: 256 MiB of float32."""
PROBED = 16
"""Tokens by which the short cut is compared with the model's own forward."""


class Objective(nn.Module):
    """A model and its loss: `sum(token_weights * nll) / of_step` of a micro-batch, a scalar.

    `input_ids` and `token_weights` are `(sequences, length)` as `buckler.finetuning.batches` makes them. The token at place t+1
    is the target of the state at place t; pads and prompts have weight 0. Rows are padded on the right, where no real token
    sees the pads, so that no attention mask is needed.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.plain: PreTrainedModel = getattr(model, "get_base_model", lambda: model)()
        self.is_chunked = self._head is not None and self._decoder is not self.plain
        self.recomputes = False
        """Whether layers are computed again in the backward pass."""

    @property
    def _decoder(self) -> Any:  # noqa: ANN401 - the layers below the head
        return self.plain.base_model

    @property
    def _head(self) -> Any:  # noqa: ANN401 - a linear layer, perhaps with an adapter
        return self.plain.get_output_embeddings()

    @torch.no_grad()
    def compare(self, ids: list[int]) -> bool:
        """Whether the short cut gives the model's own logits, on the first of `ids`; if not, it is not taken from now on."""
        if self.is_chunked:
            was_training, given = self.model.training, torch.tensor([ids[:PROBED]], device=self.plain.device)
            self.model.eval()
            try:
                own = self.model(input_ids=given, use_cache=False).logits
                short = logits_of(self.plain, self._decoder(input_ids=given, use_cache=False).last_hidden_state)
                self.is_chunked = own.shape == short.shape and differ_by_rounding(short, own)
            except (TypeError, ValueError, AttributeError):
                self.is_chunked = False
            self.model.train(was_training)
        return self.is_chunked

    def compute(self, batch: dict[str, Tensor], *, bf16: bool) -> Tensor:
        """`forward`, in bfloat16 or as the weights are.

        Weights are kept in bfloat16 beside themselves for the backward pass, except where layers are computed again in it.
        """
        device = batch["input_ids"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=bf16, cache_enabled=not self.recomputes):
            loss: Tensor = self(batch)
        return loss

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The micro-batch's part of its step's loss."""
        targets, weights = batch["input_ids"][:, 1:], batch["token_weights"][:, 1:]
        given: dict[str, Any] = {key: batch[key] for key in ("input_ids", "position_ids") if key in batch}
        if self.is_chunked:
            wanted = batch["wanted"]  # found where the batch is made: on a GPU, to ask how many there are waits for all its work
            hidden = self._decoder(**given, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)[wanted]
            chunk = max(1, LOGITS // int(self.plain.get_input_embeddings().weight.shape[0]))
            head, logits = list(self._head.parameters()), partial(logits_of, self.plain)
            loss = chunked(logits, head, chunk, hidden, targets.flatten()[wanted], weights.flatten()[wanted])
        else:
            columns = (weights > 0).any(0).nonzero()[:, 0]
            logits = self.model(**given, use_cache=False, logits_to_keep=columns).logits
            targets, weights = targets[:, columns], weights[:, columns]
            learnt = weights > 0
            loss = _weighted(logits[learnt], targets[learnt], weights[learnt])
        return loss / batch["of_step"]


def chunked(
    logits: Callable[[Tensor], Tensor], head: list[nn.Parameter], chunk: int, hidden: Tensor, targets: Tensor, weights: Tensor
) -> Tensor:
    """The weighted sum of negative log-likelihoods, a scalar, of states `(positions, width)`; differentiable.

    Args:
        logits: The head and what follows it.
        head: The head's parameters; those that are trained get their gradient.
        chunk: Positions whose logits are made at once.
        hidden: States.
        targets: Ids `(positions,)`.
        weights: Of each position.
    """
    trained = [one for one in head if one.requires_grad]
    total: Tensor = _Chunked.apply(hidden, logits, chunk, targets, weights, *trained)  # type: ignore[no-untyped-call]
    return total


class _Chunked(torch.autograd.Function):
    """Gradients are taken in the forward pass, chunk by chunk, and multiplied by what arrives in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        logits: Callable[[Tensor], Tensor],
        chunk: int,
        targets: Tensor,
        weights: Tensor,
        *trained: nn.Parameter,
    ) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        towards = torch.zeros_like(hidden)
        sums: list[Tensor] = []
        kept = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(True)  # the head in bfloat16, for all chunks
        for at in range(0, len(targets), chunk):
            span = slice(at, at + chunk)
            with torch.enable_grad():
                part = hidden[span].detach().requires_grad_()
                loss = _weighted(logits(part), targets[span], weights[span])
            gradients = torch.autograd.grad(loss, [part, *trained])
            total += loss.detach()
            towards[span] = gradients[0]
            if sums:
                for whole, more in zip(sums, gradients[1:], strict=True):
                    whole += more
            else:
                sums = list(gradients[1:])
        torch.set_autocast_cache_enabled(kept)
        ctx.save_for_backward(towards, *(sums or [torch.zeros_like(one) for one in trained]))
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        towards, *sums = ctx.saved_tensors
        return (towards * outer[0], None, None, None, None, *(one.mul_(outer[0]) for one in sums))


def _weighted(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return (cross_entropy(logits.float(), targets, reduction="none") * weights).sum()
