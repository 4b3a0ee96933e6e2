"""Curation as Buckler does it against the algorithm taken literally and in batches: seconds, generations, what is selected.

    OMP_NUM_THREADS=1 python benchmarks/curate.py [--model miniature] [--texts 4] [--rounds 3] [--direction raise]

All sides load the same model once and revise the same texts with the same seed words, grid, beam, gates and floor, one side
after the other in this process. All pay for the rubric judge: every candidate that passes the gates is put to the model as a
rating request. What decides on all sides is the local judge, since a small model may not answer the rubric in form; the reply
to the rubric is paid for and not used. The literal side asks one thing a call. The batched side runs all texts together: a cell
of the grid is one call of transformers' `generate` for all parents of a round (prompts sorted by length and left-padded, at most
`--size` a call), likelihoods and ratings are padded batches too. Both run every round and draw with transformers' own sampling;
ours stops when a text's beam no longer changes.

What each side chose is measured again after the clocks have stopped, by one model and one judge. Seconds on the wall mean
little where others use the cores: go by the seconds of this process.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import cast

import torch

from buckler.curation.curator import Curator
from buckler.curation.gates import gate, gate_perplexity
from buckler.curation.helpfulness import LocalHelpfulness, RubricHelpfulness
from buckler.curation.lexicon import draw
from buckler.curation.revise import read_revision, revision_request
from buckler.curation.search import Candidate, select
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, Json, Message
from buckler.miniature import sets
from buckler.miniature.words import SEED_WORDS
from buckler.models.decoding import left_padded, right_padded
from buckler.models.huggingface import HuggingFaceLM
from buckler.models.protocol import LM, Completion, Likelihood, Request, Sampling, ScoreRequest, spec_of
from buckler.settings import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteralCuration:
    """The algorithm itself (arXiv 2410.02220; the predecessor's is direction lower), all texts a round at a time."""

    model: LM
    judge: PaidJudge
    settings: CurateSettings
    seed: int

    def curate(self, texts: Sequence[Chat]) -> list[Chat]:
        """The best revision of each text, or the text itself."""
        originals = self.measured([Candidate(chat=text, perplexity=0.0, helpfulness=0.0) for text in texts], texts)
        beams = [[original] for original in originals]
        for turn in range(1, self.settings.rounds + 1):
            parents = [(parent, at) for at, beam in enumerate(beams) for parent in beam]
            revisions = self.revisions(parents, originals, turn)
            beams = [
                select(
                    [*beam, *(one for one, at in revisions if originals[at] is original)],
                    original,
                    direction=self.settings.direction,
                    floor=self.settings.helpfulness_floor,
                    width=self.settings.beam,
                    seed=self.seed,
                )
                for beam, original in zip(beams, originals, strict=True)
            ]
        return [beam[0].chat for beam in beams]

    def revisions(
        self, parents: Sequence[tuple[Candidate, int]], originals: Sequence[Candidate], turn: int
    ) -> list[tuple[Candidate, int]]:
        """One revision of each parent for each cell of the grid, where it passes the gates, with its text's number."""
        requests, owners = [], []
        for parent, at in parents:
            row = f"{originals[at].chat.id}:{parent.chat.id}"
            words = draw(SEED_WORDS, self.settings.words_per_prompt, seed=self.seed, row=row, turn=turn)
            messages = revision_request(parent.chat, words)
            for temperature in self.settings.temperatures:
                for top_p in self.settings.top_ps:
                    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=self.settings.max_new_tokens)
                    requests.append(Request(messages=messages, sampling=sampling))
                    owners.append(at)
        revised, of = [], []
        for reply, at in zip(self.model.generate(requests), owners, strict=True):
            text = read_revision(reply.text).text
            made = gate(text, reply.finish_reason, originals[at].chat, "response", self.settings.gates).chat if text else None
            if made is not None:
                revised.append(Candidate(chat=made, perplexity=0.0, helpfulness=0.0, round=turn))
                of.append(at)
        measured = zip(self.measured(revised, [originals[at].chat for at in of]), of, strict=True)
        gates = self.settings.gates
        return [(one, at) for one, at in measured if not gate_perplexity(one.perplexity, originals[at].perplexity, gates)]

    def measured(self, candidates: Sequence[Candidate], originals: Sequence[Chat]) -> list[Candidate]:
        """Perplexity by a pass of the model, helpfulness by a call of the judge."""
        if not candidates:
            return []
        pairs = [ScoreRequest(messages=one.chat.prompt, answer=one.chat.answer or "") for one in candidates]
        ratings = self.judge.rate([one.chat for one in candidates], originals)
        scores = self.model.score(pairs)
        return [
            replace(one, perplexity=score.perplexity, helpfulness=cast(float, rating))
            for one, score, rating in zip(candidates, scores, ratings, strict=True)
        ]


