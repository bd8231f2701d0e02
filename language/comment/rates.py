"""What a writer's filter does: how often a rule is broken before it and after it, how much is quoted, how much is new.

    python -m language.comment.rates t5 gpt2 bank --count 300 --lang en --style casual

Lists are drawn, half of them from photos (`language.comment.corpus.sample_list`). "Before" is the first draft of the
model as it stands; what a filter refuses never shows in figures of what is left.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter

from common.errors import exit_with
from language.comment import corpus
from language.comment.frames import fill, frames, groups
from language.comment.judge import Judge
from language.comment.propose import propose
from language.comment.whole import in_turn, wholes
from language.comment.writer import CommentWriter, plans
from language.records import ElementList
from language.render import render_plan
from language.voice import Voice


def first_draft(writer: CommentWriter, elements: ElementList, style: str, rng: random.Random) -> str | None:
    """What the model writes for a list where nothing is refused; None where it writes nothing to its end."""
    lead = in_turn(elements, rng)[0]
    planned = [render_plan(elements, plan, style, writer.template) for plan in plans(lead, elements, style)[:1]]
    source = writer.source_tokens(elements)
    drafts = propose(writer.decoder, source, planned, 2, rng, lambda text: frozenset(), frozenset())
    return drafts[0].text if drafts else None


def is_quote(text: str, elements: ElementList, style: str) -> bool:
    """Whether a comment stands in the corpus word for word, or as a frame with the name of one of its elements."""
    lang, own = elements.lang, [e for e in elements if e.kind != "emotion"]
    lines = {row["text"] for label in ("", *(e.id for e in own)) for row in wholes(lang, style).get(label, ())}
    if text in lines:
        return True
    framed = ((row["text"], e) for e in own for row in frames(lang, style).get(groups().get(e.id), ()))
    return any(fill(raw, e.id, e.name, lang) == text for raw, e in framed)


def measure(model: str, voice: Voice, count: int, seed: int = 0) -> dict:
    """Shares of `count` drawn lists, by figure; `before` and `after` by rule."""
    writer, rng = CommentWriter(model, voice.lang, voice.style), random.Random(seed)
    before, after, found, seconds = Counter(), Counter(), Counter(), []
    for number in range(count):
        elements = corpus.sample_list(rng, voice.lang)
        start = time.perf_counter()
        comment = writer.write(elements, seed=number)[0]
        seconds.append(time.perf_counter() - start)
        judge = Judge(elements, voice.style, writer.sequences)
        after.update(judge.flaws(comment.text))
        own = comment.source == "model"
        found["by hand"] += not own
        found["quoted" if is_quote(comment.text, elements, voice.style) else "new"] += own
        if writer.decoder and elements:
            draft = first_draft(writer, elements, voice.style, random.Random(number)) or ""
            before.update(judge.flaws(draft))
            before["any"] += bool(judge.flaws(draft))
    share = lambda counter: {name: round(n / count, 3) for name, n in counter.most_common()}
    ms = round(1000 * statistics.median(seconds), 1)
    return {"writer": model, "lists": count, **share(found), "before": share(before), "after": share(after), "ms": ms}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.comment.rates", description=__doc__.split("\n")[0])
    parser.add_argument("writers", nargs="+", metavar="WRITER", help="t5, gpt2, bank or an exported writer's folder")
    parser.add_argument("--count", type=int, default=300, help="lists to draw")
    parser.add_argument("--lang", default="ko", choices=corpus.LANGUAGES)
    parser.add_argument("--style", default="polite", choices=corpus.STYLES)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.count < 1:
        parser.error("--count must be at least 1")
    for model in args.writers:
        figures = measure(model, Voice(args.lang, args.style), args.count, args.seed)
        print(json.dumps(figures, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    exit_with(main)
