"""COCO captions -> Instagram captions and hashtags by a language model.

    python -m datagen.instagram --config configs/datagen/instagram.yaml csv=captions.csv --limit 20
    python -m datagen.instagram --config configs/datagen/instagram.yaml csv=captions.csv --retry-failed

The CSV needs split, image_id, file_name, cap1 … cap5; `split_imageid` is a row's key. `instagram.csv` keeps every
column and adds what was written and how; rows without a post stand in `failed.csv`, figures in `quality.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError, exit_with
from common.files import whole_file
from datagen.jobs import JobSettings, job_command
from datagen.llm.journal import Item, Journal
from datagen.llm.records import Request
from datagen.llm.validate import parse
from datagen.posts import SCHEMA, Post, problems, quality
from datagen.prompts import Example, Prompt, load_prompt, rules_version
from datagen.tables import read_table, write_table

CAPTIONS = ("cap1", "cap2", "cap3", "cap4", "cap5")
COLUMNS = ("split", "image_id", "file_name", *CAPTIONS)
ADDED = (
    "en_caption", "en_hashtags", "gen_ok", "gen_attempts", "gen_temperature", "gen_top_p", "gen_max_new_tokens",
    "gen_model", "raw_output",
)  # fmt: skip
HOW = ("attempts", "temperature", "top_p", "max_tokens", "model")  # of the journal, for the gen_ columns
RAW_MOST = 5000  # characters of a raw reply in the CSV; the journal has all of it


class InstagramSettings(JobSettings):
    """Settings of an Instagram job."""

    csv: Path
    prompt: Path
    examples: Path  # JSON: [{"en_caption", "en_hashtags"}, …]


def read_examples(file: Path) -> str:
    """Few-shot posts as lines of JSON.

    Raises:
        UserError: the file cannot be read, has none, or one breaks what every post is held to.
    """
    try:
        rows = json.loads(file.read_text("utf-8"))
        posts = [Post(caption=row["en_caption"], hashtags=row["en_hashtags"]) for row in rows]
    except OSError as error:
        raise UserError(f"cannot read the examples {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{file} is not a list of en_caption and en_hashtags: {message}") from error
    if not posts:
        raise UserError(f"{file} has no examples")
    for number, post in enumerate(posts, 1):
        if broken := problems(post, []):
            raise UserError(f"{file}: example {number} breaks its own rules: {'; '.join(broken)}")
    return "\n".join(json.dumps(post.model_dump(), ensure_ascii=False) for post in posts)


class InstagramJob:
    """Asks for one post a row."""

    def __init__(self, settings: InstagramSettings) -> None:
        self.settings = settings
        self.prompt = load_prompt(settings.prompt, self._lint)
        self.examples = read_examples(settings.examples)
        self.rules = rules_version(self.prompt)

    def items(self) -> Iterator[Item]:
        for row in read_table(self.settings.csv, COLUMNS):
            key = f"{row['split']}_{row['image_id']}"
            if not (row["split"] and row["image_id"]):
                raise UserError(f"{self.settings.csv}: a row has no split or image_id: {list(row.values())}")
            if taken := [name for name in (*ADDED, "reason") if name in row]:
                raise UserError(
                    f"{self.settings.csv} has columns that this job writes: {', '.join(taken)}; rename them"
                )
            if any(row[name].strip() for name in CAPTIONS):
                yield Item(key, row, self._request(row))
            else:
                yield Item(key, row, problem="all five captions are empty")

    def _request(self, row: dict) -> Request:
        captions = "\n".join(f"{number}. {row[name].strip()}" for number, name in enumerate(CAPTIONS, 1))
        return self.settings.request(
            self.prompt.messages({"captions": captions}, {"examples": self.examples}), SCHEMA, self.rules
        )

    def check(self, text: str, source: dict) -> tuple[object | None, list[str]]:
        post, broken = parse(text, Post)
        if post is None:
            return None, broken
        return post.model_dump(), problems(post, [source[name] for name in CAPTIONS])

    def _lint(self, prompt: Prompt, example: Example) -> list[str]:
        return self.check(json.dumps(example.answer), dict.fromkeys(CAPTIONS, ""))[1]

    def remark(self, problems: list[str], source: dict) -> str:
        return self.prompt.remark(problems)

    def write(self, journal: Journal) -> list[Path]:
        files = [self.settings.out / name for name in ("instagram.csv", "failed.csv", "quality.json")]
        write_table(files[0], map(self._row, journal.rows("ok")))
        write_table(files[1], map(_failed_row, journal.rows("failed")))
        with whole_file(files[2]) as part, part.open("w", encoding="utf-8", newline="") as out:
            json.dump(self._quality(journal), out, ensure_ascii=False, indent=1)
        return files

    def _row(self, row: dict) -> dict:
        post = Post(**row["result"])
        how = (post.caption, post.tags, True, *(row[name] for name in HOW), row["reply"][:RAW_MOST])
        return {**row["source"], **dict(zip(ADDED, how, strict=True))}

    def _quality(self, journal: Journal) -> dict:
        rows = ((Post(**r["result"]), [r["source"][name] for name in CAPTIONS]) for r in journal.rows("ok"))
        asked = journal.distinct()
        done = asked["ok"] + asked["failed"]
        return quality(rows, journal.first_try(), asked["ok"] / done if done else None)


def _failed_row(row: dict) -> dict:
    raw = (row["reply"] or "")[:RAW_MOST]
    tries = {"gen_ok": False, "gen_attempts": row["attempts"], "gen_model": row["model"]}
    return {**row["source"], **tries, "reason": row["reason"], "raw_output": raw}


main = job_command("datagen.instagram", __doc__, InstagramSettings, InstagramJob)

if __name__ == "__main__":
    exit_with(main)
