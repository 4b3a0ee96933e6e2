"""Chat templates for tests: those that TRL ships with its trainers, awkward ones of our own, and tiny models of them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CONTROL = re.compile(
    r"<[|\uff5c][^\s<>'\"{}]*?[|\uff5c]?>|<(?:start|end)_of_(?:turn|utterance)>|<(?:turn|channel)\|>|\[gMASK\]|<sop>|\[/?INST\]|</s>"
)
_THINKING = ("<think>", "</think>")


def published() -> dict[str, str]:
    """The templates in TRL's package, by name; TRL itself is not imported, which would take seconds."""
    found = importlib.util.find_spec("trl")
    assert found is not None and found.submodule_search_locations, "trl is not installed; it is in the `dev` extra"
    folder = Path(found.submodule_search_locations[0]) / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


PUBLISHED_NAMES = tuple(published())


@dataclass(frozen=True, slots=True, kw_only=True)
class Awkward:
    """A template of our own."""

    text: str
    eos: str = "<eos>"
    named_ends: tuple[str, ...] = ()
    """Tokens that `generation_config.json` ends an answer with."""
    answer: str = "{answer}"
    """What is to be learnt of a plain answer, its end included."""
    thought: str | None = None
    """What is to be learnt of an answer with reasoning; None where the template knows no thoughts."""
    sequences: int = 1
    """Sequences of a row with two answers."""


_CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
_ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_TURN = "{% for m in messages %}{{ '<|turn>' + m.role + '\n' + m.content + '<turn|>\n' }}{% endfor %}"

