"""What a comment must and must not do, checked on text alone (no model, no morphological analyser)."""

import re
from functools import lru_cache

from detection.labels import OBJECT_IDS, PLAIN_IDS, load_pack
from language.records import ElementList, find_evidence

_BASE = "[\U0001f300-\U0001faff\u2600-\u27bf\u2b50\u2b55\u2934\u2935\u203c\u2049]"
EMOJI = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|{_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*(?:\u200d{_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*)*"
)
QUESTION = re.compile(r"[?？]|궁금")
POLITE_END = re.compile(r"(요|니다|세요|죠)[.!~… ]*$")
CHEERFUL = re.compile("행복|즐거|신나|신난|기뻐|기쁜|축하|활짝")
GLOOMY = re.compile("슬퍼|슬픈|힘내|속상|화가 나|우울|위로")
BROKEN = re.compile("\ufffd|<|>|[\x00-\x1f]")
TENDER = frozenset({"sad", "anger"})
# Words that are a class name and also everyday words of comments; one of them alone names no thing.
AMBIGUOUS = frozenset(
    {
        "동물",
        "음식",
        "식물",
        "상자",
        "장난감",
        "얼굴",
        "머리",
        "머리카락",
        "수염",
        "다리",
        "난로",
        "도구",
    }
)
MIN_LENGTH, MAX_LENGTH = 8, 80


@lru_cache
def thing_names(lang: str) -> re.Pattern:
    """A pattern that finds any thing's name in a comment."""
    pack = load_pack(lang)
    names = {pack.name(label) for label in OBJECT_IDS if label not in PLAIN_IDS}
    names = {name for name in names if len(name) > 1} - AMBIGUOUS
    return re.compile(
        "(?<![가-힣])(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")(?![란라])"
    )


def violations(text: str, elements: ElementList) -> list[str]:
    """Names of the rules that a Korean polite comment breaks; empty when it is fit to post."""
    plain = EMOJI.sub("", text).replace("\ufe0f", "").strip()
    sentences = [s for s in re.split(r"[.!~…]+", plain) if s.strip()]
    own = [e.name for e in elements.of_kind("object")]
    named = [span.element for span in find_evidence(text, elements)]
    moods = {e.id for e in elements.of_kind("emotion")}
    broken = {
        "question": QUESTION.search(text),
        "broken": BROKEN.search(text) or text != text.strip(),
        "length": not MIN_LENGTH <= len(text) <= MAX_LENGTH,
        "sentences": not 1 <= len(sentences) <= 2,
        "speech level": not POLITE_END.search(plain),
        "emoji": not 1 <= len(EMOJI.findall(text)) <= 2,
        "names nothing": own and not any(name in text for name in own),
        "names what is not there": any(
            not any(m.group() in name for name in own) for m in thing_names(elements.lang).finditer(text)
        ),
        "mood": (moods and moods <= TENDER and CHEERFUL.search(text)) or (moods == {"happy"} and GLOOMY.search(text)),
        "repeats itself": len(named) > len(set(named)),
    }
    return [rule for rule, hit in broken.items() if hit]