class Transformers:
    """The same weights by transformers' own `generate` and forward, in padded batches of like lengths."""

    can_score = True

    def __init__(self, model: HuggingFaceLM, size: int) -> None:
        """Most rows of a call; with one, the algorithm is taken literally."""
        self.model, self.size, self.identity = model, size, model.identity

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One call for requests with the same settings, or for a batch of them; a conversation is tokenized once."""
        known = {id(request.messages): request.messages for request in requests}
        prompts = {key: self.model.template.prompt(messages) for key, messages in known.items()}
        ids = [prompts[id(request.messages)] for request in requests]
        kinds: dict[tuple[float, float, int], list[int]] = {}
        for at, request in enumerate(requests):
            sampling = request.sampling
            kinds.setdefault((sampling.temperature, sampling.top_p, sampling.max_new_tokens), []).append(at)
        found: dict[int, Completion] = {}
        for (temperature, top_p, new_tokens), same in kinds.items():
            drawn = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
            for batch in self._batches(same, [len(row) for row in ids]):
                padded, mask, _ = left_padded([ids[at] for at in batch], self.model.pad, self.model.device)
                how = drawn if temperature else {"do_sample": False}
                output = self.model.model.generate(input_ids=padded, attention_mask=mask, max_new_tokens=new_tokens, **how)
                rows = output[:, padded.shape[1] :].tolist()
                found.update((at, self._completion(row)) for at, row in zip(batch, rows, strict=True))
        return [found[at] for at in range(len(requests))]

    def _batches(self, members: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        order = sorted(members, key=lambda at: lengths[at])
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def _completion(self, row: list[int]) -> Completion:
        end = next((at for at, token in enumerate(row) if token in self.model.stops), None)
        kept = row if end is None else row[:end]
        text = self.model.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Completion(text=text, finish_reason="length" if end is None else "stop", tokens=len(kept))

    @torch.inference_mode()
    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """Forwards of right-padded rows, with the logits of every position."""
        rows = [(self.model.template.prompt(pair.messages), self.model.template.ids(pair.answer)) for pair in pairs]
        found: dict[int, Likelihood] = {}
        for batch in self._batches(range(len(rows)), [sum(map(len, row)) for row in rows]):
            ids = right_padded([[*rows[at][0], *rows[at][1]] for at in batch], self.model.pad, self.model.device)
            logits = self.model.model(input_ids=ids, use_cache=False).logits.float()
            for row, at in enumerate(batch):
                begin, end = len(rows[at][0]), sum(map(len, rows[at]))
                nll = torch.nn.functional.cross_entropy(logits[row, begin - 1 : end - 1], ids[row, begin:end], reduction="sum")
                found[at] = Likelihood(nll=float(nll), tokens=end - begin)
        return [found[at] for at in range(len(rows))]

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """The model's own."""
        return self.model.overflow_tokens(messages, new_tokens)


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What one way of curating cost, and what it chose."""

    generations: int = 0
    judged: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of this process: in all, and those of them spent on revisions, likelihoods and ratings."""
    wall: float = 0.0
    """Seconds on the wall."""
    chosen: list[Chat] = field(default_factory=list)
    """One row a text, in the order of the texts."""

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add what is spent inside."""
        started = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started


class Counted:
    """A model that keeps account of the revisions and likelihoods asked of it; what judges ask goes past it."""

    can_score = True

    def __init__(self, model: LM, ledger: Ledger) -> None:
        self.model, self.identity, self.ledger = model, model.identity, ledger

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The model's answers."""
        self.ledger.generations += len(requests)
        with self.ledger.clock("revisions"):
            return self.model.generate(requests)

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """The model's likelihoods."""
        with self.ledger.clock("likelihoods"):
            return self.model.score(pairs)

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """The model's own."""
        return self.model.overflow_tokens(messages, new_tokens)


class PaidJudge:
    """The local judge's ratings at the cost of the rubric judge: one more answer of `model` for every candidate."""

    name = "local, rubric paid"

    def __init__(self, model: LM, seed: int, ledger: Ledger) -> None:
        self.rubric, self.local, self.ledger = RubricHelpfulness(model, seed), LocalHelpfulness(), ledger

    def rate(self, pairs: Sequence[Chat], originals: Sequence[Chat]) -> list[float | None]:
        """One rating a pair, never unscored."""
        self.ledger.judged += len(pairs)
        with self.ledger.clock("ratings"):
            self.rubric.rate(pairs, originals)
            return self.local.rate(pairs, originals)


def literal_side(model: HuggingFaceLM, plain: Transformers, settings: CurateSettings, texts: Sequence[Chat], seed: int) -> Ledger:
    """The literal algorithm over all texts, by `plain`."""
    torch.manual_seed(seed)
    ledger = Ledger()
    judge = PaidJudge(plain, seed, ledger)
    algorithm = LiteralCuration(model=Counted(plain, ledger), judge=judge, settings=settings, seed=seed)
    started = time.perf_counter()
    with ledger.clock("all"):
        ledger.chosen = algorithm.curate(texts)
    ledger.wall = time.perf_counter() - started
    return ledger


