"""A random Llama with a large vocabulary and the miniature's tokenizer, for the benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from buckler import miniature


def random_llama(folder: Path, *, num_hidden_layers: int = 4, tie_word_embeddings: bool = False) -> Path:
    """Write it to `folder`: a vocabulary of 32,000, 256 wide; the weights are the same in every run."""
    tokenizer = AutoTokenizer.from_pretrained(miniature.path("miniature"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        tie_word_embeddings=tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
