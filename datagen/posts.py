"""What an Instagram post must be, and how good a set of posts is: one contract for prompt, judge and figures."""

import re
from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, field_validator

from detection.labels import load_pack
from language.rules import EMOJI

SENTENCES, HASHTAGS, MOST_LIKE = (2, 4), (5, 7), 0.35
SCHEMA = {
    "title": "post",
    "type": "object",
    "properties": {
        "caption": {"type": "string", "minLength": 20, "maxLength": 400},
        "hashtags": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z0-9_]{2,30}$"},
            "minItems": HASHTAGS[0],
            "maxItems": HASHTAGS[1],
        },
    },
    "required": ["caption", "hashtags"],
    "additionalProperties": False,
}
DESCRIBES = re.compile(
    r"\b(this|the) (image|photo|picture|shot|scene) (shows|depicts|captures|features|is of)\b|\b(an?|the) "
    r"(image|photo|picture) of\b|\bin (this|the) (image|photo|picture)\b|\bpictured (here|above)\b|\bwe (can )?see\b",
    re.IGNORECASE,
)


class Post(BaseModel):
    """A caption and its hashtags, without `#`; hashtags may come as one text, as models write them."""

    model_config = ConfigDict(extra="forbid")
    caption: str
    hashtags: list[str]

    @field_validator("hashtags", mode="before")
    @classmethod
    def _split(cls, value):
        if isinstance(value, str):
            value = value.split("#") if "#" in value else re.split(r"[,\s]+", value)
        if isinstance(value, list):
            value = [v.strip().lstrip("#").replace(" ", "") if isinstance(v, str) else v for v in value]
            value = [v for v in value if v != ""]
        return value

    @property
    def tags(self) -> str:
        """`#one #two`."""
        return " ".join(f"#{tag}" for tag in self.hashtags)


def sentences(text: str) -> int:
    """How many sentences; "..." ends one, and so does an emoji before a capital letter."""
    text = re.sub(rf"((?:{EMOJI.pattern})+)\s+(?=[A-Z])", r". ", text)
    parts = re.split(r"[.!?…]+[\"'”’)]*(?:\s+|$)|\n+", EMOJI.sub(" ", text))
    return sum(bool(re.search(r"\w", part)) for part in parts)


def likeness(caption: str, sources: Iterable[str]) -> float:
    """How far a caption repeats a description: the largest share of its word pairs that stand in one, 0..1."""
    own = _pairs(caption)
    return max((len(own & _pairs(source)) / len(own) for source in sources if own), default=0.0)


def _pairs(text: str) -> set[tuple[str, str]]:
    words = _words(text)
    return set(zip(words, words[1:], strict=False))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def problems(post: Post, sources: list[str]) -> list[str]:
    """What a post breaks, in words."""
    caption, tags, found = post.caption, post.hashtags, []
    if not SENTENCES[0] <= (count := sentences(caption)) <= SENTENCES[1]:
        found.append(f"the caption has {count} sentences; write 2 to 4")
    if "#" in caption:
        found.append("the caption has a hashtag in it; hashtags stand apart")
    if sum(c.isalpha() and not c.isascii() for c in caption) > 3:
        found.append("the caption is not English")
    if DESCRIBES.search(caption) or likeness(caption, sources) > MOST_LIKE:
        found.append("the caption describes the photo; speak of the moment instead")
    if not HASHTAGS[0] <= len(tags) <= HASHTAGS[1]:
        found.append(f"there are {len(tags)} hashtags; give 5 to 7")
    if bad := [tag for tag in tags if not re.fullmatch(r"[a-z0-9_]{2,30}", tag)]:
        found.append(f"hashtags are single lowercase words, unlike {', '.join(bad)[:100]}")
    if len(set(tags)) < len(tags):
        found.append("a hashtag stands twice")
    return found


def quality(posts: Iterable[tuple[Post, list[str]]], first_try: float | None, after_retry: float | None) -> dict:
    """Figures of posts that kept the contract, each with the plain captions it was written from.

    `first_try` is the share of requests whose first reply kept it, `after_retry` whose last one did. Shares are 0..1;
    lower is better for likeness and for hashtags that name objects or repeat captions, higher for distinct ones.
    """
    likes, captions, tags, repeated = [], [], Counter(), 0
    for post, sources in posts:
        likes.append(likeness(post.caption, sources))
        captions.append(post.caption)
        tags.update(post.hashtags)
        plain = {word for source in sources for word in _words(source)}
        repeated += sum(_stands_in(tag, plain) for tag in post.hashtags)
    words = [_words(caption) for caption in captions]
    pairs = [pair for w in words for pair in zip(w, w[1:], strict=False)]
    things = {name.lower().replace(" ", "") for name in load_pack("en").names.values()}
    objects = sum(count for tag, count in tags.items() if _stands_in(tag, things))
    share = lambda part, whole: round(part / whole, 4) if whole else None
    known = lambda value: None if value is None else round(value, 4)
    return {
        "posts": len(captions),
        "valid_at_first_try": known(first_try),
        "valid_after_retry": known(after_retry),
        "description_likeness": share(sum(likes), len(likes)),
        "distinct_captions": share(len(set(captions)), len(captions)),
        "distinct_openings": share(len({tuple(w[:3]) for w in words}), len(words)),
        "distinct_2": share(len(set(pairs)), len(pairs)),
        "distinct_hashtags": share(len(tags), tags.total()),
        "commonest_hashtags": tags.most_common(10),
        "object_hashtags": share(objects, tags.total()),
        "caption_hashtags": share(repeated, tags.total()),
    }


def _stands_in(tag: str, names: set[str]) -> bool:
    return tag in names or tag.removesuffix("s") in names
