"""Tiny random models of many architectures, without a tokenizer: windows, soft caps, scales, experts, recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 300
SETTINGS: dict[str, dict[str, object]] = {
    "Llama": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": 8},
    "Gemma2": {"head_dim": 16, "sliding_window": 8, "final_logit_softcapping": 3.0},
    "Gemma3Text": {"head_dim": 16, "sliding_window": 8, "num_hidden_layers": 6},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 8.0},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "Phi3": {},
    "Mixtral": {"num_local_experts": 4},
    "Lfm2": {"layer_types": ["conv", "full_attention"]},
    "Mamba": {"state_size": 8},
}


def random_model(name: str) -> PreTrainedModel:
    """The causal model of `name`, with weights large enough that its tokens differ from place to place."""
    import transformers

    transformers.set_seed(0)
    config = getattr(transformers, f"{name}Config")(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": None,
            "initializer_range": 0.5,
            **SETTINGS[name],
        }
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()
