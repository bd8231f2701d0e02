"""How a local model draws its next token: each request by its own temperature, top-p, seed and grammar, in one batch.

Every request has its own random numbers, so its reply does not depend on which others share its batch.
"""

import json

import llguidance
import llguidance.hf
import numpy as np
import torch
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from transformers import LogitsProcessor

from datagen.llm.records import RejectedError, Request

COMPACT = {"whitespace_flexible": False}  # spaces without end would be allowed, and never closed


class Grammars:
    """JSON schemas as grammars over a tokenizer's tokens; each is compiled once."""

    def __init__(self, tokenizer, tokens: int, ends: list[int]) -> None:
        self.tokens, self.ends = tokens, ends
        self.tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=tokens, eos_token=ends)
        self.compiled: dict[str, llguidance.LLMatcher] = {}

    def matcher(self, schema: dict) -> llguidance.LLMatcher:
        """A fresh matcher of replies to a schema.

        Raises:
            RejectedError: the schema cannot be made into a grammar.
        """
        text = json.dumps(schema)
        if text not in self.compiled:
            matcher = llguidance.LLMatcher(
                self.tokenizer, llguidance.LLMatcher.grammar_from_json_schema(text, defaults=COMPACT)
            )
            if matcher.is_error():
                raise RejectedError(f"no grammar for the schema: {' '.join(matcher.get_error().split())[:200]}")
            self.compiled[text] = matcher
        return self.compiled[text].deep_copy()


class Draw(LogitsProcessor):
    """Turns the scores of a batch so that their greatest is a fair draw by each row's request."""

    def __init__(
        self, requests: list[Request], matchers: list[llguidance.LLMatcher | None], tokens: int, ends: list[int]
    ) -> None:
        self.requests, self.matchers = requests, matchers
        self.masks = allocate_token_bitmask(len(requests), tokens)  # rows without a grammar stay all ones
        self.end = np.zeros_like(self.masks[0])
        for token in ends:
            self.end[token // 32] |= np.array(1 << token % 32, np.uint32).astype(np.int32)
        self.random = [torch.Generator().manual_seed(int(request.hash[:15], 16)) for request in requests]
        self.started = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        scores = scores.float()  # shape: (requests, tokens)
        if any(self.matchers):
            self._allow(input_ids[:, -1].tolist(), scores)
        for row, (request, random) in enumerate(zip(self.requests, self.random, strict=True)):
            if request.temperature:
                scores[row] = _within(scores[row] / request.temperature, request.top_p)
                noise = torch.rand(scores.shape[1], generator=random).clamp(1e-20)
                scores[row] -= (-noise.log()).log().to(scores.device)  # Gumbel: the greatest sum is a fair draw
        return scores

    def _allow(self, last: list[int], scores: torch.FloatTensor) -> None:
        """Forbid what would leave the grammar; where it is complete, only the end is left."""
        for row, matcher in enumerate(self.matchers):
            if not matcher:
                continue
            if self.started and not matcher.is_stopped():
                matcher.consume_token(last[row])
            if matcher.is_stopped():
                self.masks[row] = self.end
            else:
                fill_next_token_bitmask(matcher, self.masks, row)
        self.started = True
        bits = np.unpackbits(self.masks.view(np.uint8), axis=1, bitorder="little")[:, : scores.shape[1]]
        scores.masked_fill_(torch.from_numpy(bits == 0).to(scores.device), float("-inf"))


def _within(scores: torch.FloatTensor, top_p: float) -> torch.FloatTensor:
    """Scores of the likeliest tokens that together have `top_p` of the probability; the others are ruled out."""
    if top_p >= 1:
        return scores
    ordered, where = scores.sort(descending=True)
    shares = ordered.softmax(-1)
    out = shares.cumsum(-1) - shares >= top_p  # the likeliest one always stays
    return scores.masked_fill(torch.zeros_like(out).scatter(0, where, out), float("-inf"))
