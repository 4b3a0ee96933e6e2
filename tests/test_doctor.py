"""`buckler doctor MODEL`: what the files of a model, an adapter or a GGUF file say, without its weights being loaded."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import make_model
from golden_files import call
from test_gguf import write_gguf

from buckler.cli.doctor_model import describe
from buckler.errors import BackendError

pytestmark = pytest.mark.ml


def doctor(*argv: object) -> tuple[int, dict]:
    status, out, err = call(("doctor", *map(str, argv), "--json"), Path.cwd())
    assert "Traceback" not in err
    return status, json.loads(out) if out else {"error": err}


def test_a_model_is_told_without_its_weights(tiny, tmp_path, monkeypatch):
    from safetensors.torch import load_file
    from transformers import PreTrainedModel

    devices = []
    opens = PreTrainedModel.from_pretrained.__func__

    def spied(cls: type, *args: object, **how: object) -> object:
        opened = opens(cls, *args, **how)
        devices.extend(weight.device.type for weight in opened[0].parameters())
        return opened

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(spied))
    status, found = doctor(tiny)
    assert status == 0 and found["faults"] == [] and {*devices} == {"meta"}
    weights = load_file(tiny / "model.safetensors")
    assert found["parameters"] == sum(value.numel() for value in weights.values())
    assert found["architecture"] == "Qwen2ForCausalLM" and found["stored_as"] == "F32" and found["context"] == 512
    assert found["vocabulary"] == found["embeddings"] == 299
    ends = {"tokenizer": "<|im_end|>", "generation_config": ["<|im_end|>"], "template": ["<|im_end|>"]}
    assert found["end_tokens"] == ends and found["system_role"] == "yes" and found["thinking"] == "no"
    linear = [value.shape for name, value in weights.items() if value.ndim == 2 and "proj" in name]
    assert found["lora_parameters"] == 8 * sum(sum(shape) for shape in linear)
    needs = {name: one["bytes"] for name, one in found["memory"].items()}
    assert needs["full"] == 16 * found["parameters"]
    assert needs["lora"] == 4 * found["parameters"] + 16 * found["lora_parameters"]
    assert needs["answering"] == 4 * (found["parameters"] + 16384 * 2 * 2 * 2 * 16)
    assert all(one["formula"] for one in found["memory"].values())


@pytest.mark.parametrize(
    ("shape", "system", "thinking"),
    [
        ("gemma", "refused by the template", "no"),
        ("mistral", "refused by the template", "no"),
        ("thinking", "yes", "writes <think>"),
    ],
)
def test_templates_are_told_by_what_they_do(tmp_path, shape, system, thinking):
    found = describe(str(make_model(tmp_path / "model", shape))).values
    assert str(found["system_role"]).startswith(system) and found["thinking"] == thinking


def test_a_template_with_tools_a_switch_and_an_open_thought(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}<|im_end|>\n"
        "{% endif %}{{ m['reasoning_content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% if enable_thinking is not false %}<think>\n{% endif %}{% endif %}"
    )
    found = describe(str(folder)).values
    assert found["tools"] is True and found["system_role"] == "dropped by the template"
    assert found["thinking"] == "the template opens a thought, a switch `enable_thinking`, reads `reasoning_content`"


def test_an_adapter_is_told_with_its_base(tiny, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=7, target_modules=["q_proj", "k_proj"], use_rslora=True, use_dora=True
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).save_pretrained(tmp_path / "adapter")
    status, found = doctor(tmp_path / "adapter")
    assert status == 0 and found["base"] == str(tiny) and found["place"] == str(tiny)
    assert (found["adapter_rank"], found["adapter_alpha"], found["adapter_targets"]) == (3, 7, ["k_proj", "q_proj"])
    assert found["adapter_kind"] == "LORA rank-stabilised DoRA" and found["own_tokenizer"] is False
    both = doctor(tiny, "--adapter", tmp_path / "adapter")
    assert both == (status, found)
    shutil.rmtree(tmp_path / "adapter")
    assert "name its base model too" in doctor("--adapter", tiny)[1]["error"]


def test_what_cannot_be_used_is_told_with_the_reason_and_status_1(tiny, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "architectures": ["Qwen2ForSequenceClassification"]}))
    (folder / "modeling_own.py").write_text("")
    (folder / "pytorch_model.bin").write_bytes(b"")
    status, found = doctor(folder)
    assert status == 1 and "a classifier or reward model" in found["faults"][0]
    assert found["code"] == ["modeling_own.py"] and found["pickles"] == ["pytorch_model.bin"]
    status, out, _ = call(("doctor", str(folder)), Path.cwd())
    assert status == 1 and "it cannot be used as it is" in out


def broken(tiny: Path, to: Path) -> dict[str, Path]:
    """Models that cannot be loaded, each for a reason that its files show."""
    from safetensors.torch import load_file, save_file

    found = {
        name: Path(shutil.copytree(tiny, to / name)) for name in ("tokenizer", "template", "ends", "config", "lacking", "deep")
    }
    for file in found["tokenizer"].glob("tokenizer*"):
        file.unlink()
    (found["template"] / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }")
    (found["ends"] / "generation_config.json").write_text("{not json")
    (found["config"] / "config.json").write_text("[]")
    weights = load_file(tiny / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, found["lacking"] / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((tiny / "config.json").read_text())
    (found["deep"] / "config.json").write_text(json.dumps({**settings, "intermediate_size": 8}))
    return found


def test_doctor_refuses_what_loading_refuses_with_the_same_words(tiny, tmp_path):
    from buckler.models.loading import open_model
    from buckler.models.protocol import ModelSpec

    for name, folder in broken(tiny, tmp_path).items():
        with pytest.raises(BackendError) as refused:
            open_model(ModelSpec(name=str(folder)))
        status, found = doctor(folder)
        assert status == 1 and str(refused.value) in found["faults"], name


def test_an_adapter_that_does_not_fit_is_told_from_the_headers(tiny, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    wide = make_model(tmp_path / "wide", hidden=64)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    get_peft_model(AutoModelForCausalLM.from_pretrained(wide), config).save_pretrained(tmp_path / "adapter")
    assert doctor(tmp_path / "adapter")[0] == 0
    status, found = doctor(tiny, "--adapter", tmp_path / "adapter")
    assert status == 1 and "does not fit" in found["faults"][0] and "size mismatch" in found["faults"][0]
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text("{not json")
    status, found = doctor(wide, "--adapter", tmp_path / "adapter")
    assert status == 1 and "adapter_config.json: not JSON" in found["faults"][0]
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "/gone/wide"}))
    status, found = doctor(tmp_path / "adapter")
    assert status == 1 and "/gone/wide" in found["faults"][0]


def test_values_are_not_read_and_an_adapter_beside_the_weights_is_not_used_and_both_is_said(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = {name: value * float("nan") for name, value in load_file(tiny / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text("{}")
    status, out, _ = call(("doctor", str(folder)), Path.cwd())
    assert status == 0 and "the values of its weights are not read" in out
    assert "without the adapter that lies beside it" in out and "adapter kind" not in out


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "owner/not-downloaded"])
def test_a_model_that_is_not_here_is_one_line(name):
    with pytest.raises(BackendError, match=r"unknown model|no such model folder|not downloaded yet"):
        describe(name)


@pytest.mark.skipif(find_spec("gguf") is None, reason="the extra `gguf` is not installed")
def test_a_gguf_file_is_told(tiny, tmp_path):
    file = write_gguf(tiny, tmp_path / "model.gguf")
    found = describe(str(file))
    assert found.faults == [] and found.values["architecture"] == "qwen2 (GGUF)" and found.values["context"] == 512
    assert found.values["parameters"] == describe(str(tiny)).values["parameters"] and found.values["stored_as"] == "F32"
