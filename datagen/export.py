"""Posts and their photos as training data: chat JSONL for vision-language models, and the same as text alone.

    python -m datagen.export sft --config configs/datagen/export_sft.yaml csv=instagram.csv photos=data/coco

It reads the Instagram job's `instagram.csv` and the folder that `datagen.download` filled. The output folder holds
`train/` with the photos (hard links where that works), `train.jsonl`, whose photo paths start in the output folder, and
`train.text.jsonl`, where the plain captions stand in for the photo; likewise `val`. Rows left out are counted.
"""

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Literal

from common.errors import UserError, exit_with
from configs.load import Settings, load_settings
from datagen.instagram import CAPTIONS
from datagen.jobs import count_argument
from datagen.posts import Post, problems
from datagen.tables import read_table

PARTS = ("train", "val")
COLUMNS = ("split", "image_id", "file_name", *CAPTIONS, "gen_ok", "en_caption", "en_hashtags")
TASK = "Write an Instagram caption of two to four sentences and five to seven hashtags for"
MARK = "export.json"  # in every folder that this command made, so that it never clears another


class SftSettings(Settings):
    """Settings of an export."""

    csv: Path
    photos: Path  # holds SPLIT/FILE_NAME
    out: Path
    splits: dict[str, Literal["train", "val"]] = {
        "train2017": "train", "val2017": "val", "train2014": "train", "val2014": "val",
    }  # fmt: skip
    formats: list[Literal["vision", "text"]] = ["vision", "text"]
    answer: Literal["text", "json"] = "text"  # caption, blank line, hashtags; or what the Instagram job asks for
    question: str = f"{TASK} this photo."
    text_question: str = f"{TASK} the photo that these captions describe:"


class Export:
    """One run of the command."""

    def __init__(self, settings: SftSettings) -> None:
        self.settings, self.skipped, self.kept = settings, Counter(), Counter()
        self.seen: set[str] = set()

    def run(self, limit: int | None = None) -> dict:
        """Write the folder; returns counts.

        Raises:
            UserError: the CSV lacks columns, or the output folder holds something else.
        """
        s, part = self.settings, self.settings.out.with_name(self.settings.out.name + ".part")
        if s.out.exists() and not (s.out / MARK).exists() and (not s.out.is_dir() or any(s.out.iterdir())):
            raise UserError(f"{s.out} holds something that is no export; give another out=")
        shutil.rmtree(part, ignore_errors=True)
        try:
            self._fill(part, limit)
            counts = {"kept": {p: self.kept[p] for p in PARTS}, "skipped": dict(self.skipped.most_common())}
            (part / MARK).write_text(json.dumps(counts, ensure_ascii=False, indent=1) + "\n", "utf-8")
            s.save(part / "settings.yaml")
            if s.out.exists():
                shutil.rmtree(s.out)
            os.replace(part, s.out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return counts

    def _fill(self, folder: Path, limit: int | None) -> None:
        for part in PARTS:
            (folder / part).mkdir(parents=True)
        with ExitStack() as stack:
            names = [f"{part}{end}" for part in PARTS for end in self._ends()]
            files = {name: stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in names}
            for row in islice(read_table(self.settings.csv, COLUMNS), limit):
                if reason := self._reason(row):
                    self.skipped[reason] += 1
                    continue
                part = self.settings.splits[row["split"]]
                self.seen.add(row["file_name"])
                self.kept[part] += 1
                for end, record in self._records(row, part):
                    files[part + end].write(json.dumps(record, ensure_ascii=False) + "\n")
                if "vision" in self.settings.formats:
                    _link(self._photo(row), folder / part / row["file_name"])

    def _ends(self) -> list[str]:
        return [{"vision": ".jsonl", "text": ".text.jsonl"}[name] for name in self.settings.formats]

    def _photo(self, row: dict) -> Path:
        return self.settings.photos / row["split"] / row["file_name"]

    def _reason(self, row: dict) -> str:
        """Why a row is left out; empty where it is not."""
        if row["split"] not in self.settings.splits:
            return f"split {row['split']!r} is neither train nor val"
        if row["gen_ok"].strip().lower() != "true":
            return "gen_ok is not true"
        if not row["en_caption"].strip():
            return "no caption"
        if not row["en_hashtags"].strip():
            return "no hashtags"
        if problems(_post(row), []):
            return "caption or hashtags break the contract"
        if not row["file_name"] or Path(row["file_name"]).name != row["file_name"]:
            return "file_name is no plain name"
        if row["file_name"] in self.seen:
            return "the photo stands twice"
        if "vision" in self.settings.formats:
            return _photo_problem(self._photo(row))
        return ""

    def _records(self, row: dict, part: str) -> Iterator[tuple[str, dict]]:
        """Ends of file names, and the row as it stands in them."""
        s, post, key = self.settings, _post(row), f"{row['split']}_{row['image_id']}"
        answer = f"{post.caption}\n\n{post.tags}" if s.answer == "text" else json.dumps(post.model_dump())
        if "vision" in s.formats:
            path = f"{part}/{row['file_name']}"
            asked = [{"type": "image", "image": path}, {"type": "text", "text": s.question}]
            told = [{"type": "text", "text": answer}]
            yield ".jsonl", {"id": key, "image": path, "messages": _turns(asked, told)}
        if "text" in s.formats:
            captions = "\n".join(f"- {row[name].strip()}" for name in CAPTIONS if row[name].strip())
            yield ".text.jsonl", {"id": key, "messages": _turns(f"{s.text_question}\n{captions}", answer)}


def _turns(asked, told) -> list[dict]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]


def _post(row: dict) -> Post:
    return Post(caption=row["en_caption"].strip(), hashtags=row["en_hashtags"])


def _photo_problem(path: Path) -> str:
    from PIL import Image

    if not path.is_file():
        return "no photo in the folder"
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, ImportError):  # see datagen/fetch.py
        return "the photo is broken"
    return ""


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datagen.export", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["sft"], help="sft: chat JSONL for supervised fine-tuning")
    parser.add_argument("--config", required=True, type=Path, help="YAML file")
    parser.add_argument("--limit", type=count_argument, metavar="N", help="only the first N rows")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the config's")
    args = parser.parse_intermixed_args(sys.argv[1:] if argv is None else argv)
    settings = load_settings(args.config, SftSettings, args.overrides)
    counts = Export(settings).run(args.limit)
    print(", ".join(f"{count:,} {part}" for part, count in counts["kept"].items()) + f": {settings.out}")
    for reason, count in counts["skipped"].items():
        print(f"skipped {count:,}: {reason}")
    return int(not any(counts["kept"].values()))


if __name__ == "__main__":
    exit_with(main)
