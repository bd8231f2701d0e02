"""Comments for element lists: sampled candidates, reranked by the rules and the model's score."""

import math
import random
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace

from configs.errors import UserError
from detection.labels import THING_IDS
from language.comment import corpus
from language.comment.card import BANK, check_fingerprints, find_model, fingerprints, read_card
from language.comment.decoder import THREADS, Decoder
from language.comment.fluency import MOST_NEW, TOO_NEW, load_threes, new_threes, stutters, wrong_article
from language.comment.whole import choose
from language.memory import Memory, opening
from language.records import Comment, Element, ElementList, find_evidence
from language.render import end_after_source, render_input, render_plan, render_source
from language.rules import EMOJI, is_tender, sentences, violations

CANDIDATES = 8  # written in one batch, over all plans
WIDTH = 32  # likeliest next tokens that a beginning is drawn from
TEMPERATURE = 0.8  # of that draw
LEEWAY = 0.15  # in mean log probability per token
MOST_TOKENS = 96  # of a comment
MOST_SOURCE = 64  # tokens of an element list: some 25 names
OPEN_RULES = {"emoji", "names nothing", "length", "speech level"}  # a first sentence may still come to keep them
LONGEST_NAME = 30  # characters of a name that still fits into a comment
ROUNDS = 16  # of candidates, while too few of them keep the rules


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
        self.architecture, self.template = card["architecture"], card["template"]
        self.threes = load_threes(folder)
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

        Where the model writes too few that keep the rules, the phrase bank fills up (`Comment.source`).

        Args:
            elements: an `ElementList`, ids (`["panic", "Hat"]`) or names in any language (`"공포, 모자"`).
            memory: what was said lately; the best comment is added to it.
        """
        if count < 1:
            raise UserError(f"count must be at least 1, but got {count}")
        elements = self._fitting(self._as_list(elements))
        rng = random.Random(f"{seed} {render_input(elements)}")
        chosen = self._whole(elements, count, rng, memory)
        if len(chosen) < count and self.decoder:
            taken = {opening(c.text) for c in chosen}
            more = self._from_model(self._learned(elements), count - len(chosen), rng, memory)
            chosen += [c for c in more if opening(c.text) not in taken]
        chosen += self._from_bank(elements, count - len(chosen), rng, {opening(c.text) for c in chosen})
        if memory:
            memory.add(chosen[0].text)
        return [replace(c, evidence=find_evidence(c.text, elements)) for c in chosen]

    def _as_list(self, elements: ElementList | Iterable[str] | str) -> ElementList:
        if isinstance(elements, str):
            return ElementList.parse(elements, self.lang)
        if not isinstance(elements, ElementList):
            return ElementList.from_ids(elements, self.lang)
        return elements if elements.lang == self.lang else ElementList.from_ids((e.id for e in elements), self.lang)

    def _whole(self, elements: ElementList, count: int, rng: random.Random, memory: Memory | None) -> list[Comment]:
        """Comments written by hand: all of the bank's, others' where they have not learned what leads the list, or
        nothing is there."""
        lead = next((e for e in elements if e.kind != "emotion"), None)
        learned = bool(len(elements)) if lead is None else lead.kind == "object" and lead.id not in THING_IDS
        if learned and self.decoder:
            return []
        repeats = memory.repeats if memory else lambda text: 0
        found = choose(elements, self.style, count, rng, repeats)
        return [Comment(text, chance, source="whole comment") for text, chance in found]

    @staticmethod
    def _learned(elements: ElementList) -> ElementList:
        """The feelings and things of a list, which is what the model knows."""
        return ElementList(tuple(elements.of_kind("emotion", "object")), elements.lang)

    def _fitting(self, elements: ElementList) -> ElementList:
        """The elements, less those that would make the input longer than what the model can read (or ever saw)."""
        kept, left = [], MOST_SOURCE
        for element in elements:
            length = len(self.decoder.tokens(f", {element.name}")) if self.decoder else 0
            if length <= left and (self.decoder or len(element.name) <= LONGEST_NAME):
                kept.append(element)
                left -= length
        return elements if len(kept) == len(elements) else ElementList(tuple(kept), elements.lang)

    def _from_model(self, elements: ElementList, count: int, rng: random.Random, memory: Memory | None):
        """Up to `count` comments that break no rule and begin differently, what was not said lately first."""
        repeats = memory.repeats if memory else lambda text: 0
        good: dict[str, Comment] = {}
        plain = not elements.of_kind("emotion")
        # without a feeling to join, a second sentence is mostly a remark of its own
        worse = lambda c: (repeats(c.text), self._is_bold(c.text, elements), plain and sentences(c.text) > 1)
        for _ in range(ROUNDS):
            candidates = self._candidates(elements, rng, max(CANDIDATES, 3 * count))
            for draft in self._ranked([d for d in candidates if not self._flaws(d, elements)], elements, rng):
                text = self.decoder.text(draft.new)
                good.setdefault(opening(text), Comment(text, round(draft.score, 4)))
            if sum(not any(worse(c)[:2]) for c in good.values()) >= count:
                break
        return sorted(good.values(), key=worse)[:count]

    def _candidates(self, elements: ElementList, rng: random.Random, count: int) -> list["Draft"]:
        """For each plan of what to speak of, several beginnings drawn, the best quarter written to its end.

        CTranslate2's own sampler is seeded once per thread, so its draws depend on what was written before. Here the
        first token of each sentence and of what follows the last is drawn with our seed, the others are the likeliest.
        Beginnings that break a rule or score badly are given up after their first sentence.
        """
        source = self._source(elements)
        rendered = [render_plan(elements, plan, self.style, self.template) for plan in plans(elements, rng)]
        starts = [self.decoder.tokens(plan) for plan in dict.fromkeys(rendered)]
        drafts = [Draft(len(start), start) for start in starts]
        drafts = self._written_on(source, self._drawn(source, drafts, WIDTH, -(-count // len(starts)), rng))
        drafts = self._ranked([d for d in drafts if not self._spoiled(d, elements)], elements, rng)[: -(-count // 4)]
        done: list[Draft] = []
        while drafts:
            drawn = self._drawn(source, drafts, WIDTH // 2, 1, rng)
            done += [d for d in drawn if self._ended(d, elements)]
            grown = self._written_on(source, [d for d in drawn if not self._ended(d, elements)])
            done += [d for d in grown if self._ended(d, elements)]
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
            "mixed up": new_threes(text, elements, self.threes) >= TOO_NEW,
        }
        return {*violations(text, elements, self.style), *(name for name, hit in slips.items() if hit)}

    def _is_bold(self, text: str, elements: ElementList) -> bool:
        return new_threes(text, elements, self.threes) > MOST_NEW

    def _ranked(self, drafts: list["Draft"], elements: ElementList, rng: random.Random) -> list["Draft"]:
        """Drafts by sureness, bold ones last."""
        return sorted(rank(drafts, rng), key=lambda d: self._is_bold(self.decoder.text(d.new), elements))

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

    def _from_bank(self, elements: ElementList, count: int, rng: random.Random, taken: set[str]) -> list[Comment]:
        """`count` comments from the phrase bank with beginnings that are not taken yet."""
        if not count:
            return []
        from language.comment.corpus.compose import compose  # half a megabyte of phrases, seldom needed

        found: dict[str, str] = {}
        feelings = ElementList(tuple(elements.of_kind("emotion")), elements.lang)
        # a name that itself breaks a rule is better not spoken of
        for spoken_of, allowed in ((elements, set()), (feelings, {"names nothing"})):
            for _ in range(50 * count):
                text = compose(spoken_of, rng, self.style)
                if opening(text) not in taken and set(violations(text, elements, self.style)) <= allowed:
                    found.setdefault(opening(text), text)
                if len(found) == count:
                    break
        return [Comment(text, self._likely(text, elements), source="phrase bank") for text in [*found.values()][:count]]

    def _likely(self, text: str, elements: ElementList) -> float:
        """Mean log probability per token of somebody else's comment; 0 where there is no model."""
        if not self.decoder:
            return 0.0
        plan = self.decoder.tokens(render_plan(elements, [], self.style, self.template))
        return round(self.decoder.log_probability(self._source(elements), plan, self.decoder.tokens(text)), 4)

    def _source(self, elements: ElementList) -> list[str]:
        end = [self.decoder.eos] if end_after_source(self.architecture, self.template) else []
        return self.decoder.tokens(render_source(elements, self.template)) + end


def plans(elements: ElementList, rng: random.Random) -> list[list[Element]]:
    """Up to four choices of which things a comment speaks of: one, or two where the mood is light.

    The one most worth it has the best chance; what else comes is drawn.
    """
    things = elements.of_kind("object")[:4]
    if not things:
        return [[]]
    if is_tender(elements):
        return [[thing] for thing in things[:2]]
    pairs = [[a, b] for a in things[:2] for b in things if a != b]
    return [[things[0]], *rng.sample(pairs, min(3, len(pairs)))]


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
