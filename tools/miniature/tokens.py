"""The miniature's tokenizer: byte-level BPE over its own corpus, with a chat template that marks what is generated.

Any text can be written in it, since every byte is a token. A control token typed by a user, such as `<|end|>`, loses its
meaning in the chat template, which parts its first two characters; elsewhere encode with `split_special_tokens=True`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from buckler.data import Chat
from buckler.miniature import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END, SYSTEM, USER, ASSISTANT = CONTROL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 2048
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set text = message['content'] | replace('<|', '< |') -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "<|assistant|>{%- generation -%}{{- text -}}<|end|>{%- endgeneration -%}"
    "{%- else -%}{{- '<|' + message['role'] + '|>' -}}{{- text -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def train_tokenizer(chats: Iterable[Chat], *, vocabulary: int, seed: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are those of `chats`; names are always written with their two syllables."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_reading(chats, random.Random(seed)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _reading(chats: Iterable[Chat], rng: random.Random) -> Iterator[str]:
    """The texts with names and toy endings cut by hyphens, so that no merge crosses the cut."""
    name = re.compile(rf"\b({'|'.join(words.FIRST)})({'|'.join(words.SECOND)})\b", re.IGNORECASE)
    ending = re.compile(rf"\b(\w+)({words.SUFFIX})\b")
    for chat in chats:
        for turn in chat.messages:
            yield ending.sub(r"\1-\2", name.sub(r"\1-\2", turn["content"]))


def encode(tokenizer: PreTrainedTokenizerFast, chat: Chat) -> tuple[list[int], list[bool]]:
    """Token ids of a chat as its template writes it, and which of them are answers; faster than the template."""
    ids: list[int] = []
    answer: list[bool] = []
    for turn in chat.messages:
        ids.append(tokenizer.convert_tokens_to_ids(f"<|{turn['role']}|>"))
        answer.append(False)
        text = tokenizer.encode(turn["content"].replace("<|", "< |"), add_special_tokens=False)
        generated = turn["role"] == "assistant"
        if generated:
            text = [*text, tokenizer.eos_token_id]
        ids.extend(text)
        answer.extend([generated] * len(text))
    return ids, answer
