"""An adapter on a model in memory: put on it whole, or merged into it; what does not fit is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from transformers import PreTrainedModel

from buckler.errors import BackendError
from buckler.models.checkpoint import header
from buckler.models.places import ADAPTER_WEIGHTS, adapter_config, base_of, first_line, location
from buckler.models.protocol import ModelSpec
from buckler.progress import LOG

NO_DEVICE = "meta"
"""Where torch keeps tensors that have a shape and no values."""
SHOWN = 3
"""Names of weights that a message shows."""


def with_adapter(model: PreTrainedModel, folder: Path, spec: ModelSpec) -> PreTrainedModel:
    """The model with an adapter on it: every weight of the file is used, and every weight it should have is there.

    Raises:
        BackendError: it does not fit the model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    shapes = {key: one.shape for key, one in header(folder / ADAPTER_WEIGHTS).items()}
    _resize(model, shapes)
    where = {"torch_device": "cpu"} if model.device.type == NO_DEVICE else {}
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(model, str(folder), **where)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as fault:
        lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
        reason = next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(fault).__name__)
        raise BackendError(f"adapter {folder}: does not fit {spec.name}: {reason[:300]}") from None
    missing = next((str(one.message) for one in warned if "missing adapter keys" in str(one.message)), None)
    if missing is not None:
        raise BackendError(f"adapter {folder}: does not fit {spec.name}: {missing.splitlines()[0][:300]}")
    if not adapted.active_peft_config.is_prompt_learning:
        known = {*get_peft_model_state_dict(adapted, save_embedding_layers=False), *adapted.state_dict()}
        if unused := sorted(key for key in shapes if not known & {key, key.replace(".modules_to_save", "")}):
            raise BackendError(
                f"adapter {folder}: does not fit {spec.name}: {len(unused)} of its weights have no place there: {some(unused)}"
            )
    if broken := not_finite(adapted):
        raise BackendError(f"adapter {folder}: {len(broken)} weights are not finite numbers (NaN or infinite): {some(broken)}")
    return adapted


def note_other_base(folder: Path, spec: ModelSpec) -> None:
    """Say it where an adapter is loaded on another model than the one it names, or on that one in another place."""
    try:
        found, _ = base_of(folder)
    except BackendError:
        return
    named, theirs, ours = str(adapter_config(folder)["base_model_name_or_path"]), location(found), location(spec.name)
    if theirs is not None and ours is not None and theirs.resolve() != ours.resolve():
        LOG.warning("adapter %s was trained on %s, and is loaded on %s", folder, found, spec.name)
    elif theirs is not None and Path(named).is_absolute() and Path(named) != theirs:
        LOG.warning("adapter %s: its base %s has moved with it to %s, which is used", folder, named, found)


def _resize(model: PreTrainedModel, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give the embeddings the number of rows that the adapter brings: it was trained after tokens were added."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    ends: dict[str, int] = {}
    for name, module in model.named_modules():
        if module is inputs or module is outputs:
            ends |= {f".{name}.weight": 0, f".{name}.lora_embedding_A": 1, f".{name}.lora_B.weight": 0}
    rows = [shape[axis] for key, shape in shapes.items() for end, axis in ends.items() if key.endswith(end) and len(shape) == 2]
    if max(rows, default=0) > inputs.weight.shape[0]:
        model.resize_token_embeddings(max(rows), mean_resizing=False)


def merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The plain model that its adapter makes of it, every weight of which can be trained.

    Where input and output embeddings are one and the adapter changes only one of them, they are two from then on.

    Raises:
        BackendError: an adapter of this kind cannot be merged, or the result is no number.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not hasattr(model.base_model, "merge_and_unload"):
        kind = str(model.active_peft_config.peft_type).rpartition(".")[2]
        raise BackendError(f"adapter {adapter}: of type {kind}, which cannot be merged into its base")
    plain = model.get_base_model()
    inputs, outputs = plain.get_input_embeddings(), plain.get_output_embeddings()
    if any(isinstance(one, BaseTunerLayer) for one in (inputs, outputs)) and inputs.weight is outputs.weight:
        layer = outputs.get_base_layer() if isinstance(outputs, BaseTunerLayer) else outputs
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = model.merge_and_unload(safe_merge=True)
    except ValueError as fault:
        raise BackendError(f"adapter {adapter}: cannot be merged: {first_line(fault)}") from None
    inputs, outputs = whole.get_input_embeddings(), whole.get_output_embeddings()
    if outputs is not None and inputs.weight is not outputs.weight and getattr(whole.config, "tie_word_embeddings", False):
        if torch.equal(inputs.weight, outputs.weight):
            whole.tie_weights()
        else:
            whole.config.tie_word_embeddings = False
            LOG.warning("adapter %s changes the input or output embeddings alone: they are two in the merged model", adapter)
    return whole.requires_grad_(True)


def adaptable(model: PreTrainedModel) -> list[str]:
    """Names of the layers that can have LoRA adapters: linear ones, quantized or not, and embeddings."""
    kinds = ("Linear", "Conv1D", "Embedding")
    layers = ((name, layer) for name, layer in model.named_modules() if hasattr(layer, "weight"))
    return [name for name, layer in layers if any(kind in type(layer).__name__ for kind in kinds)]


def not_finite(model: PreTrainedModel) -> list[str]:
    """Names of the weights that hold NaN or infinite values; of weights that are not read, nothing is known."""
    read = ((key, value) for key, value in model.named_parameters() if value.is_floating_point() and not value.is_meta)
    return [key for key, value in read if not value.isfinite().all()]


def some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
