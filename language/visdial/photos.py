"""Photos of COCO and VisDial by their number."""

import os
import re
from pathlib import Path

from common.errors import UserError

NUMBERED = re.compile(r"(\d+)\.jpe?g$", re.IGNORECASE)  # COCO_train2014_000000000009.jpg, VisualDialog_val2018_….jpg


def photos_by_id(folder: Path) -> dict[int, Path]:
    """The JPEGs in a folder and all within, by the number at the end of their names.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"no folder of photos: {folder}")
    found: dict[int, Path] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if number := NUMBERED.search(name):
                found.setdefault(int(number[1]), Path(place) / name)
    return found
