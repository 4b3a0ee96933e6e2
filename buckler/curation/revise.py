"""The revision prompts of curation and the reading of their replies (arXiv 2410.02220: four rules, response or query).

The embedded miniature learned these very texts: a letter changed in a prompt makes a prompt that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from buckler.curation.lexicon import draw
from buckler.curation.search import Candidate, Text, best_cells
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, Message, fill
from buckler.data.thinking import read_text, without_thinking
from buckler.models.protocol import LM, Request, Sampling

RESPONSE_PROMPT = """Rewrite the answer from another angle.
- Keep all the information of the answer.
- Work in some of these words: {words}.
- Add new ideas that fit.
- Stay informative, responsible, knowledgeable and insightful.

Question: {query}
Answer: {response}"""

QUERY_PROMPT = """Rewrite the question from another angle, so that the answer still answers it.
- Keep all the information of the question.
- Work in some of these words: {words}.
- Add new ideas that fit.
- Stay informative, responsible, knowledgeable and insightful.

Answer: {response}
Question: {query}"""

PLAIN_PROMPT = """Rewrite the answer from another angle.
- Keep all the information of the answer.
- Add new ideas that fit.
- Stay informative, knowledgeable and insightful.

Question: {query}
Answer: {response}"""

PLAIN_QUERY_PROMPT = """Rewrite the question from another angle, so that the answer still answers it.
- Keep all the information of the question.
- Add new ideas that fit.
- Stay informative, knowledgeable and insightful.