def our_side(model: HuggingFaceLM, settings: CurateSettings, texts: Sequence[Chat], seed: int) -> Ledger:
    """Buckler's curation of all texts."""
    ledger = Ledger()
    judge = PaidJudge(model, seed, ledger)
    curator = Curator(settings=settings, words=SEED_WORDS, model=Counted(model, ledger), judge=judge, seed=seed)
    started = time.perf_counter()
    with ledger.clock("all"):
        result = curator.curate(texts)
    ledger.wall = time.perf_counter() - started
    rows = {str(cast("dict[str, Json]", row.meta["curation"])["source"]): row for row in result.rows}
    ledger.chosen = [rows[text.id] for text in texts]
    return ledger


def compare(model: HuggingFaceLM, texts: Sequence[Chat], name: str, literal: Ledger, ours: Ledger) -> None:
    """Print both sides, line by line."""
    print(f"{'':30}{name:>10}{'ours':>10}")
    print(f"{'seconds, wall':30}{literal.wall:10.2f}{ours.wall:10.2f}   {literal.wall / ours.wall:.1f} times fewer")
    for name in ("all", "revisions", "likelihoods", "ratings"):
        slow, fast = literal.seconds[name], ours.seconds[name]
        print(f"{'seconds, CPU, ' + name:30}{slow:10.2f}{fast:10.2f}   {slow / fast:.1f} times fewer")
    print(f"{'generations':30}{literal.generations:10}{ours.generations:10}")
    print(f"{'candidates scored and judged':30}{literal.judged:10}{ours.judged:10}")
    revised = [sum(one.id != text.id for one, text in zip(side.chosen, texts, strict=True)) for side in (literal, ours)]
    print(f"{'texts revised':30}{revised[0]:10}{revised[1]:10}")
    if all(revised):
        each = literal.generations / revised[0], ours.generations / revised[1]
        print(f"{'generations per revised text':30}{each[0]:10.1f}{each[1]:10.1f}   {each[1] / each[0]:.2f} of theirs")
    for name, measure in (("perplexity", perplexities), ("log-perplexity", log_perplexities), ("helpfulness", ratings)):
        before, after = measure(model, literal.chosen, texts), measure(model, ours.chosen, texts)
        print(f"{name + ' chosen, median':30}{median(before):10.3f}{median(after):10.3f}")
        print(f"{name + ' chosen, mean':30}{fmean(before):10.3f}{fmean(after):10.3f}   {difference(before, after)}")


def perplexities(model: HuggingFaceLM, rows: Sequence[Chat], texts: Sequence[Chat]) -> list[float]:
    """Of each answer given its question."""
    return [one.perplexity for one in model.score([ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in rows])]


def log_perplexities(model: HuggingFaceLM, rows: Sequence[Chat], texts: Sequence[Chat]) -> list[float]:
    """The same in nats a token, where no single text can carry the mean."""
    return [math.log(value) for value in perplexities(model, rows, texts)]


def ratings(model: HuggingFaceLM, rows: Sequence[Chat], texts: Sequence[Chat]) -> list[float]:
    """Helpfulness by the local judge, 1 to 5."""
    return [cast(float, rating) for rating in LocalHelpfulness().rate(rows, texts)]


def difference(literal: Sequence[float], ours: Sequence[float], resamples: int = 10_000) -> str:
    """Mean of ours minus the other side's over texts, with a paired bootstrap interval (95 %, percentiles)."""
    gaps = torch.tensor(ours, dtype=torch.float64) - torch.tensor(literal, dtype=torch.float64)
    drawn = torch.randint(len(gaps), (resamples, len(gaps)), generator=torch.Generator().manual_seed(0))
    low, high = gaps[drawn].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return f"ours - theirs: {float(gaps.mean()):+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--direction", choices=("raise", "lower"), default="raise")
    parser.add_argument("--new-tokens", type=int, default=128, help="longest revision, in tokens")
    parser.add_argument("--kept", type=float, help="share of the grid that later rounds keep (default: the settings' own)")
    parser.add_argument("--size", type=int, default=64, help="most rows of a call of the batched side")
    parser.add_argument("--no-literal", action="store_true", help="leave out the side that asks one thing a call")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    values: dict[str, Json] = {"rounds": options.rounds, "direction": options.direction, "max_new_tokens": options.new_tokens}
    settings = parse(CurateSettings, values | ({} if options.kept is None else {"grid_fraction": options.kept}), "options")
    model = HuggingFaceLM(spec_of(options.model))
    texts = sets.chats("commonsense", count=options.texts, seed=options.seed, split="train")
    warm_up = [Request(messages=revision_request(texts[0], SEED_WORDS[:3]), sampling=Sampling(max_new_tokens=8))]
    for one in (model, Transformers(model, 1)):
        one.generate(warm_up)
    print(
        f"{options.texts} texts, {options.rounds} rounds, direction {options.direction}, seed {options.seed}, "
        f"model {options.model}, {model.device}, {torch.get_num_threads()} threads; "
        f"original perplexity {median(perplexities(model, texts, texts)):.3f}"
    )
    ours = our_side(model, settings, texts, options.seed)
    sides = {"batched": Transformers(model, options.size)} | ({} if options.no_literal else {"literal": Transformers(model, 1)})
    for name, plain in sides.items():
        compare(model, texts, name, literal_side(model, plain, settings, texts, options.seed), ours)


if __name__ == "__main__":
    main()
