"""Whether a comment keeps the rules of `rules.json`: checked on text alone (no model, no morphological analyser)."""

import json
import re
from functools import lru_cache
from pathlib import Path

from detection.families import ancestors
from detection.labels import KNOWN_IDS, OBJECT_IDS, PLAIN_IDS, load_pack
from language.records import Element, ElementList, find_evidence, name_pattern

COMPILED = Path(__file__).with_name("rules.json")
_BASE = "[\U0001f300-\U0001faff\u2600-\u27bf\u2b50\u2b55\u2934\u2935\u203c\u2049]"
EMOJI = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|{_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*(?:\u200d{_BASE}[\ufe0f\U0001f3fb-\U0001f3ff]*)*"
)
MARKS = tuple(".!~…")  # that end a sentence
BROKEN = re.compile("\ufffd|<|>|[\x00-\x1f]")
SPOKEN = ("moment", "object", "scene")  # kinds of which a comment must name one, where no face shows a feeling


@lru_cache
def rules() -> dict:
    """The compiled rule file."""
    return json.loads(COMPILED.read_text("utf-8"))


@lru_cache
def _pattern(lang: str, *keys: str) -> re.Pattern:
    value = rules()["languages"][lang]
    for key in keys:
        value = value[key]
    return re.compile(value, re.IGNORECASE)


@lru_cache
def thing_names(lang: str) -> re.Pattern:
    """A pattern that finds any thing's name in a comment; in English plurals too."""
    pack = load_pack(lang)
    names = {pack.name(label) for label in OBJECT_IDS if label not in PLAIN_IDS}
    names = {name for name in names if len(name) > 1} - set(rules()["languages"][lang]["everyday"])
    either = "|".join(name_pattern(name, lang) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![가-힣])(?:{either})(?![란라])" if lang == "ko" else rf"\b(?:{either})", re.IGNORECASE)


@lru_cache
def tender_emotions() -> frozenset[str]:
    """Feelings that want a gentle comment."""
    return frozenset(rules()["tender"]["emotions"])


def tender_elements(elements: ElementList) -> list[Element]:
    """What wants a gentle comment: feelings that are only sad or angry, and things of injury, death or war."""
    book, feelings = rules()["tender"], elements.of_kind("emotion")
    sad = feelings if all(e.id in tender_emotions() for e in feelings) else []
    return sad + [e for e in elements.of_kind(*SPOKEN) if e.id in book["things"] or _tender_word(e)]


def _tender_word(element: Element) -> bool:
    """Whether a thing that no class stands for bears the name of something sad."""
    name, books = element.name.casefold(), rules()["tender"]["words"].items()
    return element.id not in KNOWN_IDS and any(_named(word, name, lang) for lang, words in books for word in words)


def is_tender(elements: ElementList) -> bool:
    """Whether a comment must be gentle."""
    return bool(tender_elements(elements))


def describe(lang: str, style: str, tender: bool = False) -> str:
    """The rules in words, for a prompt."""
    texts = rules()["languages"][lang]["describe"]
    return f"{texts[style]} {texts['tender']}" if tender else texts[style]


def violations(text: str, elements: ElementList, style: str = "polite") -> list[str]:
    """Names of the rules that a comment breaks; empty when it is fit to post."""
    lang, book = elements.lang, rules()
    own_rules = book["languages"][lang]
    search = lambda *keys: _pattern(lang, *keys).search(text)
    said = sentences(text)
    moods = {e.id for e in elements.of_kind("emotion")}
    within = lambda count, bounds: bounds[0] <= count <= bounds[1]
    gentle = is_tender(elements)
    broken = {name: search("forbidden", name) for name in own_rules["forbidden"]}
    broken |= {
        "broken": BROKEN.search(text) or text != text.strip(),
        "length": not within(len(text), own_rules["length"]),
        "sentences": not within(len(said), book["sentences"]),
        "speech level": not all(_pattern(lang, "ending", style).search(sentence) for sentence in said)
        or search("never_in", style),
        "emoji": not within(len(EMOJI.findall(text)), book["emoji"]),
        "mood": (gentle and "happy" not in moods and search("cheerful")) or (moods == {"happy"} and search("gloomy")),
        "feeling not there": any(
            _pattern(lang, "feelings", feeling).search(text)
            for feeling in own_rules["feelings"]
            if feeling not in moods
        ),
        "laughs": moods & tender_emotions() and (search("joking") or re.search(book["tender"]["laughing"], text)),
        "not gentle": gentle and (search("joking") or search("looks") or re.search(book["tender"]["bright"], text)),
    }
    return [rule for rule, hit in {**broken, **_naming(text, elements)}.items() if hit]


