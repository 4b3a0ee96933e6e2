"""Any causal model of transformers: a local folder or a hub id, with or without a PEFT adapter, on a CPU or a GPU.

`Template` turns conversations into token ids and supervised spans through the model's own chat template. A training row is
tokenized piece by piece at the places where the model would begin to answer, so that the ids before an answer are exactly the
ids the model is given when it answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from buckler.data import Message
from buckler.errors import BackendError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
from itertools import groupby
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from buckler.models.decoding import OnlyDrawn, RowSampler, batches, can_decode, decode, left_padded
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Request, ScoreRequest, tokens_before
from buckler.models.registry import identity, location
from buckler.models.reply import GeneratedReader
from buckler.models.scoring import Row, Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A row as the model sees it."""

    ids: list[int]
    """One row of token ids, not padded."""
    supervised: list[bool]
    """Of the same length: which of `ids` are answers (their end of turn included), and so enter the loss."""


class Template:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        if not tokenizer.chat_template:
            raise BackendError(
                f"{name}: the tokenizer has no chat template; "
                "use the instruct model, or give a template with `chat_template: FILE.jinja`"
            )
        if tokenizer.eos_token_id is None:
            raise BackendError(f"{name}: the tokenizer has no end-of-sequence token, so an answer would never end")
        self.tokenizer = tokenizer
        self.name = name
        specials = sorted({str(token) for token in tokenizer.all_special_tokens} | _added(tokenizer), key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(token) for token in specials if len(token) > 1) or r"(?!)")

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the model answers `messages`."""
        return self.ids(self._render(messages, ask=True))

    def row(self, messages: Sequence[Message]) -> Encoded:
        """The ids of a whole conversation and which of them are answers."""
        whole = self._render(messages, ask=False)
        ids: list[int] = []
        supervised: list[bool] = []
        at = 0
        for number, turn in enumerate(messages):
            if turn["role"] != "assistant":
                continue
            before = self._render(messages[:number], ask=True)
            after = self._render(messages[: number + 1], ask=False)
            # Some templates rewrite earlier turns (a thinking part is dropped): those turns are context only.
            if not (whole.startswith(before) and whole.startswith(after) and len(before) >= at):
                continue
            context, answer = self.ids(whole[at : len(before)]), self._to_end(self.ids(whole[len(before) : len(after)]))
            ids += context + answer
            supervised += [False] * len(context) + [True] * len(answer)
            at = len(after)
        if not ids:
            raise BackendError(
                f"{self.name}: the chat template does not extend its own prompt, so answers cannot be marked; use another one"
            )
        return Encoded(ids=ids, supervised=supervised)

    def ids(self, text: str) -> list[int]:
        """The ids of template text; nothing is added before or after."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _to_end(self, ids: list[int]) -> list[int]:
        """An answer's ids up to its end of turn; what the template writes after it is never generated."""
        ends = [at for at, token in enumerate(ids) if token in self.stops]
        return ids[: ends[-1] + 1] if ends else ids

    @cached_property
    def stops(self) -> set[int]:
        """The ids that end an answer: the end of sequence, and the end of turn of the common templates."""
        tokens = {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>"}
        vocabulary = self.tokenizer.get_added_vocab()
        return {self.tokenizer.eos_token_id, *(vocabulary[token] for token in tokens if token in vocabulary)}

    def _render(self, messages: Sequence[Message], *, ask: bool) -> str:
        """Template text. Control tokens written inside a message are broken apart, so that no text can end a turn."""
        turns = [{"role": turn["role"], "content": self._tame(turn["content"])} for turn in messages]
        try:
            return self._apply(turns, ask)
        except Exception as fault:  # noqa: BLE001 - templates raise whatever they like
            if turns[0]["role"] == "system" and len(turns) > 1:
                merged = {"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
                return self._apply([merged, *turns[2:]], ask)
            raise BackendError(f"{self.name}: the chat template refuses this conversation: {fault}") from None

    def _apply(self, turns: list[dict[str, str]], ask: bool) -> str:
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask))

    def _tame(self, text: str) -> str:
        return self._control.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)


def _added(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token.content) for token in decoder.values() if token.special}


