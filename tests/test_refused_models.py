"""What cannot answer as a language model is refused when it is opened, with the reason, before any row is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_model
from safetensors.torch import load_file, save_file

from buckler.data import hub
from buckler.errors import BackendError
from buckler.models.checkpoint import Checkpoint, header
from buckler.models.loading import open_model
from buckler.models.protocol import ModelSpec, ScoreRequest
from buckler.models.refusals import require_answers
from buckler.models.registry import identity, load
from buckler.settings import parse
from buckler.workflow.jobs.customize import TrainJob
from buckler.workflow.jobs.evaluate import EvaluateJob
from buckler.workflow.jobs.gate import GateJob

pytestmark = pytest.mark.ml


def variant(tiny: Path, to: Path, **config: object) -> Path:
    """A copy of the tiny model with another config."""
    shutil.copytree(tiny, to)
    settings = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**settings, **config}))
    return to


def refused(folder: object, match: str, tmp_path: Path, **more: object) -> None:
    """Every command that loads it says so, and none has looked at its rows, which are not there."""
    model = {"name": str(folder), **more}
    for kind, values in (
        (TrainJob, {"rows": ["nowhere.jsonl"], "model": model}),
        (EvaluateJob, {"probes": ["nowhere.jsonl"], "model": model}),
    ):
        with pytest.raises(BackendError, match=match):
            parse(kind, values, "test").run(tmp_path / "out")
    if not more:
        with pytest.raises(BackendError, match=match):
            parse(GateJob, {"base": str(folder), "tuned": str(folder), "probes": ["nowhere.jsonl"]}, "gate").run(tmp_path / "out")
    with pytest.raises(BackendError, match=match):
        open_model(ModelSpec.model_validate(model))


KINDS = {
    "BertForMaskedLM": "an encoder",
    "BertModel": "no language-model head",
    "Qwen2ForSequenceClassification": "a classifier or reward model",
    "InternLM2ForRewardModel": "a reward model",
    "Qwen2ForTokenClassification": "a classifier of tokens",
    "LlamaForQuestionAnswering": "question-answering",
    "ViTForImageClassification": "a vision model",
    "CLIPModel": "no language-model head",
    "WhisperForAudioClassification": "a speech model",
}


@pytest.mark.parametrize("architecture", KINDS)
def test_architectures_that_give_no_answers_are_refused(tiny, tmp_path, architecture):
    folder = variant(tiny, tmp_path / "model", architectures=[architecture])
    refused(folder, f"{architecture} (is|has) .*{KINDS[architecture]}", tmp_path)


@pytest.mark.parametrize(("architecture", "more", "reason"), [
    ("T5ForConditionalGeneration", {"is_encoder_decoder": True, "model_type": "t5"}, "encoder-decoder"),
    ("BartForConditionalGeneration", {"is_encoder_decoder": True, "model_type": "bart"}, "encoder-decoder"),
    ("LlavaForConditionalGeneration", {"model_type": "llava", "vision_config": {"hidden_size": 8}}, "reads images"),
    ("Qwen2VLForConditionalGeneration", {"model_type": "qwen2_vl", "vision_config": {}}, "reads images"),
])  # fmt: skip
def test_sequence_to_sequence_and_vision_models_are_refused(tiny, tmp_path, architecture, more, reason):
    refused(variant(tiny, tmp_path / "model", architectures=[architecture], **more), reason, tmp_path)


@pytest.mark.parametrize("file", ["modules.json", "config_sentence_transformers.json"])
def test_embedding_models_are_refused_whatever_their_architecture(tiny, tmp_path, file):
    folder = variant(tiny, tmp_path / "model")
    (folder / file).write_text("[]")
    refused(folder, "embedding model", tmp_path)


def test_code_pickles_and_formats_that_are_not_installed_are_refused(tiny, tmp_path):
    coded = variant(tiny, tmp_path / "coded", auto_map={"AutoModelForCausalLM": "own.Own"}, model_type="own")
    refused(coded, "trust_remote_code: true", tmp_path)
    native = variant(tiny, tmp_path / "native", auto_map={"AutoModelForCausalLM": "own.Own"})
    assert open_model(ModelSpec(name=str(native)))
    pickled = variant(tiny, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused(pickled, r"pytorch_model\.bin.*convert them to safetensors", tmp_path)
    (pickled / "pytorch_model.bin").unlink()
    refused(pickled, "holds no weights", tmp_path)
    for method, package in {"gptq": "gptqmodel", "bitsandbytes": "bitsandbytes", "awq": "awq", "aqlm": "aqlm"}.items():
        quantized = variant(tiny, tmp_path / method, quantization_config={"quant_method": method, "bits": 4})
        refused(quantized, f"quantized with {method}.*{package}", tmp_path)


def test_a_shard_that_is_missing_or_cut_off_is_told(tiny, tmp_path):
    folder = variant(tiny, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    (folder / "model.safetensors").unlink()
    for file, of in halves.items():
        save_file({name: weights[name] for name in of}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, of in halves.items() for name in of}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert open_model(ModelSpec(name=str(folder)))
    second = folder / "model-00002-of-00002.safetensors"
    content = second.read_bytes()
    second.write_bytes(content[:-100])
    refused(folder, "00002-of-00002.safetensors: is cut off", tmp_path)
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(folder, "00002-of-00002.safetensors: not a safetensors file", tmp_path)
    second.unlink()
    refused(folder, "00002-of-00002.safetensors is missing", tmp_path)


def test_weights_that_the_files_do_not_hold_are_not_drawn_at_random(tiny, tmp_path):
    folder = variant(tiny, tmp_path / "renamed")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {f"other.{name}": value for name, value in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(BackendError, match=r"\d+ weights are not in its files and would be random: .*layers"):
        open_model(ModelSpec(name=str(folder)))
    lacking = variant(tiny, tmp_path / "lacking")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match=r"1 weights are not in its files .*layers\.1\.mlp\.up_proj"):
        open_model(ModelSpec(name=str(lacking)))
    deeper = variant(tiny, tmp_path / "deeper", num_hidden_layers=3, layer_types=["full_attention"] * 3)
    with pytest.raises(BackendError, match=r"would be random: .*layers\.2"):
        open_model(ModelSpec(name=str(deeper)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tiny, tmp_path, value):
    folder = variant(tiny, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][3, 4] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match=r"1 weights are not finite numbers .*layers\.0\.mlp\.up_proj"):
        open_model(ModelSpec(name=str(folder)))


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tiny, tmp_path):
    folder = variant(tiny, tmp_path / "small_vocab", vocab_size=250)
    weights = load_file(folder / "model.safetensors")
    cut = {name: value[:250].clone() if value.shape[:1] == (299,) else value for name, value in weights.items()}
    save_file(cut, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "ids up to 298, but the model has embeddings for 250 tokens only", tmp_path)


def test_a_pad_token_that_was_added_without_an_embedding_is_refused(tiny, tmp_path):
    from transformers import AutoTokenizer

    folder = variant(tiny, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<|mypad|>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(BackendError, match="embeddings for 299 tokens only"):
        open_model(ModelSpec(name=str(folder)))


def test_a_special_token_that_no_text_needs_and_has_no_embedding_is_an_error_only_where_it_comes(tiny):
    lm = load(ModelSpec(name=str(tiny)))
    prompt = ({"role": "user", "content": "soup <|endoftext|>"},)
    assert lm.score([ScoreRequest(messages=prompt, answer="salt")])
    with pytest.raises(BackendError, match=r"no embedding for: 'salt <\|endoftext\|>'"):
        lm.score([ScoreRequest(messages=prompt, answer="salt <|endoftext|>")])


def test_a_model_without_a_template_is_refused_and_with_one_beside_it_is_not(tmp_path):
    folder = make_model(tmp_path / "bare", template=False)
    refused(folder, "no chat template", tmp_path)
    template = tmp_path / "chat.jinja"
    template.write_text("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}")
    assert open_model(ModelSpec(name=str(folder), chat_template=str(template)))


SETTINGS = ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"]


@pytest.mark.parametrize("content", ["{not json", "", "[]", '"text"', "\\xff", "{" * 3 + '"a":' * 100_000])
@pytest.mark.parametrize("file", SETTINGS)
def test_settings_that_are_no_json_object_are_refused_with_their_file_and_what_to_do(tiny, tmp_path, file, content):
    folder = variant(tiny, tmp_path / "model")
    (folder / file).write_bytes(content.encode().replace(b"\\xff", b"\xff"))
    with pytest.raises(BackendError, match=rf"model/{file}: .*(restore this file)"):
        require_answers(ModelSpec(name=str(folder)))


def test_broken_settings_are_told_before_rows_are_read(tiny, tmp_path):
    folder = variant(tiny, tmp_path / "model")
    (folder / "generation_config.json").write_text("{not json")
    refused(folder, r"generation_config\.json: not JSON", tmp_path)


def test_broken_settings_of_a_model_of_the_hub_are_refused(tiny, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cached = tmp_path / "models--owner--name"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    folder = variant(tiny, cached / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    require_answers(ModelSpec(name="owner/name"))
    (folder / "generation_config.json").write_text("{not json")
    with pytest.raises(BackendError, match=r"generation_config\.json: not JSON"):
        require_answers(ModelSpec(name="owner/name"))


@pytest.mark.parametrize("ends", ["</s>", [2, "</s>"], [[9]], -1, 1.5, True, {"a": 1}])
def test_ends_that_are_no_token_ids_are_refused(tiny, tmp_path, ends):
    folder = variant(tiny, tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    refused(folder, r"generation_config\.json: eos_token_id: expected a token id or a list", tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"stop_strings": [ends, 5]}))
    refused(folder, r"generation_config\.json: stop_strings: expected a text or a list", tmp_path)


def test_a_model_without_a_tokenizer_or_with_a_broken_template_is_refused(tiny, tmp_path):
    folder = variant(tiny, tmp_path / "model")
    good = tmp_path / "good.jinja"
    shutil.copy(folder / "chat_template.jinja", good)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}\n{{ m.content }")
    refused(folder, r"its chat template is not a Jinja template: .*\(line 2\); give another one", tmp_path)
    assert open_model(ModelSpec(name=str(folder), chat_template=str(good)))
    (folder / "chat_template.jinja").write_bytes(b"\xff{{ messages }}")
    refused(folder, r"chat_template\.jinja: not UTF-8 at byte 0", tmp_path)
    shutil.copy(good, folder / "chat_template.jinja")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    refused(folder, "contains no tokenizer", tmp_path)


def test_headers_tell_every_tensor_without_reading_it(tiny):
    weights = load_file(tiny / "model.safetensors")
    found = header(tiny / "model.safetensors")
    assert {name: one.shape for name, one in found.items()} == {name: tuple(value.shape) for name, value in weights.items()}
    checkpoint = Checkpoint(tiny)
    assert checkpoint.parameters == sum(value.numel() for value in weights.values())
    assert checkpoint.embeddings == 299 and checkpoint.vocabulary == 299
    assert {one.dtype for one in found.values()} == {"F32"} and torch.float32 in {value.dtype for value in weights.values()}


@pytest.mark.parametrize("spec", [{"name": "acme/none"}, {"name": "miniature-small", "adapter": "acme/none"}])
def test_an_absent_model_is_one_line_where_the_hub_cannot_be_reached(spec, monkeypatch, caplog):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "_SEEN", [])
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(BackendError, match=r"acme/none: not a local folder, and not available from the hub \(.*refused\)"):
        identity(ModelSpec.model_validate(spec))
    assert waits == [1.0], "no library tried again"
    assert not caplog.records and not constants.HF_HUB_OFFLINE
