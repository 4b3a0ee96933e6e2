"""Any causal model of transformers: a local folder or a hub id, with or without a PEFT adapter, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, groupby

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from buckler.data import Message, canonical, turns_to_json
from buckler.errors import BackendError
from buckler.models.calls import in_order
from buckler.models.chat_template import Template
from buckler.models.decoding import batches, can_decode, decode, left_padded
from buckler.models.loading import open_model
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Request, ScoreRequest
from buckler.models.registry import identity
from buckler.models.reply import GeneratedReader
from buckler.models.sampling import OnlyDrawn, RowSampler
from buckler.models.scoring import Row, Scorer
from buckler.models.template_text import tokens_before
from buckler.progress import LOG

CPU_BATCH_TOKENS = 16384
"""More gain nothing on a CPU, where forwards of 64 rows already cost what their arithmetic costs."""


class HuggingFaceLM:
    """A transformers model behind `generate` and `score`."""

    can_score = True

    def __init__(self, spec: ModelSpec) -> None:
        self.identity = identity(spec)
        self.model, self.tokenizer = open_model(spec)
        self.template = template_of(self.model, self.tokenizer, spec)
        self.device = self.model.device
        self.batch_tokens = spec.batch_tokens or batch_tokens_of(self.model)
        self.limit = int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)
        self.pad = self.template.pad
        self.stops = frozenset(self.template.stops)
        # Checkpoints bring sampling defaults of their own (temperature, repetition penalty): only what is asked for holds.
        self.model.generation_config = GenerationConfig(eos_token_id=sorted(self.stops), pad_token_id=self.pad)
        self._bare = _bare(self.model)
        self._known = self.model.get_input_embeddings().weight.shape[0]
        self._scorer = Scorer(self._bare, self.pad)
        self._reader = GeneratedReader(self.tokenizer)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order.

        Raises:
            BackendError: a conversation is longer than the model can read.
        """
        return in_order(self.completions(requests))

    def completions(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Completion]]]:
        """Completions with their request's number, as they end; the token budget bounds what is under way.

        Raises:
            BackendError: a conversation is longer than the model can read.
        """
        prompts = self._prompts([request.messages for request in requests])
        sizes = [len(prompt) + request.sampling.max_new_tokens for prompt, request in zip(prompts, requests, strict=True)]
        if (longest := max(sizes, default=0)) > self.limit:
            new_tokens = requests[sizes.index(longest)].sampling.max_new_tokens
            raise BackendError(
                f"a conversation of {longest - new_tokens} tokens and {new_tokens} new ones exceed "
                f"the model's context length of {self.limit}; shorten the documents or lower max_new_tokens"
            )
        by_beams = [at for at, request in enumerate(requests) if request.sampling.num_beams > 1 or not can_decode(self._bare)]
        others = sorted(set(range(len(requests))) - set(by_beams))
        for piece in chain(self._decoded(prompts, requests, others), self._generated_all(prompts, requests, by_beams)):
            yield [(at, self._completion(row, prompts[at])) for at, row in piece.items()]

    def _decoded(
        self, prompts: Sequence[tuple[int, ...]], requests: Sequence[Request], members: Sequence[int]
    ) -> Iterator[dict[int, list[int]]]:
        pieces = decode(
            self._bare,
            [prompts[at] for at in members],
            RowSampler([requests[at] for at in members]),
            new_tokens=[requests[at].sampling.max_new_tokens for at in members],
            stops=self.stops,
            pad=self.pad,
            budget=self.batch_tokens,
        )
        return ({members[at]: row for at, row in piece.items()} for piece in pieces)

    def _generated_all(
        self, prompts: Sequence[tuple[int, ...]], requests: Sequence[Request], members: Sequence[int]
    ) -> Iterator[dict[int, list[int]]]:
        """By transformers' own `generate`, in batches of like lengths."""

        def kind(at: int) -> tuple[int, int]:
            return requests[at].sampling.max_new_tokens, requests[at].sampling.num_beams

        order = sorted(members, key=lambda at: (*kind(at), len(prompts[at]), prompts[at], at))
        for (new_tokens, beams), group in groupby(order, key=kind):
            same = list(group)
            sizes = [(len(prompts[at]) + new_tokens) * beams for at in same]
            for batch in batches(same, sizes, self.batch_tokens):
                rows = self._generated([prompts[at] for at in batch], [requests[at] for at in batch])
                yield dict(zip(batch, rows, strict=True))

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
        return in_order(self.likelihoods(pairs))

    def likelihoods(self, pairs: Sequence[ScoreRequest]) -> Iterator[list[tuple[int, Likelihood]]]:
        """Likelihoods with their pair's number, batch after batch.

        Raises:
            BackendError: conversation and answer are longer than the model can read.
        """
        rows = self._rows(pairs)
        longest = max(map(len, rows), default=0)
        if longest > self.limit:
            raise BackendError(f"a text of {longest} tokens exceeds the model's context length of {self.limit}; shorten it")
        numbers: dict[Row, list[int]] = {}
        for at, row in enumerate(rows):
            numbers.setdefault(row, []).append(at)
        empty = {row: 0.0 for row in numbers if not row.answer}
        for sums in chain([empty], self._scorer.sums([row for row in rows if row.answer], self.batch_tokens)):
            if sums:
                yield [(at, Likelihood(nll=nll, tokens=len(row.answer))) for row, nll in sums.items() for at in numbers[row]]

    def _rows(self, pairs: Sequence[ScoreRequest]) -> list[Row]:
        begins = self._begins
        rows = []
        for pair in pairs:
            if pair.messages:
                row = Row(*map(tuple, self.template.pair(pair.messages, pair.answer)))
            else:
                text = tuple(self.template.ids(pair.answer))
                row = Row(begins, text) if begins else Row(text[:1], text[1:])
            if max(row.context + row.answer, default=0) >= self._known:
                raise BackendError(
                    f"an answer contains a special token that the model has no embedding for: {pair.answer[:80]!r}"
                )
            rows.append(row)
        return rows

    @cached_property
    def _begins(self) -> tuple[int, ...]:
        """What the tokenizer puts before a text; a server's is found in the same way, so that both weigh the same tokens."""
        text = "one two three"
        return tuple(tokens_before(self.template.ids(text), self.tokenizer(text, verbose=False)["input_ids"]))

    def _prompts(self, conversations: Sequence[tuple[Message, ...]]) -> list[tuple[int, ...]]:
        """The ids of each conversation; many candidates share one, which is rendered once."""
        keys = [canonical(turns_to_json(messages)) for messages in conversations]
        distinct = dict(zip(keys, conversations, strict=True))
        known = {key: tuple(self.template.prompt(messages)) for key, messages in distinct.items()}
        return [known[key] for key in keys]


