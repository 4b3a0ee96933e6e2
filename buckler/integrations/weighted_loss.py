"""The loss of `buckler train` in `transformers.Trainer` and TRL's `SFTTrainer`, for rows that `buckler export` wrote.

    from buckler.integrations.weighted_loss import WeightedLoss
    from trl import SFTTrainer

    class Trainer(WeightedLoss, SFTTrainer):
        pass

Each row has a column `loss_weight` beside what the trainer reads; a row without one weighs 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from buckler.errors import ConfigError

if TYPE_CHECKING:
    from transformers import Trainer as Base
else:
    Base = object

COLUMN = "loss_weight"
IGNORED = -100


class WeightedLoss(Base):  # type: ignore[misc]
    """Weighs each row by its `loss_weight`. To stand before the trainer's class in the bases of a class.

    With `w_i` the weight of row i, `l_i` the summed loss of its learnt tokens and `n_i` their number, a step over the rows S, all
    its micro-batches and processes together, minimises

    * `average = "row"`:   `sum_i w_i (l_i / n_i) / |S|`
    * `average = "token"`: `sum_i w_i l_i / sum_i w_i n_i`

    `buckler export --to trl --model M` writes weights that make the first the objective of `buckler train`, whichever average it
    has. Without a model they do so for the averages over rows and tasks, except that each answer of a row with several counts the
    same. Packed rows cannot be weighed one by one and are refused.
    """

    average: Literal["row", "token"] = "row"

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the trainer's own
        """As the trainer's.

        Raises:
            ConfigError: rows would be packed.
        """
        super().__init__(*args, **kwargs)
        if getattr(self.args, "packing", False) or getattr(self.args, "padding_free", False):
            raise ConfigError("WeightedLoss: packed rows cannot be weighed one by one; set packing and padding_free to False")
        self.data_collator: Any = _Collator(self.data_collator)
        # The loss is divided by the whole step's denominator: Trainer must count it and not divide again.
        self.model_accepts_loss_kwargs = True

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns or []
        self._signature_columns: Any = list(dict.fromkeys([*columns, COLUMN]))

    def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Tensor]], device: torch.device) -> Tensor:
        """The denominator of a step: its rows, or the weighted number of its learnt tokens."""
        total = torch.stack([self._items(batch).to(device) for batch in batch_samples]).sum()
        return self.accelerator.gather(total).sum() if self.args.world_size > 1 else total

    def _items(self, batch: Mapping[str, Tensor]) -> Tensor:
        if self.average == "row":
            return torch.tensor(float(len(batch["labels"])))
        return (_weights(batch) * _learnt(batch["labels"]).sum(1)).sum()

    def compute_loss(
        self,
        model: Any,  # noqa: ANN401
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:  # noqa: ANN401
        """A micro-batch's part of the loss of its step."""
        weights, labels = _weights(inputs), inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name not in ("labels", COLUMN)}, use_cache=False)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none"
        ).sum(1)
        if self.average == "row":
            loss = loss / _learnt(labels).sum(1).clamp(min=1)
        items = self._items(inputs) if num_items_in_batch is None else num_items_in_batch
        loss = (weights.to(loss.device) * loss).sum() / torch.as_tensor(items).to(loss.device).clamp(min=1e-12)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes, the loss is a sum over them
        return (loss, outputs) if return_outputs else loss


def _learnt(labels: Tensor) -> Tensor:
    """Which labels enter the loss: the first has nothing before it to predict it from."""
    return labels[:, 1:] != IGNORED


def _weights(batch: Mapping[str, Tensor]) -> Tensor:
    labels = batch["labels"]
    return batch[COLUMN].float() if COLUMN in batch else torch.ones(len(labels), device=labels.device)


class _Collator:
    """Puts the weights beside what the trainer's own collator makes of the rows."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self.inner = inner

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = dict(self.inner([{name: value for name, value in row.items() if name != COLUMN} for row in rows]))
        given = [1.0 if row.get(COLUMN) is None else float(row[COLUMN]) for row in rows]
        return {**batch, COLUMN: torch.tensor(given)}
