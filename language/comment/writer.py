"""Comments for element lists: a model proposes drafts, a judge finds their flaws, the writer chooses."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import zip_longest

from common.errors import UserError
from language.comment import corpus
from language.comment.card import BANK, check_fingerprints, find_model, fingerprints, read_card, sort_of
from language.comment.decoder import THREADS, Decoder
from language.comment.fluency import NOTHING_TAUGHT, load_sequences
from language.comment.judge import MENDABLE, Judge
from language.comment.propose import propose, rank
from language.comment.whole import belonging, choose, in_turn, thoughts
from language.memory import Memory, opening
from language.records import Comment, Element, ElementList, find_evidence
from language.render import end_after_source, render_input, render_plan, render_source
from language.voice import Voice

CANDIDATES = 8  # written in one batch, over all plans
ROUNDS = 8  # of candidates, while too few of them keep the rules
MOST_SOURCE = 64  # tokens of an element list: some 25 names
LONGEST_NAME = 30  # characters of a name that still fits into a comment


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
        self.model, self.voice, self.decoder = model, Voice(lang, style), None
        self.sequences = NOTHING_TAUGHT
        if model == BANK:
            self.styles = {known: list(corpus.STYLES) for known in corpus.LANGUAGES}
            self.check(self.voice)
            return
        folder = find_model(str(model))
        card = read_card(folder)
        self.styles = card["styles"]
        self.check(self.voice)
        self.architecture, self.template, self.sorts = card["architecture"], card["template"], card["sorts"]
        self.sequences = load_sequences(folder)
        self.decoder = Decoder(folder, self.architecture, card["eos"], threads)
        check_fingerprints(card["fingerprints"], fingerprints(self.decoder.tokenizer, self.template), folder)

    def check(self, voice: Voice) -> None:
        """Refuse a voice that this writer does not have.

        Raises:
            UserError: names the languages and styles that it has.
        """
        lang, style = voice.lang, voice.style
        if lang not in self.styles:
            raise UserError(f"the writer {self.model} writes {', '.join(self.styles)} only, not {lang}")
        if style not in self.styles[lang]:
            raise UserError(f"the writer {self.model} has no style {style} (it has: {', '.join(self.styles[lang])})")

    def write(
        self,
        elements: ElementList | Iterable[str] | str,
        count: int = 1,
        seed: int = 0,
        memory: Memory | None = None,
        voice: Voice | None = None,
    ) -> list[Comment]:
        """`count` comments that begin differently, best first; the same seed gives the same comments.

        Where the model has not learned what leads the list, or writes too few that keep the rules, comments written by
        hand fill up (`Comment.source`).

        Args:
            elements: an `ElementList`, ids (`["panic", "Hat"]`) or names in any language (`"공포, 모자"`).
            memory: what was said lately; the best comment is added to it.
            voice: where it is not the writer's own.

        Raises:
            UserError: `count` is less than 1, or this writer does not speak so.
        """
        if count < 1:
            raise UserError(f"count must be at least 1, but got {count}")
        voice = voice or self.voice
        self.check(voice)
        elements = self._fitting(as_list(elements, voice.lang))
        rng = random.Random(f"{seed} {render_input(elements)}")
        repeats = memory.repeats if memory else lambda text: 0
        learned = self._has_learned(elements)
        chosen = self._from_model(elements, voice.style, count, rng, repeats) if learned else []
        taken = {opening(c.text) for c in chosen}
        chosen += by_hand(elements, voice.style, count - len(chosen), rng, repeats, taken)
        if memory:
            memory.add(chosen[0].text)
        return [replace(c, evidence=find_evidence(c.text, elements)) for c in chosen]

    def _has_learned(self, elements: ElementList) -> bool:
        """Whether the model knows what leads a list; of just a photo a person speaks."""
        lead = thoughts(elements)[0]
        return bool(self.decoder and elements and (lead is None or sort_of(lead) in self.sorts))

    def _fitting(self, elements: ElementList) -> ElementList:
        """The elements, less those that would make the input longer than what the model can read (or ever saw)."""
        kept, left = [], MOST_SOURCE
        for element in elements:
            length = len(self.decoder.tokens(f", {element.name}")) if self.decoder else 0
            if length <= left and (self.decoder or len(element.name) <= LONGEST_NAME):
                kept.append(element)
                left -= length
        return elements if len(kept) == len(elements) else ElementList(tuple(kept), elements.lang)

    def _from_model(
        self, elements: ElementList, style: str, count: int, rng: random.Random, repeats: Callable
    ) -> list[Comment]:
        """Up to `count` comments that break no rule and begin differently, each about a thought of its own where the
        list has as many."""
        known = ElementList(tuple(e for e in elements if sort_of(e) in self.sorts), elements.lang)
        judge, leads = Judge(known, style, self.sequences), in_turn(known, rng)[:count]
        found = [self._about(lead, judge, -(-count // len(leads)), rng, repeats) for lead in leads]
        good: dict[str, Comment] = {}
        for comments in zip_longest(*found):  # first choices first
            for comment in filter(None, comments):
                good.setdefault(opening(comment.text), comment)
        return [*good.values()][:count]

    def _about(
        self, lead: Element | None, judge: Judge, count: int, rng: random.Random, repeats: Callable
    ) -> list[Comment]:
        """Comments about `lead`, or about the feelings, none that repeats what was said lately: `count` where the
        model writes as many that keep the rules."""
        elements, style = judge.elements, judge.style
        planned = [render_plan(elements, plan, style, self.template) for plan in plans(lead, elements, style)]
        source, most = self.source_tokens(elements), max(CANDIDATES, 3 * count)
        good: dict[str, Comment] = {}
        for _ in range(ROUNDS):
            drafts = propose(self.decoder, source, planned, most, rng, judge.flaws, MENDABLE)
            for draft in rank([d for d in drafts if not d.flaws], rng):
                good.setdefault(opening(draft.text), Comment(draft.text, round(draft.score, 4)))
            fresh = [c for c in good.values() if not repeats(c.text)]
            if len(fresh) >= count:
                break
        return fresh

    def source_tokens(self, elements: ElementList) -> list[str]:
        """What the model reads of a list."""
        end = [self.decoder.eos] if end_after_source(self.architecture, self.template) else []
        return self.decoder.tokens(render_source(elements, self.template)) + end


def as_list(elements: ElementList | Iterable[str] | str, lang: str) -> ElementList:
    """What a caller named, as an element list in a language.

    Raises:
        UserError: an id is not known, or the names cannot be read.
    """
    if isinstance(elements, str):
        return ElementList.parse(elements, lang)
    if not isinstance(elements, ElementList):
        return ElementList.from_ids(elements, lang)
    return elements if elements.lang == lang else ElementList.from_ids((e.id for e in elements), lang)


def by_hand(
    elements: ElementList, style: str, count: int, rng: random.Random, repeats: Callable, taken: set[str]
) -> list[Comment]:
    """`count` comments written by hand, with beginnings that are not `taken` yet."""
    found: list[Comment] = []
    feelings = ElementList(tuple(elements.of_kind("emotion")), elements.lang)
    for spoken_of in (elements, feelings, ElementList((), elements.lang)):  # a name itself may break a rule
        for text, chance in choose(spoken_of, style, count + len(taken), rng, repeats):
            if len(found) < count and opening(text) not in taken:
                found.append(Comment(text, chance, source="whole comment"))
                taken = taken | {opening(text)}
        if len(found) == count:
            break
    return found


def plans(lead: Element | None, elements: ElementList, style: str) -> list[list[Element]]:
    """What a comment about `lead`, or about the feelings, may speak of: it alone, and with what belongs to it."""
    if not lead:
        return [[]]
    with_it = [
        e for e in elements if e.kind != "emotion" and frozenset((lead.id, e.id)) in belonging(elements.lang, style)
    ]
    return [[lead], *([lead, e] for e in with_it[:2])]