AWKWARD: dict[str, Awkward] = {
    "newline after the end of turn": Awkward(text=_CHATML + _ASK, answer="{answer}<|im_end|>"),
    "end of turn in the generation settings only": Awkward(
        text=_TURN + "{% if add_generation_prompt %}{{ '<|turn>assistant\n' }}{% endif %}",
        named_ends=("<eos>", "<turn|>"),
        answer="{answer}<turn|>",
    ),
    "the next role ends a turn": Awkward(
        text="[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        named_ends=("<eos>", "<|user|>", "<|observation|>"),
        answer="\n{answer}<|user|>",
    ),
    "nothing ends a turn": Awkward(
        text="{% for m in messages %}{{ m.role | upper + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        answer=" {answer}<eos>",
        sequences=2,
    ),
    "two end tokens": Awkward(
        text="{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|><eos>' }}{% endfor %}" + _ASK,
        answer="{answer}<|im_end|><eos>",
    ),
    "end of text after the last turn": Awkward(
        text=_CHATML + _ASK[:-11] + "{% else %}<eos>{% endif %}", answer="{answer}<|im_end|>"
    ),
    "no system role": Awkward(
        text="{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + _CHATML + _ASK,
        answer="{answer}<|im_end|>",
    ),
    "system turns left out": Awkward(
        text=_CHATML.replace("%}{{", "%}{% if m.role != 'system' %}{{").replace("}}{%", "}}{% endif %}{%") + _ASK,
        answer="{answer}<|im_end|>",
    ),
    "role order": Awkward(
        text="{% for m in messages if m.role != 'system' %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + _CHATML + _ASK,
        answer="{answer}<|im_end|>",
    ),
    "a thought is begun": Awkward(
        text=_CHATML + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
        answer="\n</think>\n\n{answer}<|im_end|>",
        thought="{thought}\n</think>\n\n{answer}<|im_end|>",
        sequences=2,
    ),
    "a thought is begun on its line": Awkward(
        text=_CHATML + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>' }}{% endif %}",
        answer="\n\n</think>\n\n{answer}<|im_end|>",
        thought="\n{thought}\n</think>\n\n{answer}<|im_end|>",
        sequences=2,
    ),
    "a thought is begun in every turn": Awkward(
        text="{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{{ '<think>' }}{% endif %}"
        "{{ m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>' }}{% endif %}",
        answer="\n\n</think>\n\n{answer}<|im_end|>",
        thought="\n{thought}\n</think>\n\n{answer}<|im_end|>",
        sequences=2,
    ),
    "old thoughts are dropped": Awkward(
        text="{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}" + _ASK,
        answer="<think>\n\n</think>\n\n{answer}<|im_end|>",
        thought="<think>\n{thought}\n</think>\n\n{answer}<|im_end|>",
        sequences=2,
    ),
    "another form of thought": Awkward(
        text="{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('[/THINK]')[-1] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n[THINK]' }}{% endif %}",
        answer="[/THINK]{answer}<|im_end|>",
        thought="{thought}[/THINK]{answer}<|im_end|>",
        sequences=2,
    ),
    "a mark opens the answer": Awkward(
        text="{% for m in messages %}{{ '<|T|><|' + m.role + '|>' }}{% if m.role == 'assistant' %}{% if m.reasoning_content and "
        "loop.last %}<|START_THINKING|>{{ m.reasoning_content }}<|END_THINKING|>{% endif %}<|START_RESPONSE|>{{ m.content }}"
        "<|END_RESPONSE|>{% else %}{{ m.content }}{% endif %}<|/T|>{% endfor %}{% if add_generation_prompt %}<|T|><|assistant|>"
        "<|START_THINKING|>{% if not enable_thinking | default(true) %}<|END_THINKING|>{% endif %}{% endif %}",
        eos="<|/T|>",
        answer="<|END_THINKING|><|START_RESPONSE|>{answer}<|END_RESPONSE|><|/T|>",
        thought="{thought}<|END_THINKING|><|START_RESPONSE|>{answer}<|END_RESPONSE|><|/T|>",
        sequences=2,
    ),
    "the last answer has another end": Awkward(
        text="{% for m in messages %}{{ '<|r|>' + m.role + '\n' + m.content }}{% if loop.last and m.role == 'assistant' %}"
        "<|final|>{% else %}<|e|>{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|r|>assistant\n' }}{% endif %}",
        named_ends=("<|e|>", "<|final|>"),
        answer="{answer}<|final|>",
        sequences=2,
    ),
    "today's date": Awkward(
        text="{{ 'Today is ' + strftime_now('%d %b %Y, %H:%M:%S.%f') + '.\n' }}" + _CHATML + _ASK, answer="{answer}<|im_end|>"
    ),
    "today's date in a format of its own": Awkward(
        text="{% set form = '%d %b %Y, %H:%M:%S.%f' %}{{ 'Today is ' + strftime_now(form) + '.\n' }}" + _CHATML + _ASK,
        answer="{answer}<|im_end|>",
    ),
    "beginning of text in template and tokenizer": Awkward(text="{{ bos_token }}" + _CHATML + _ASK, answer="{answer}<|im_end|>"),
    "texts as parts": Awkward(
        text="{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}{{ part.text }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}" + _ASK,
        answer="{answer}<|im_end|>",
    ),
    "blanks around the answer": Awkward(
        text="{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else "
        "' ' + m.content + ' </s>' }}{% endfor %}",
        answer=" {answer} </s>",
    ),
}


@cache
def tokenizer_of(text: str, eos: str = "<eos>"):
    """A byte-level tokenizer with the control tokens of a template; it writes a beginning-of-text token before texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    controls = [
        "<pad>",
        "<bos>",
        "<eos>",
        *sorted(set(_CONTROL.findall(text)) | {"<|user|>", "<|assistant|>", "<|observation|>"}),
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(dict.fromkeys(controls)),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Who runs the old mill? Anna runs it.\n\n", "Since when? Since last May.\n"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token=eos, pad_token="<pad>", additional_special_tokens=controls
    )
    fast.add_tokens([token for token in _THINKING if token in text])
    fast.chat_template = text
    return fast


def tiny_model(folder: Path, text: str, *, eos: str = "<eos>", named_ends: Sequence[str] = (), context: int = 512) -> Path:
    """A random two-layer model whose tokenizer has a template; its generation settings name the ends."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(text, eos)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=context, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if named_ends:
        ends = [tokenizer.convert_tokens_to_ids(token) for token in named_ends]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder
