"""Photos that people looked at: what each is about, where it is, what goes on, and what a friend would say.

    python -m detection.scenes.annotations check

`annotations.jsonl` holds one row a photo, keyed by the end of its path (CC BY 4.0; the photos are not ours and are not
here). Rows with `split` "test" are for measuring only.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import exit_with
from common.files import read_jsonl
from detection.labels import KNOWN_IDS, MOMENT_IDS, SCENE_IDS, kind_of

FILE = Path(__file__).with_name("annotations.jsonl")
LIGHTS = ("day", "night", "sunset", "indoor", "studio", "unclear")
PEOPLE_KINDS = ("baby", "child", "adult", "couple", "group")
MOST_MENTIONS = 3
LENGTHS = {"ko": (8, 80), "en": (12, 140)}


@dataclass(frozen=True)
class Annotation:
    """What a reader saw in one photo.

    Attributes:
        file: the end of the photo's path (`flickr_more/images/x.jpg`).
        split: "train" or "test".
        subject: what it is about, in a plain English noun.
        scenes, moments: ids that are plainly there.
        light: one of `LIGHTS`.
        people: {"count": how many can be seen, "kinds": of `PEOPLE_KINDS`}.
        mention: what a friend would remark on, most worth it first: ids, or plain nouns where no pack has one.
        ko, en: the comment that a friend would leave.
    """

    file: str
    split: str
    subject: str
    scenes: tuple[str, ...]
    light: str
    moments: tuple[str, ...]
    people: dict
    mention: tuple[str, ...]
    ko: str
    en: str


def read_annotations(split: str | None = None, file: Path = FILE) -> list[Annotation]:
    """The rows of a split, or all."""
    lists = lambda row: {**row, **{key: tuple(row[key]) for key in ("scenes", "moments", "mention")}}
    return [Annotation(**lists(row)) for row in read_jsonl(file) if split in (None, row["split"])]


def problems(rows: list[Annotation]) -> list[str]:
    """What is wrong with annotations: unknown ids, doubled photos or comments, comments too short or long."""
    found, files, comments = [], set(), set()
    for row in rows:
        wrong = [f"{name} {i!r} is unknown" for name, i in _unknown(row)]
        wrong += [f"split {row.split!r}"] * (row.split not in ("train", "test"))
        wrong += ["light " + repr(row.light)] * (row.light not in LIGHTS)
        wrong += ["people " + repr(row.people)] * (not set(row.people["kinds"]) <= set(PEOPLE_KINDS))
        wrong += ["annotated twice"] * (row.file in files)
        wrong += [f"{len(row.mention)} mentions"] * (not 1 <= len(row.mention) <= MOST_MENTIONS)
        for lang, (least, most) in LENGTHS.items():
            text = getattr(row, lang)
            wrong += [f"{lang} comment of {len(text)} characters"] * (not least <= len(text) <= most)
            wrong += [f"{lang} comment stands elsewhere, too"] * (text in comments)
            comments.add(text)
        files.add(row.file)
        found += [f"{row.file}: {problem}" for problem in wrong]
    return found


def _unknown(row: Annotation) -> list[tuple[str, str]]:
    """Scenes and moments that are none, and mentions with a capital (an id) that no pack knows."""
    wrong = [("scene", i) for i in row.scenes if i not in SCENE_IDS and (i not in KNOWN_IDS or kind_of(i) != "object")]
    wrong += [("moment", i) for i in row.moments if i not in MOMENT_IDS]
    return wrong + [("mention", i) for i in row.mention if i[:1].isupper() and i not in KNOWN_IDS]


def main(argv: list[str] | None = None) -> int:
    """`check`: lint the annotations; status 1 where there is a problem."""
    parser = argparse.ArgumentParser(prog="python -m detection.scenes.annotations", description="Lint annotations.")
    parser.add_argument("command", choices=["check"])
    parser.parse_args(sys.argv[1:] if argv is None else argv)
    rows = read_annotations()
    wrong = problems(rows)
    print("\n".join(wrong) or f"{len(rows)} annotated photos, no problems")
    return int(bool(wrong))


if __name__ == "__main__":
    exit_with(main)