Answer: {response}
Question: {query}"""

PROMPTS: dict[tuple[str, bool], str] = {
    ("response", True): RESPONSE_PROMPT,
    ("response", False): PLAIN_PROMPT,
    ("query", True): QUERY_PROMPT,
    ("query", False): PLAIN_QUERY_PROMPT,
}
"""By what is rewritten, and whether there are words to work in."""

_REVISED = r"(?:revis|rewrit|rewrot|reword|rephras|paraphras|reformulat)\w*"
_NOUN = r"(?:answers?|responses?|questions?|quer(?:y|ies))"
_KIND = rf"(?:{_NOUN}|reply|version|texts?|paragraph|sentences?)"
_REST = r"[^\n:.!?]{0,120}"
_WITH = rf"(?:\ (?:\([^()\n]*\)|(?:with|from|using|including|incorporating|that|of\ the|in\ which|so\ that)\ {_REST}))?"
_YES = r"(?:sure(?:\ thing)?|certainly|of\ course|absolutely|okay|ok|alright|got\ it|understood|no\ problem|great|gladly)"
_I_HAVE = r"i(?:'ve|\u2019ve|'ll|\u2019ll|\ have|\ will)?(?:\ also|\ just|\ now)?"
_RULE = r"[-*_=]{3,}"
# What is said before the revision ends with a colon, or has its line to itself.
_CLOSE = r"(?:[*_]*:[*_]*|[.!]?[*_]*[ \t]*(?=\n|\Z))"

_OPENING = re.compile(
    rf"""(?:\#{{1,6}}\ *)?[*_]{{0,3}}(?:{_YES}\b[,.!\u2014\s-]*)?(?:
      # "Here is the revised answer with care:", "Below is a rewrite that keeps the facts:"
      (?:here(?:'s|\u2019s|\ is|\ are)|below\ is|the\ following\ is|this\ is)\b{_REST}?\b(?:
          {_REVISED}\ (?:\w+\ ){{0,2}}{_KIND}
        | {_NOUN}\b{_REST}?\ {_REVISED}
        | (?:revision|rewrite|rewording|paraphrase|rephrasing)(?=\W*[:.!\n]|\W*\Z|\ (?:of\ the|of\ your|that|with|from|using)\b)
        | (?:new|improved|alternative|another|different|fresh)\ (?:{_NOUN}|version\ of\ (?:the|your)\ {_NOUN}|angle|perspective)
        ){_REST}{_CLOSE}
    | here(?:'s|\u2019s|\ is)\ (?:the|my|your|an?)\ {_KIND}{_WITH}{_CLOSE}
      # "I have rewritten the answer so that it speaks of care:", "Let me rephrase the question:"
    | (?:{_I_HAVE}|let\ me|let's)\ {_REVISED}\ (?:the|your|this|my)\ (?:\w+\ ){{0,2}}{_KIND}\b{_REST}{_CLOSE}
    | (?:i(?:'d|\u2019d|\ would|'ll|\u2019ll|\ will|'m|\u2019m|\ am|\ can)\ )(?:be\ )?(?:(?:happy|glad|pleased)\ to\ )?
        (?:help|assist)(?:\ you)?(?:\ (?:with|by)\ (?:that|this|rewriting|revising|rephrasing)\b{_REST})?\s*[.!:]+
      # "Revised answer (with care):", "My rewritten question", "Rewritten from another angle:", "Answer:"
    | (?:(?:the|my|your)\ )?(?:{_REVISED}\ {_KIND}|(?:new|improved|updated|alternative|final)\ {_NOUN}){_WITH}{_CLOSE}
    | (?:revised|rewritten|reworded|rephrased){_WITH}[*_]*:[*_]*
    | (?:answer|response|question|query)[*_]*:[*_]*
    )\s*(?:{_RULE}[ \t]*\n\s*)?
    # "Sure!" is said to the one who asked for the revision; "Sure, you can freeze it" is an answer.
    | (?:sure(?:\ thing)?|certainly|of\ course|okay|ok|got\ it|understood)!+(?:\s+|\Z)""",
    re.IGNORECASE | re.VERBOSE,
)

_DONE = r"(?:added|incorporat|includ|kept|keep|us(?:ed|ing)|tried|wove|work(?:ed|ing)|chang|replac|maintain|made|aimed|focus)\w*"
_DOES = r"(?:keep|include|incorporate|maintain|retain|preserve|emphasi[sz]e|highlight|add|use|provide|offer|focus|aim)(?:e?s|d)?"
_CLOSING = re.compile(
    rf"""(?:(?<=[.!?:)\]"\u201d*\u3002])\s+|\n\s*|\A\s*)(?:{_RULE}\s*)?[*_(\[]{{0,4}}(?:
      (?:i\ )?hope\ (?:this|that|it)\ (?:\w+\ )?(?:helps?|is\ (?:helpful|useful)|meets\ your)\b[^\n.!?]*[.!?]*
    | (?:please\ )?let\ me\ know\b(?=[^\n.!?]*\b(?:any|anything|else|further|more|another|help|adjust\w*|changes?
        |would\ like\ me|you'd\ like\ me|want\ me)\b)[^\n.!?]*[.!?]*
    | (?:please\ )?feel\ free\ to\ (?:ask\ (?:me|if|any|for\ (?:more|further))|let\ me\ know|reach\ out)\b[^\n.!?]*[.!?]*
    | (?:is\ there\ anything\ else\ (?:i\ can|you)|would\ you\ like\ me\ to|do\ you\ want\ me\ to)\b[^\n.!?]*[.!?]*
    | note[*_]*:[*_]*\ +(?:that\ )?(?:{_I_HAVE}\ {_DONE}|(?:the|this)\ (?:{_REVISED}|new)\ {_KIND}|the\ (?:\w+\ )?words?\b
        |in\ this\ (?:revision|rewrite|version))[^\n]*
    | (?:the\ |seed\ |key\ )?(?:words?|keywords?)\ (?:i\ )?(?:used|included|incorporated|worked\ in|added)[*_]*:[^\n]*
    | {_I_HAVE}\ {_DONE}\ (?:in\ )?(?:(?:all|some|\w+)\ of\ )?(?:the|these|those|your)\ (?:\w+\ )?words?\b[^\n]*
    | (?:this|the)\ {_REVISED}\ {_NOUN}\ (?:now\ |also\ )?{_DOES}\b[^\n]*
    | this\ (?:{_REVISED}\ version|revision|rewrite)\ (?:now\ |also\ )?{_DOES}\b[^\n]*
    | in\ (?:this|the)\ (?:revision|rewrite|{_REVISED}\ {_KIND}),?\ i\b[^\n]*
    )[*_)\]]{{0,4}}\s*\Z""",
    re.IGNORECASE | re.VERBOSE,
)

# A fence with the name of a programming language is the answer itself.
_FENCED = re.compile(r"(```|~~~)[ \t]*(?:te?xt|plain(?:text)?|markdown|md)?[ \t]*\n(.*)\n[ \t]*\1", re.DOTALL | re.IGNORECASE)
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "\u300c": "\u300d"}
# The prompt's last lines over again; the part that was to be revised comes second.
_ECHO: dict[str, re.Pattern[str]] = {
    "response": re.compile(r"question:.*?\n\s*answer:", re.DOTALL | re.IGNORECASE),
    "query": re.compile(r"answer:.*?\n\s*question:", re.DOTALL | re.IGNORECASE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A reply as it was read."""

    text: str | None
    """The revised text; None if the reply holds none."""
    stripped: bool
    """Whether talk, thinking or a fence was cut off; quotes and blanks do not count."""
    reason: str = ""
    """Why there is no text; "" if there is one."""


def revision_request(chat: Chat, words: Sequence[str], *, target: str = "response") -> tuple[Message, ...]:
    """The conversation that asks for a revision of `chat`'s answer (or query) with some of `words`.

    With no words at all it is the plain rewrite: the control that tells what the seed words add.
    """
    values = {"words": ", ".join(words), "query": chat.query, "response": chat.answer or ""}
    return (Message(role="user", content=fill(PROMPTS[target, bool(words)], values)),)


def read_revision(reply: str, *, target: str = "response") -> Revision:
    """The revised text in `reply`, bare of what a model says around it; what was read once is read the same again.

    Taken off, as often as it stands there: a thinking part, an opening ("Sure! Here is the revised answer:"), a closing
    ("I hope this helps!", "(Note: I added ...)"), the prompt's own question before the answer, a fence and one pair of
    quotes round the whole. An answer that opens with "Here is how" or ends with "Note: let it cool." stays whole.
    """
    text, stripped = reply.strip(), False
    if not text:
        return Revision(text=None, stripped=False, reason="the reply is empty")
    while True:
        if read_text(text).unfinished:
            return Revision(text=None, stripped=stripped, reason="the model's thinking does not end")
        bare = _without_talk(text, target)
        stripped = stripped or bare != text
        bare = _without_quotes(bare)
        if bare == text:
            break
        text = bare
    if not text:
        return Revision(text=None, stripped=stripped, reason="the reply holds talk about the revision and no text")
    return Revision(text=text, stripped=stripped)


def _without_talk(text: str, target: str) -> str:
    """`text` without the first piece of talk that is found; the same text if there is none."""
    answer = without_thinking(text)
    if answer != text:
        return answer
    for pattern in (_ECHO[target], _OPENING):
        match = pattern.match(text)
        if match:
            return text[match.end() :].strip()
    fenced = _FENCED.fullmatch(text)
    if fenced and fenced.group(1) not in fenced.group(2):
        return fenced.group(2).strip()
    return _CLOSING.sub("", text).strip()


def _without_quotes(text: str) -> str:
    """`text` without the pair of quotes round the whole; quotes inside it mean that there is no such pair."""
    close = _QUOTES.get(text[:1])
    if close is None or len(text) < 2 or text[-1] != close:
        return text
    inside = text[1:-1]
    return text if text[0] in inside or close in inside else inside.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRequest:
    """A revision that is asked for."""

    text: Text
    candidate: Candidate
    """Its parent's chat, and how it is asked for."""
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Revising:
    """Who rewrites, with which words: the requests for one text in one round."""

    settings: CurateSettings
    words: Sequence[str]
    writer: LM
    seed: int

    def overflow_tokens(self, chat: Chat, target: str) -> int:
        """Tokens by which the request to revise a chat is too long for who rewrites; 0 or less if it fits."""
        messages = revision_request(chat, self.words[: self.settings.words_per_prompt], target=target)
        return self.writer.overflow_tokens(messages, self.settings.max_new_tokens)

    def revision_requests(self, text: Text, parent: Candidate, turn: int) -> list[RevisionRequest]:
        """A request for each cell of the grid, all with the same words; none for a parent that grew too long to revise."""
        target = self.settings.turn_target(turn)
        if parent.round and self.overflow_tokens(parent.chat, target) > 0:
            return []
        row = f"{text.source}:{parent.chat.id}"
        words = draw(self.words, self.settings.words_per_prompt, seed=self.seed, row=row, turn=turn)
        messages = revision_request(parent.chat, words, target=target)
        grid = self.settings.grid
        if turn > 1:
            kept, direction = self.settings.grid_size, self.settings.direction
            grid = best_cells(text.measured[1:], grid, kept, direction=direction, seed=self.seed)
        revision_requests = []
        for temperature, top_p in grid:
            request = replace(
                Candidate(chat=parent.chat),
                round=turn,
                parent=parent.chat.id,
                words=tuple(words),
                temperature=temperature,
                top_p=top_p,
            )
            sampling = Sampling(
                temperature=temperature, top_p=top_p, max_new_tokens=self.settings.max_new_tokens, seed=self.seed + turn
            )
            revision_requests.append(
                RevisionRequest(text=text, candidate=request, request=Request(messages=messages, sampling=sampling))
            )
        return revision_requests
