"""GGUF files: a file or the folder that holds it is a model, with the tokenizer and the chat template inside it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import CHATML

from buckler.data import Chat
from buckler.errors import BackendError
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.train import train
from buckler.models.places import dtype_of, location
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest
from buckler.models.registry import identity, load
from buckler.workflow.inputs import ModelRef

pytestmark = pytest.mark.ml
needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason="the extra `gguf` is not installed")

ROWS = [Chat.pair(f"soup {number}", "salt and carrots") for number in range(4)]
PAIRS = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in ROWS]


def write_gguf(model: Path, to: Path, *, architecture: str = "qwen2", template: str | None = CHATML) -> Path:
    """The model of a folder as a GGUF file, in float32."""
    import gguf
    from safetensors.numpy import load_file
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    to.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(to, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    control = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([by_id[number] for number in range(config.vocab_size)])
    writer.add_token_types([3 if number in control else 1 for number in range(config.vocab_size)])
    import json

    merges = json.loads((model / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if template is not None:
        writer.add_chat_template(template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, value in load_file(model / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return to


@needs_gguf
def test_a_gguf_file_answers_like_the_model_it_was_made_of_and_can_be_trained_on(tiny, tmp_path):
    file = write_gguf(tiny, tmp_path / "folder" / "model.gguf")
    exact = load(ModelSpec(name=str(tiny)))
    for name in (file, file.parent):
        lm = load(ModelSpec(name=str(name)))
        assert lm.template.prompt(ROWS[0].prompt) == exact.template.prompt(ROWS[0].prompt)
        assert [one.nll for one in lm.score(PAIRS)] == pytest.approx([one.nll for one in exact.score(PAIRS)], rel=1e-5)
        requests = [Request(messages=row.prompt, sampling=Sampling(max_new_tokens=6)) for row in ROWS]
        assert lm.generate(requests) == exact.generate(requests)
    assert identity(ModelSpec(name=str(file))) == identity(ModelSpec(name=str(file.parent)))
    settings = TrainSettings(method="lora", epochs=1, batch_size=4)
    train(ModelSpec(name=str(file)), ROWS, settings, tmp_path / "out", seed=0)
    merged, adapted = (load(ModelSpec(name=str(tmp_path / "out" / name))).score(PAIRS) for name in ("model", "adapter"))
    assert [one.nll for one in merged] == pytest.approx([one.nll for one in adapted], rel=1e-4)


@needs_gguf
def test_an_architecture_that_transformers_does_not_read_and_a_file_without_a_template_are_told(tiny, tmp_path):
    other = write_gguf(tiny, tmp_path / "other.gguf", architecture="rwkv6")
    with pytest.raises(BackendError, match="architecture rwkv6 is not supported"):
        load(ModelSpec(name=str(other)))
    bare = write_gguf(tiny, tmp_path / "bare.gguf", template=None)
    with pytest.raises(BackendError, match="no chat template"):
        load(ModelSpec(name=str(bare)))
    template = tmp_path / "chat.jinja"
    template.write_text(CHATML)
    assert load(ModelSpec(name=str(bare), chat_template=str(template))).score(PAIRS)


@needs_gguf
@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a gguf file at all" * 10])
def test_a_file_that_is_no_gguf_is_one_line(tmp_path, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(BackendError, match=r"model\.gguf"):
        load(ModelSpec(name=str(file)))


def test_without_the_extra_a_gguf_file_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    from buckler.models import refusals

    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(refusals, "find_spec", lambda name: None)
    for name in (file, tmp_path):
        with pytest.raises(BackendError, match=r"needs the package gguf: pip install 'buckler\[gguf\]'"):
            ModelRef.outside(ModelSpec(name=str(name)))


def test_a_gguf_file_is_not_quantized_again(tmp_path, monkeypatch):
    from buckler.models import refusals

    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(refusals, "find_spec", lambda name: object())
    with pytest.raises(BackendError, match="a GGUF file is unpacked, not quantized"):
        ModelRef.outside(ModelSpec(name=str(tmp_path), quantize="4bit"))


def test_where_a_gguf_model_lies(tmp_path):
    with pytest.raises(BackendError, match="no such GGUF file"):
        location("owner/repository/model.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert location(str(tmp_path)) == tmp_path / "a.gguf"
    assert dtype_of(ModelSpec(name=str(tmp_path))) == "float32"
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(BackendError, match=r"holds 2 GGUF files; name one of them, such as .*a\.gguf"):
        location(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert location(str(tmp_path)) == tmp_path
    with pytest.raises(BackendError, match="is a file; a model is a folder or a GGUF file"):
        location(str(tmp_path / "model.safetensors"))
