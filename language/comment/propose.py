"""Drafts of comments from a model: beginnings drawn with a seed, written to their end, each judged as it grows."""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from language.comment.decoder import Decoder
from language.rules import EMOJI

DRAWN = 3  # tokens that each comment begins with; what follows is the likeliest
WIDTH = 32  # likeliest next tokens that a beginning is drawn from
TEMPERATURE = 1.2  # of that draw
LEEWAY = 0.4  # in mean log probability per token
MOST_TOKENS = 96  # of a comment

Flaws = Callable[[str], frozenset[str]]  # of a text; `language.comment.judge`


@dataclass(frozen=True, slots=True)
class Draft:
    """A comment on its way.

    Attributes:
        tokens: those of the plan (`skip` of them), then the comment's.
        total: summed log probability of the comment's tokens.
        sureness: the least mean log probability of what was written on after a drawn token. A bold beginning may be
            unlikely, but a model that does not know how to go on from it mixes up its sentences.
        text, flaws: as judged; None before.
    """

    skip: int
    tokens: list[str]
    total: float = 0.0
    sureness: float = 0.0
    text: str | None = None
    flaws: frozenset[str] | None = None

    @property
    def new(self) -> list[str]:
        """The comment's tokens."""
        return self.tokens[self.skip :]

    @property
    def score(self) -> float:
        """Mean log probability per token."""
        return self.total / max(1, len(self.new))


def propose(
    decoder: Decoder,
    source: list[str],
    plans: Iterable[str],
    count: int,
    rng: random.Random,
    flaws: Flaws,
    mendable: frozenset[str],
) -> list[Draft]:
    """Some `count` / 2 whole drafts, judged, over all plans.

    CTranslate2's own sampler is seeded once per thread, so its draws depend on what was written before. Here the first
    tokens, and the first of each further sentence, are drawn with our seed; the others are the likeliest. After their
    first sentence half of the drafts, those with flaws that no rest can mend or with the least sureness, are given up.

    Args:
        source, plans: what the model reads, as tokens, and what it is made to begin with, as texts.
    """
    starts = [decoder.tokens(plan) for plan in dict.fromkeys(plans)]
    drafts = [Draft(len(start), start) for start in starts]
    drafts = _drawn(decoder, source, drafts, WIDTH, -(-count // len(starts)), rng)
    for _ in range(DRAWN - 1):
        drafts = _drawn(decoder, source, drafts, WIDTH, 1, rng)
    drafts = list(_written_on(decoder, source, drafts, flaws))
    drafts = rank([d for d in drafts if d.flaws <= mendable], rng)[: -(-count // 2)]
    done = [d for d in drafts if _is_whole(decoder, d)]
    drafts = [d for d in drafts if not _is_whole(decoder, d)]
    while drafts:
        drawn = _drawn(decoder, source, drafts, WIDTH // 2, 1, rng)
        drawn = [_judged(decoder, d, flaws) if _may_end(decoder, d) else d for d in drawn]
        done += [d for d in drawn if _is_whole(decoder, d)]
        grown = list(_written_on(decoder, source, [d for d in drawn if not _is_whole(decoder, d)], flaws))
        done += [d for d in grown if _is_whole(decoder, d)]
        drafts = [d for d in grown if not _is_whole(decoder, d) and len(d.new) < MOST_TOKENS]
    return done


def draw(likely: list[tuple[list[str], float]], count: int, rng: random.Random) -> list[tuple[list[str], float]]:
    """Up to `count` different continuations, drawn by their probability at `TEMPERATURE`.

    Source: the Gumbel-top-k trick (Kool et al. 2019, "Stochastic Beams and Where to Find Them").
    """
    key = lambda item: item[1] / TEMPERATURE - math.log(-math.log(rng.random() or 1e-12))
    return sorted(likely, key=key, reverse=True)[:count]


def rank(drafts: list[Draft], rng: random.Random) -> list[Draft]:
    """Drafts by sureness: those within `LEEWAY` of the best in a drawn order, then the others from the best on."""
    best = max((d.sureness for d in drafts), default=0)
    place = lambda d: rng.random() if d.sureness >= best - LEEWAY else 1 + best - d.sureness
    return sorted(drafts, key=place)


def _drawn(
    decoder: Decoder, source: list[str], drafts: list[Draft], width: int, each: int, rng: random.Random
) -> list[Draft]:
    """Each draft with `each` different next tokens drawn from the `width` likeliest."""
    likely = decoder.next_tokens(source, [draft.tokens for draft in drafts], width)
    return [
        replace(draft, tokens=tokens, total=draft.total + score, text=None, flaws=None)
        for draft, options in zip(drafts, likely, strict=True)
        for tokens, score in draw(options, each, rng)
    ]


def _written_on(decoder: Decoder, source: list[str], drafts: list[Draft], flaws: Flaws) -> Iterator[Draft]:
    """Each draft with its sentence written to the end, and judged."""
    grown = decoder.go_on(source, [draft.tokens for draft in drafts])
    for d, (tokens, more) in zip(drafts, grown, strict=True):
        sureness = min(d.sureness, more / max(1, len(tokens) - len(d.tokens)))
        yield _judged(decoder, replace(d, tokens=tokens, total=d.total + more, sureness=sureness), flaws)


def _judged(decoder: Decoder, draft: Draft, flaws: Flaws) -> Draft:
    text = decoder.text(draft.new)
    return replace(draft, text=text, flaws=flaws(text))


def _may_end(decoder: Decoder, draft: Draft) -> bool:
    """Whether a draft's last token may be its last."""
    return draft.tokens[-1] == decoder.eos or bool(EMOJI.search(draft.tokens[-1]))


def _is_whole(decoder: Decoder, draft: Draft) -> bool:
    """Whether the model ended a judged draft, or it has come to an emoji and lacks nothing."""
    if draft.flaws is None or not _may_end(decoder, draft):
        return False
    return draft.tokens[-1] == decoder.eos or not draft.flaws