def batch_tokens_of(model: PreTrainedModel) -> int:
    """Tokens that are held at once where the spec does not say it.

    On a GPU, their keys and values fill half of the free memory; the other half is for prompts as they are read, and logits.
    """
    if model.device.type != "cuda":
        return CPU_BATCH_TOKENS
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    values = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width
    free, _ = torch.cuda.mem_get_info(model.device)
    return min(1 << 20, max(CPU_BATCH_TOKENS, int(free // 2 // (values * model.dtype.itemsize))))


def _bare(model: PreTrainedModel) -> PreTrainedModel:
    """The model without PEFT's wrapper, whose forward adds nothing where the adapter sits in the model's own layers."""
    config = getattr(model, "active_peft_config", None)
    return model if config is None or config.is_prompt_learning else model.get_base_model()


def template_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Template:
    """The chat template of a model that was opened, with the ends that its generation settings name.

    Raises:
        BackendError: it has none, it cannot be used, or the settings given for it do not fit.
    """
    name = f"{spec.name}: {spec.chat_template}" if spec.chat_template else spec.name
    template = Template(tokenizer, name, settings=spec.chat_template_kwargs, ends=_named_ends(model, tokenizer))
    for note in template.written.check.notes:
        LOG.warning("%s: the chat template %s", name, note)
    return template


def _named_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that end an answer by `generation_config.json`, or by the `config.json` that stands in for it."""
    config = model.generation_config
    if config is None:
        return set()
    # Of several that `config.json` names, transformers keeps the first where there is no `generation_config.json`.
    named = getattr(model.config, "eos_token_id", None) if config._from_model_config else config.eos_token_id
    ids = [one for one in (named if isinstance(named, list | tuple) else [named]) if one is not None and one != -1]
    if not all(isinstance(one, int) and one >= 0 for one in ids):
        raise BackendError(f"{tokenizer.name_or_path}: eos_token_id is {named!r}; expected ids of the vocabulary, such as [2, 7]")
    ends = set(ids)
    added = set(tokenizer.get_added_vocab().values())
    # Without the file, transformers fills in the default of the architecture, which may be any word of this tokenizer.
    ends = {one for one in ends if one in added or not config._from_model_config}
    strings = config.stop_strings or []
    for text in [strings] if isinstance(strings, str) else strings:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ends |= set(tokens) if len(tokens) == 1 else set()
    return ends