class HuggingFaceLM:
    """A transformers model behind `generate` and `score`."""

    can_score = True

    def __init__(self, spec: ModelSpec) -> None:
        self.identity = identity(spec)
        self.model, self.tokenizer = open_model(spec)
        self.template = Template(self.tokenizer, spec.name)
        self.device = self.model.device
        self.batch_tokens = spec.batch_tokens
        self.limit = int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        self.stops = frozenset(self.template.stops)
        # Checkpoints bring sampling defaults of their own (temperature, repetition penalty): only what is asked for holds.
        self.model.generation_config = GenerationConfig(eos_token_id=sorted(self.stops), pad_token_id=self.pad)
        self._bare = _bare(self.model)
        self._scorer = Scorer(self._bare, self.pad)
        self._reader = GeneratedReader(self.tokenizer)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; batches of like lengths within the token budget.

        Raises:
            BackendError: a conversation is longer than the model can read.
        """
        prompts = self._prompts([request.messages for request in requests])
        answers: dict[int, Completion] = {}

        def kind(at: int) -> tuple[int, int]:
            return requests[at].sampling.max_new_tokens, requests[at].sampling.num_beams

        order = sorted(range(len(requests)), key=lambda at: (*kind(at), len(prompts[at]), prompts[at], at))
        for (new_tokens, beams), group in groupby(order, key=kind):
            members = list(group)
            longest = len(prompts[members[-1]]) + new_tokens
            if longest > self.limit:
                raise BackendError(
                    f"a conversation of {longest - new_tokens} tokens and {new_tokens} new ones exceed "
                    f"the model's context length of {self.limit}; shorten the documents or lower max_new_tokens"
                )
            # What the cache may come to hold; it is less while answers still share their rows.
            sizes = [(len(prompts[at]) + new_tokens) * beams for at in members]
            answer = self._decoded if beams == 1 and can_decode(self._bare) else self._generated
            for batch in batches(members, sizes, self.batch_tokens):
                rows = answer([prompts[at] for at in batch], [requests[at] for at in batch])
                answers.update((at, self._completion(row, prompts[at])) for at, row in zip(batch, rows, strict=True))
        return [answers[at] for at in range(len(requests))]

    def _decoded(self, prompts: list[tuple[int, ...]], requests: list[Request]) -> list[list[int]]:
        return decode(
            self._bare,
            prompts,
            RowSampler(requests),
            new_tokens=requests[0].sampling.max_new_tokens,
            stops=self.stops,
            pad=self.pad,
        )

    @torch.inference_mode()
    def _generated(self, prompts: list[tuple[int, ...]], requests: list[Request]) -> list[list[int]]:
        """By transformers' own `generate`: beam search, and models whose memory `decode` cannot drive.

        The prompts are left-padded to ids `(requests, longest)`; what follows them is `(requests, new tokens)`, right-padded.
        """
        ids, mask, _ = left_padded(prompts, self.pad, self.device)
        sampling = requests[0].sampling
        output = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            logits_processor=LogitsProcessorList([OnlyDrawn(requests)] if sampling.num_beams == 1 else []),
            max_new_tokens=sampling.max_new_tokens,
            num_beams=sampling.num_beams,
            do_sample=False,
        )
        rows: list[list[int]] = output[:, ids.shape[1] :].tolist()
        return rows

    def _completion(self, row: list[int], prompt: Sequence[int]) -> Completion:
        end = next((at for at, token in enumerate(row) if token in self.stops), None)
        kept = row if end is None else row[:end]
        return self._reader.read(kept, "length" if end is None else "stop", prompt)

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """Tokens beyond the model's context."""
        return len(self.template.prompt(messages)) + new_tokens - self.limit

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """Negative log-likelihood of each answer given its conversation, in nats, in order.

        A pair without messages is a text by itself: it follows what the tokenizer puts before every text, else its own first
        token, which is then not counted.

        Raises:
            BackendError: conversation and answer are longer than the model can read.
        """
        rows = self._rows(pairs)
        longest = max(map(len, rows), default=0)
        if longest > self.limit:
            raise BackendError(f"a text of {longest} tokens exceeds the model's context length of {self.limit}; shorten it")
        sums = self._scorer.sums([row for row in rows if row.answer], self.batch_tokens)
        return [Likelihood(nll=sums.get(row, 0.0), tokens=len(row.answer)) for row in rows]

    def _rows(self, pairs: Sequence[ScoreRequest]) -> list[Row]:
        prompts = iter(self._prompts([pair.messages for pair in pairs if pair.messages]))
        begins = self._begins
        rows = []
        for pair in pairs:
            answer = tuple(self.template.ids(pair.answer))
            if pair.messages:
                rows.append(Row(next(prompts), answer))
            elif begins:
                rows.append(Row(begins, answer))
            else:
                rows.append(Row(answer[:1], answer[1:]))
        return rows

    @cached_property
    def _begins(self) -> tuple[int, ...]:
        """What the tokenizer puts before a text; a server's is found in the same way, so that both weigh the same tokens."""
        text = "one two three"
        return tuple(tokens_before(self.template.ids(text), self.tokenizer(text, verbose=False)["input_ids"]))

    def _prompts(self, conversations: Sequence[tuple[Message, ...]]) -> list[tuple[int, ...]]:
        """The ids of each conversation; many candidates share one, which is rendered once."""
        keys = [tuple((turn["role"], turn["content"]) for turn in messages) for messages in conversations]
        distinct = dict(zip(keys, conversations, strict=True))
        known = {key: tuple(self.template.prompt(messages)) for key, messages in distinct.items()}
        return [known[key] for key in keys]


def _bare(model: PreTrainedModel) -> PreTrainedModel:
    """The model without PEFT's wrapper, whose forward adds nothing where the adapter sits in the model's own layers."""
    config = getattr(model, "active_peft_config", None)
    return model if config is None or config.is_prompt_learning else model.get_base_model()


def open_model(spec: ModelSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights (safetensors only) and tokenizer.

    Raises:
        BackendError: the model cannot be found, is no causal model, or does not fit.
    """
    hf_logging.disable_progress_bar()
    folder = location(spec.name)
    place = str(folder) if folder else spec.name
    device = spec.device if spec.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = spec.dtype if spec.dtype != "auto" else torch.float32 if device == "cpu" else "auto"
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            place,
            revision=spec.revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=spec.trust_remote_code,
        )
        if spec.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, spec.adapter)
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError, ImportError) as fault:
        lines = str(fault).strip().splitlines()
        raise BackendError(f"{spec.name}: cannot be loaded: {lines[0][:300] if lines else type(fault).__name__}") from None
    if spec.chat_template:
        tokenizer.chat_template = Path(spec.chat_template).read_text(encoding="utf-8")
    return model, tokenizer