def sentences(text: str) -> list[str]:
    """A comment's sentences, without emoji and marks."""
    plain = EMOJI.sub("", text).replace("\ufe0f", "")
    return [sentence.strip() for sentence in re.split(r"[.!~…]+", plain) if sentence.strip()]


def _naming(text: str, elements: ElementList) -> dict[str, bool]:
    """Rules on which things a comment names."""
    pack = load_pack(elements.lang)
    spoken_of = elements.of_kind(*SPOKEN)
    own = [name.casefold() for e in spoken_of for name in (e.name, pack.name(e.id), *pack.spoken.get(e.id, ()))]
    low = text.casefold()
    spans = find_evidence(text, elements)
    named, beside = [span.element for span in spans], text
    for span in reversed(spans):
        beside = beside[: span.start] + beside[span.end :]
    strangers = (m.group().casefold() for m in thing_names(elements.lang).finditer(text))
    return {
        "made up": any(_made_up(words, told_by, beside, elements) for words, told_by in _circumstances(elements.lang)),
        # faces say enough to speak of: what lies beside them comes in only where it belongs to the thought
        "names nothing": bool(own)
        and not elements.of_kind("emotion")
        and not any(_named(name, low, elements.lang) for name in own),
        "names what is not there": any(not any(_same(word, name) for name in own) for word in strangers),
        "another language": elements.lang == "en" and bool(re.search("[가-힣]", beside)),
        "repeats itself": elements.lang == "ko" and len(named) > len(set(named)),
        "glued on": any(
            text[: span.start].rstrip()[-1:] in MARKS and _pattern(elements.lang, "glued").match(text, span.end)
            for span in spans[1:]
        ),
        "honours a thing": any(_pattern(elements.lang, "honorific").match(text, span.end) for span in spans),
    }


@lru_cache
def _circumstances(lang: str) -> tuple[tuple[re.Pattern, frozenset[str]], ...]:
    """Words for circumstances, where a word begins, and the ids that tell of them."""
    before, after = ("(?<![가-힣])", "") if lang == "ko" else (r"\b", r"\b")
    rows = rules()["languages"][lang]["circumstances"]
    pattern = lambda words: re.compile(f"{before}(?:{words}){after}", re.IGNORECASE)
    return tuple((pattern(row["words"]), frozenset(row["told_by"])) for row in rows)


def _made_up(words: re.Pattern, told_by: frozenset[str], text: str, elements: ElementList) -> bool:
    """Whether a text, the names of its elements cut out, states a circumstance that no element tells of."""
    names = " ".join(e.name.casefold() for e in elements)
    stated = any(m.group().strip().casefold() not in names for m in words.finditer(text))
    return stated and not any(told_by & {e.id, *ancestors(e.id)} for e in elements)


def _named(name: str, text: str, lang: str) -> bool:
    """Whether a text names something; English words are whole words (a hat is not in "what")."""
    return name in text if lang == "ko" else bool(re.search(rf"\b{name_pattern(name, lang)}", text))


def _same(word: str, name: str) -> bool:
    """Whether a found word speaks of an element's name: part of it, or its plural."""
    return word in name or word.removesuffix("s") in name or word.removesuffix("es") in name
