"""What is known of each training photo's tags: there, not there, or unsaid.

Three sources teach: photos that people annotated, captions (a tag is there where two of five captions name it, by the
words in `words.jsonl`), and folders of pictures of one scene.
"""

import csv
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from common.files import read_jsonl
from detection.labels import MOMENT_IDS, SCENE_IDS
from detection.scenes.annotations import Annotation

WORDS = Path(__file__).with_name("words.jsonl")
# Tags of the whole picture: scenes, moments, and things that no detector finds.
TAGS = (*SCENE_IDS, *MOMENT_IDS, "Swimming pool", "Castle", "Mask", "Flower", "Christmas tree")
ENOUGH_CAPTIONS = 2
# How much a row counts: captions leave much unsaid, and an annotator writes down three things at most.
SAID, UNSAID_IN_CAPTIONS, UNSAID_BY_ANNOTATOR, UNSAID_BY_FOLDER = 1.0, 0.4, 0.7, 0.3
# Scenes that the pictures of a folder may show, too.
ALSO = {
    "sea": "beach sky sunset harbour cliff mountain",
    "snow": "mountain sky forest",
    "mountain": "snow sky forest field lake river cliff fog waterfall autumn_leaves park",
    "city": "street sky night_view square bridge river sea park harbour",
    "street": "city shop market highway night_view square church campus",
    "forest": "park autumn_leaves river fog waterfall mountain field garden",
    "campus": "city street park library square church castle",
    "park": "garden forest field lake autumn_leaves playground",
    "garden": "park blossom field backyard forest",
    "living_room": "dining_room kitchen office library",
    "dining_room": "living_room kitchen restaurant",
    "kitchen": "dining_room living_room",
    "bedroom": "living_room",
    "office": "library living_room classroom",
    "library": "shop gallery office campus",
    "gallery": "library shop",
    "auditorium": "stage stadium classroom cinema church",
    "stadium": "baseball_field field city gym",
    "baseball_field": "stadium field park",
    "highway": "street city bridge desert mountain sky field",
    "airport": "sky station",
    "sky": "sunset sea mountain field fog",
    "desert": "sky mountain sunset cliff",
    "windmill": "field sky",
    "waterfall": "river forest cliff mountain",
    "aquarium": "underwater",
    "ice_rink": "stadium gym",
    "tennis_court": "park stadium gym",
    "bathroom": "",
    "laundromat": "shop",
}


@lru_cache
def caption_words() -> dict[str, tuple[re.Pattern, re.Pattern | None]]:
    """Tag -> patterns of the words that name it, and of those that only seem to."""
    either = lambda words: re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b")
    rows = read_jsonl(WORDS)
    return {row["id"]: (either(row["any"]), either(row["not"]) if row["not"] else None) for row in rows if row["any"]}


def read_captions(file: Path) -> dict[str, list[str]]:
    """Photo -> its captions, from rows of image,caption."""
    found = defaultdict(list)
    with file.open(encoding="utf-8-sig", newline="") as rows:
        for row in csv.DictReader(rows):
            found[row["image"].split("#")[0]].append(row["caption"].lower())
    return dict(found)


def mentions(label: str, captions: list[str]) -> int:
    """How many captions name a tag."""
    words, seeming = caption_words()[label]
    return sum(bool(words.search(c)) and not (seeming and seeming.search(c)) for c in captions)


def from_captions(captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Targets (T,) in 0..1 and weights (T,) of a photo with captions."""
    target, weight = np.zeros(len(TAGS)), np.zeros(len(TAGS))
    for column, tag in enumerate(TAGS):
        if tag not in caption_words():
            continue
        count = mentions(tag, captions)
        target[column] = count >= ENOUGH_CAPTIONS
        weight[column] = SAID if target[column] else UNSAID_IN_CAPTIONS * (count == 0)
    return target, weight


def from_annotation(row: Annotation) -> tuple[np.ndarray, np.ndarray]:
    """Targets (T,) and weights (T,) of an annotated photo."""
    there = {*row.scenes, *row.moments, *row.mention}
    target = np.array([tag in there for tag in TAGS], float)
    return target, np.where(target > 0, SAID, UNSAID_BY_ANNOTATOR)


def from_folder(scene: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets (T,) and weights (T,) of a picture from a folder of one scene; what else goes on there is not known."""
    maybe = set(ALSO[scene].split())
    target = np.array([tag == scene for tag in TAGS], float)
    told = [SAID if tag == scene else UNSAID_BY_FOLDER * (tag in ALSO and tag not in maybe) for tag in TAGS]
    return target, np.array(told)


def merged(annotated: tuple, captioned: tuple) -> tuple[np.ndarray, np.ndarray]:
    """An annotated photo's targets with its captions': what either saw is there; unsaid is what neither saw."""
    (a, wa), (c, wc) = annotated, captioned
    disputed = (a == 0) & (c == 1)
    return np.maximum(a, c * (wc > 0)), np.where(disputed, 0.5 * wc, np.maximum(wa, wc * (c > 0)))
