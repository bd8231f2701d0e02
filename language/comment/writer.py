"""Comments for element lists: sampled candidates, reranked by the rules and the model's score."""

import math
import random
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from itertools import zip_longest

from configs.errors import UserError
from language.comment import corpus
from language.comment.card import BANK, check_fingerprints, find_model, fingerprints, read_card, sort_of
from language.comment.decoder import THREADS, Decoder
from language.comment.fluency import load_sequences, new_sequences, stutters, wrong_article
from language.comment.whole import belonging, choose, in_turn, thoughts, unfitting
from language.memory import Memory, opening
from language.records import Comment, Element, ElementList, find_evidence
from language.render import end_after_source, render_input, render_plan, render_source
from language.rules import EMOJI, violations

CANDIDATES = 8  # written in one batch, over all plans
DRAWN = 3  # tokens that each comment begins with; what follows is the likeliest
WIDTH = 32  # likeliest next tokens that a beginning is drawn from
TEMPERATURE = 1.2  # of that draw
LEEWAY = 0.4  # in mean log probability per token
MOST_TOKENS = 96  # of a comment
MOST_SOURCE = 64  # tokens of an element list: some 25 names
OPEN_RULES = {"emoji", "names nothing", "length", "speech level"}  # a first sentence may still come to keep them
LONGEST_NAME = 30  # characters of a name that still fits into a comment
ROUNDS = 8  # of candidates, while too few of them keep the rules


@dataclass(frozen=True, slots=True)
class Draft:
    """A comment on its way: tokens after those of the plan (`skip`), and their summed log probability.

    `sureness` is the least mean log probability of what was written on after a drawn token: a bold beginning may be
    unlikely, but a model that does not know how to go on from it mixes up its sentences.
    """

    skip: int
    tokens: list[str]
    total: float = 0.0
    sureness: float = 0.0

    @property
    def new(self) -> list[str]:
        """The comment's tokens."""
        return self.tokens[self.skip :]

    @property
    def score(self) -> float:
        """Mean log probability per token."""
        return self.total / max(1, len(self.new))


class CommentWriter:
    """Writes comments for element lists.

    Args:
        model: "t5" or "gpt2" (embedded), "bank" (no model: comments written by hand), or the folder of a trained
            writer.
        lang: language of the comments.
        style: "polite" or "casual".
        threads: that all calls together take.

    Raises:
        UserError: the model does not exist, is damaged, was made for another rendering or tokenizer, or does not
            write this language or style.
    """

    def __init__(self, model: str = "t5", lang: str = "ko", style: str = "polite", threads: int = THREADS):
        self.model, self.decoder = model, None
        if model == BANK:
            self.styles = {known: list(corpus.STYLES) for known in corpus.LANGUAGES}
            self._speak(lang, style)
            return
        folder = find_model(str(model))
        card = read_card(folder)
        self.styles = card["styles"]
        self._speak(lang, style)
        self.architecture, self.template, self.sorts = card["architecture"], card["template"], card["sorts"]
        self.sequences = load_sequences(folder)
        self.decoder = Decoder(folder, self.architecture, card["eos"], threads)
        check_fingerprints(card["fingerprints"], fingerprints(self.decoder.tokenizer, self.template), folder)

    def _speak(self, lang: str, style: str) -> None:
        if lang not in self.styles:
            raise UserError(f"the writer {self.model} writes {', '.join(self.styles)} only, not {lang}")
        if style not in self.styles[lang]:
            raise UserError(f"the writer {self.model} has no style {style} (it has: {', '.join(self.styles[lang])})")
        self.lang, self.style = lang, style

    def speaking(self, lang: str, style: str) -> "CommentWriter":
        """A writer of another language or style over the same weights.

        Raises:
            UserError: the model does not write it.
        """
        other = copy(self)
        other._speak(lang, style)
        return other

    def write(
        self, elements: ElementList | Iterable[str] | str, count: int = 1, seed: int = 0, memory: Memory | None = None
    ) -> list[Comment]:
        """`count` comments that begin differently, best first; the same seed gives the same comments.

        Where the model has not learned what leads the list, or writes too few that keep the rules, comments written by
        hand fill up (`Comment.source`).

        Args:
            elements: an `ElementList`, ids (`["panic", "Hat"]`) or names in any language (`"공포, 모자"`).
            memory: what was said lately; the best comment is added to it.
        """
        if count < 1:
            raise UserError(f"count must be at least 1, but got {count}")
        elements = self._fitting(self._as_list(elements))
        rng = random.Random(f"{seed} {render_input(elements)}")
        repeats = memory.repeats if memory else lambda text: 0
        chosen = self._from_model(elements, count, rng, repeats) if self._has_learned(elements) else []
        chosen += self._by_hand(elements, count - len(chosen), rng, repeats, {opening(c.text) for c in chosen})
        if memory:
            memory.add(chosen[0].text)
        return [replace(c, evidence=find_evidence(c.text, elements)) for c in chosen]

    def _as_list(self, elements: ElementList | Iterable[str] | str) -> ElementList:
        if isinstance(elements, str):
            return ElementList.parse(elements, self.lang)
        if not isinstance(elements, ElementList):
            return ElementList.from_ids(elements, self.lang)
        return elements if elements.lang == self.lang else ElementList.from_ids((e.id for e in elements), self.lang)

    def _has_learned(self, elements: ElementList) -> bool:
        """Whether the model knows what leads a list; of just a photo a person speaks."""
        lead = thoughts(elements)[0]
        return bool(self.decoder and elements and (lead is None or sort_of(lead) in self.sorts))

    def _by_hand(
        self, elements: ElementList, count: int, rng: random.Random, repeats: Callable, taken: set[str]
    ) -> list[Comment]:
        """`count` comments written by hand, with beginnings that are not taken yet."""
        found: list[Comment] = []
        feelings = ElementList(tuple(elements.of_kind("emotion")), elements.lang)
        for spoken_of in (elements, feelings, ElementList((), elements.lang)):  # a name itself may break a rule
            for text, chance in choose(spoken_of, self.style, count + len(taken), rng, repeats):
                if len(found) < count and opening(text) not in taken:
                    found.append(Comment(text, chance, source="whole comment"))
                    taken = taken | {opening(text)}
            if len(found) == count:
                break
        return found

    def _fitting(self, elements: ElementList) -> ElementList:
        """The elements, less those that would make the input longer than what the model can read (or ever saw)."""
        kept, left = [], MOST_SOURCE
        for element in elements:
            length = len(self.decoder.tokens(f", {element.name}")) if self.decoder else 0
            if length <= left and (self.decoder or len(element.name) <= LONGEST_NAME):
                kept.append(element)
                left -= length
        return elements if len(kept) == len(elements) else ElementList(tuple(kept), elements.lang)

    def _from_model(self, elements: ElementList, count: int, rng: random.Random, repeats: Callable) -> list[Comment]:
        """Up to `count` comments that break no rule and begin differently, each about a thought of its own where the
        list has as many."""
        known = ElementList(tuple(e for e in elements if sort_of(e) in self.sorts), elements.lang)
        leads = in_turn(known, rng)[:count]
        found = [self._about(lead, known, -(-count // len(leads)), rng, repeats) for lead in leads]
        good: dict[str, Comment] = {}
        for comments in zip_longest(*found):  # first choices first
            for comment in filter(None, comments):
                good.setdefault(opening(comment.text), comment)
        return [*good.values()][:count]

    def _about(
        self, lead: Element | None, elements: ElementList, count: int, rng: random.Random, repeats: Callable
    ) -> list[Comment]:
        """Comments about `lead`, or about the feelings, none that repeats what was said lately: `count` where the
        model writes as many that keep the rules."""
        good: dict[str, Comment] = {}
        unfit = unfitting(elements, self.style)
        for _ in range(ROUNDS):
            candidates = self._candidates(elements, plans(lead, elements, self.style), rng, max(CANDIDATES, 3 * count))
            for draft in rank([d for d in candidates if not self._flaws(d, elements)], rng):
                if (text := self.decoder.text(draft.new)) not in unfit:
                    good.setdefault(opening(text), Comment(text, round(draft.score, 4)))
            if sum(not repeats(c.text) for c in good.values()) >= count:
                break
        return [c for c in good.values() if not repeats(c.text)]

    def _candidates(
        self, elements: ElementList, planned: list[list[Element]], rng: random.Random, count: int
    ) -> list["Draft"]:
        """For each plan of what to speak of, several beginnings drawn, the better half written to its end.

        CTranslate2's own sampler is seeded once per thread, so its draws depend on what was written before. Here the
        first tokens, and the first of each further sentence, are drawn with our seed, the others are the likeliest.
        Beginnings that break a rule or score badly are given up after their first sentence.
        """
        source = self._source(elements)
        rendered = [render_plan(elements, plan, self.style, self.template) for plan in planned]
        starts = [self.decoder.tokens(plan) for plan in dict.fromkeys(rendered)]
        drafts = [Draft(len(start), start) for start in starts]
        drafts = self._drawn(source, drafts, WIDTH, -(-count // len(starts)), rng)
        for _ in range(DRAWN - 1):
            drafts = self._drawn(source, drafts, WIDTH, 1, rng)
        drafts = self._written_on(source, drafts)
        drafts = rank([d for d in drafts if not self._spoiled(d, elements)], rng)[: -(-count // 2)]
        done = [d for d in drafts if self._ended(d, elements)]
        drafts = [d for d in drafts if not self._ended(d, elements)]
        while drafts:
            drawn = self._drawn(source, drafts, WIDTH // 2, 1, rng)
            grown = self._written_on(source, [d for d in drawn if not self._ended(d, elements)])
            done += [d for d in (*drawn, *grown) if self._ended(d, elements)]
            drafts = [d for d in grown if not self._ended(d, elements) and len(d.new) < MOST_TOKENS]
        return done

    def _ended(self, draft: "Draft", elements: ElementList) -> bool:
        """Whether a comment is whole: the model ended it, or it has come to an emoji and lacks nothing."""
        last = draft.tokens[-1]
        if last == self.decoder.eos:
            return True
        return bool(EMOJI.search(last)) and not self._flaws(draft, elements)

    def _spoiled(self, draft: "Draft", elements: ElementList) -> bool:
        return bool(self._flaws(draft, elements) - OPEN_RULES)

    def _flaws(self, draft: "Draft", elements: ElementList) -> set[str]:
        """The rules that a draft breaks, and what gives a small model's slips away."""
        if not (text := self.decoder.text(draft.new)):
            return {"empty"}
        slips = {
            "stutters": stutters(text),
            "article": wrong_article(text),
            "mixed up": new_sequences(text, elements, self.sequences) > 0,
        }
        return {*violations(text, elements, self.style), *(name for name, hit in slips.items() if hit)}

    def _written_on(self, source: list[str], drafts: list["Draft"]) -> list["Draft"]:
        """Each draft with its sentence written to the end."""
        grown = self.decoder.go_on(source, [draft.tokens for draft in drafts])
        return [
            replace(
                d,
                tokens=tokens,
                total=d.total + more,
                sureness=min(d.sureness, more / max(1, len(tokens) - len(d.tokens))),
            )
            for d, (tokens, more) in zip(drafts, grown, strict=True)
        ]

    def _drawn(self, source: list[str], drafts: list["Draft"], width: int, each: int, rng: random.Random):
        """Each draft with `each` different next tokens drawn from the `width` likeliest."""
        likely = self.decoder.next_tokens(source, [draft.tokens for draft in drafts], width)
        return [
            replace(draft, tokens=tokens, total=draft.total + score)
            for draft, options in zip(drafts, likely, strict=True)
            for tokens, score in draw(options, each, rng)
        ]

    def _source(self, elements: ElementList) -> list[str]:
        end = [self.decoder.eos] if end_after_source(self.architecture, self.template) else []
        return self.decoder.tokens(render_source(elements, self.template)) + end


def plans(lead: Element | None, elements: ElementList, style: str) -> list[list[Element]]:
    """What a comment about `lead`, or about the feelings, may speak of: it alone, and with what belongs to it."""
    if not lead:
        return [[]]
    with_it = [
        e for e in elements if e.kind != "emotion" and frozenset((lead.id, e.id)) in belonging(elements.lang, style)
    ]
    return [[lead], *([lead, e] for e in with_it[:2])]


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
