"""What a dialog model reads: questions with their photos, as chats in the model's own template, as tensors.

Training, answering and ranking render and encode here, so that a model is asked the way it was taught. Photos are
opened when a batch needs them. Nothing is ever cut: what does not fit is left out, counted and named.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError
from language.visdial.dialogs import Dialog, GoldLeak, Round, conversation, guard, read_dialogs
from language.visdial.photos import photos_by_id

INSTRUCTION = (
    "You are given a conversation about a photo. Answer its last question from what the photo shows, as briefly as "
    "you would in talk."
)
TURN = re.compile(r"(Q|A):[ \t]*(.*)")
KEY = re.compile(r"(\d+)_(\d+)")  # of a chat: image and round
IGNORED = -100  # a label that no loss counts
FORMATS = "VisDial 1.0 JSON, or .jsonl with rows of messages (datagen.visdial's train.jsonl) or of conversation"


class Unusable(ValueError):
    """A row that cannot be asked or learnt; the others can."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question that the conversation ends with, the photo it is about, and the answer to learn where one is known."""

    image_id: int | str
    turn: int  # from 1
    asked: str
    photo: Path | None = None
    answer: str | None = None
    options: tuple[str, ...] | None = None  # answers to rank

    @property
    def where(self) -> dict:
        """What names it in files of results."""
        return {"image_id": self.image_id, "round": self.turn}


def parse_conversation(text: str, image_id: int | str = 0, answer: str | None = None) -> Dialog:
    """The dialog that a text of lines `Q: …` and `A: …` tells; its last question is open, `answer` is what is kept.

    Raises:
        GoldLeak: the last question is answered.
        UserError: it is written in another way.
    """
    turns = [TURN.fullmatch(line.strip()) for line in text.splitlines() if line.strip()]
    marks = "".join(turn[1] if turn else "?" for turn in turns)
    if re.fullmatch("(QA)+", marks):
        raise GoldLeak(f"image {image_id}: the last question is answered in the conversation that asks it")
    if not re.fullmatch("(QA)*Q", marks) or not turns[-1][2].strip():
        raise UserError(
            f"a conversation is lines `Q: …` and `A: …` by turns, and ends with a question, but got {text!r}"
        )
    said = [turn[2].strip() for turn in turns]
    return Dialog(image_id, "", tuple(map(Round, said[::2], [*said[1::2], answer])))


def read_examples(
    file: Path, photos: Path | None, rounds: Literal["last", "all"] = "last", options: bool = False
) -> tuple[list[Example], list[dict]]:
    """The questions of a file, and rows that say which were left out and why (no photo, no picture, no question).

    Args:
        photos: the folder that photos are named from, or are found in by their numbers.
        rounds: of VisDial's dialogs; rows of a `.jsonl` are one question each.
        options: whether the answers to rank are read.

    Raises:
        UserError: the file or the folder cannot be read, or is something else.
        GoldLeak: a prompt holds the answer that it asks for.
    """
    if photos is not None and not photos.is_dir():
        raise UserError(f"no folder of photos: {photos}")
    rows = _from_rows(file, photos) if file.suffix == ".jsonl" else _from_visdial(file, photos, rounds, options)
    examples, skipped, problems = [], [], {}
    for example in rows:
        if example.photo not in problems:  # ten rounds are about one
            problems[example.photo] = _photo_problem(example.photo)
        problem = "the question is empty" if example.asked.endswith("Q: ") else problems[example.photo]
        if problem:
            skipped.append({**example.where, "reason": problem})
        else:
            examples.append(example)
    return examples, skipped


def _from_visdial(file: Path, photos: Path | None, rounds: str, options: bool) -> Iterator[Example]:
    dialogs = read_dialogs(file, options)
    if photos is None:
        raise UserError(f"{file} names photos by number: say where they lie (photos)")
    found = photos_by_id(photos)
    for dialog in dialogs:
        photo = found.get(dialog.image_id, photos / f"{dialog.image_id:012}.jpg")
        last = len(dialog.rounds)
        for turn in range(1 if rounds == "all" else last, last + 1):
            said = dialog.rounds[turn - 1]
            yield Example(dialog.image_id, turn, _guarded(dialog, turn), photo, said.answer, said.options)


def _guarded(dialog: Dialog, turn: int) -> str:
    asked = conversation(dialog, turn)
    guard(f"{INSTRUCTION}\n{asked}", dialog, turn, INSTRUCTION)
    return asked


def _from_rows(file: Path, photos: Path | None) -> Iterator[Example]:
    try:
        lines = file.read_text("utf-8").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8") from error
    found: dict[int, Path] | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, asked, answer, image = _chat(row) if "messages" in row else _plain(row)
            if image is None and "messages" not in row:
                if photos is None:
                    raise UserError(f"{file}, line {number} names no image: say where photos lie by number (photos)")
                found = photos_by_id(photos) if found is None else found
                image = found.get(name, f"{name}.jpg")
            dialog = parse_conversation(asked, name, answer)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__} {error}"
            raise UserError(f"{file}, line {number} is none of {FORMATS}: {reason}") from None
        match = KEY.fullmatch(str(name))
        image_id, turn = (int(match[1]), int(match[2])) if match else (name, row.get("round", len(dialog.rounds)))
        photo = None if image is None else Path(photos or ".", image)
        yield Example(image_id, turn, _guarded(dialog, len(dialog.rounds)), photo, answer)


def _chat(row: dict) -> tuple:
    """Name, question, answer and image of one turn of a chat as `datagen` exports it."""
    asked, told = row["messages"]
    if (asked["role"], told["role"]) != ("user", "assistant"):
        raise ValueError("messages must be one of the user and one of the assistant")
    text = "\n".join(part["text"] for part in asked["content"] if part["type"] == "text")
    answer = "\n".join(part["text"] for part in told["content"])
    images = [part["image"] for part in asked["content"] if part["type"] == "image"]
    return row["id"], text, answer, images[0] if images else None


def _plain(row: dict) -> tuple:
    return row["image_id"], row["conversation"], row.get("answer"), row.get("image")


def _photo_problem(photo: Path | None) -> str:
    """Why it is no picture, as far as its first bytes tell; the rest is read when it is needed."""
    from PIL import Image

    if photo is None:
        return ""
    try:
        with Image.open(photo):
            return ""
    except FileNotFoundError:
        return f"no photo {photo}"
    except (OSError, ValueError, SyntaxError, ImportError, Image.DecompressionBombError):  # ImportError: Ultralytics'
        return f"{photo} is no picture"


def chat(asked: str, photo: bool, answer: str | None = None) -> list[dict]:
    """One question as a chat, the only place where a model's prompt is put together."""
    seen = [{"type": "image"}] if photo else []
    turns = [{"role": "user", "content": [*seen, {"type": "text", "text": f"{INSTRUCTION}\n\n{asked}"}]}]
    told = [] if answer is None else [{"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    return turns + told


class Encoder:
    """Questions as a model's tensors.

    Prompt and answer are made into tokens apart, as they are when the model answers; the answer's end is learnt, too.
    """

    def __init__(self, processor, max_tokens: int | None = None) -> None:
        """`max_tokens`: longer rows are `Unusable`; None: as long as they are."""
        self.processor, self.tokenizer, self.max_tokens = processor, processor.tokenizer, max_tokens
        added = {token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self.marks = sorted(added | set(self.tokenizer.all_special_tokens))
        self.begin_marks = {mark[0] for mark in self.marks}
        empty = self._text(chat("", False, "x"))
        self.ending = empty[len(self._text(chat("", False))) + 1 :].rstrip()  # closes an answer: <end_of_turn>
        self.frame = self.length(Example(0, 1, "", Path(), ""))  # tokens of a row besides what is said

    def _text(self, turns: list[dict]) -> str:
        return self.processor.apply_chat_template(turns, add_generation_prompt=len(turns) == 1, tokenize=False)

    def prompt(self, example: Example) -> str:
        """The prompt as text, its photo as one mark.

        Raises:
            Unusable: the conversation holds marks of the model's own.
        """
        self._check_marks(example)
        return self._text(chat(example.asked, example.photo is not None))

    def _check_marks(self, example: Example) -> None:
        told = f"{example.asked}\n{example.answer or ''}"
        if self.begin_marks.isdisjoint(told):  # Gemma-3 has thousands of them
            return
        if mark := next((mark for mark in self.marks if mark in told), None):
            raise Unusable(f"the conversation holds {mark}, a mark of the model's own")

    def answer_ids(self, answer: str) -> list[int]:
        """The tokens of an answer and its end."""
        return self.tokenizer(answer.strip() + self.ending, add_special_tokens=False)["input_ids"]

    def length(self, example: Example) -> int:
        """How many tokens the row has, photo and answer among them; the photo stays closed."""
        text = self.prompt(example).replace(self.processor.image_token, self.processor.full_image_sequence)
        answer = [] if example.answer is None else self.answer_ids(example.answer)
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) + len(answer)

    def check(self, example: Example) -> None:
        """Raises `Unusable` where the row does not fit; neither photo nor answer is ever cut."""
        self._check_marks(example)
        most = self.frame + len(f"{example.asked}{example.answer or ''}".encode())  # no token is less than a byte
        if self.max_tokens and most > self.max_tokens and (length := self.length(example)) > self.max_tokens:
            raise Unusable(f"{length} tokens, more than {self.max_tokens}")

    def row(self, example: Example, learn: bool = False) -> dict:
        """Tensors of one row without a batch dimension, but `pixel_values` (1, 3, height, width).

        Args:
            learn: the answer stands behind the prompt, and in `labels`, which are -100 everywhere else.

        Raises:
            UnreadablePhoto: the photo cannot be opened.
            Unusable: see `prompt`.
        """
        import torch

        from language.caption.photos import open_rgb

        images = {} if example.photo is None else {"images": [open_rgb(example.photo)]}
        read = self.processor(text=self.prompt(example), add_special_tokens=False, return_tensors="pt", **images)
        row = {name: read[name][0] for name in ("input_ids", "token_type_ids") if name in read}
        row.setdefault("token_type_ids", torch.zeros_like(row["input_ids"]))  # 1 where the photo is
        if images:
            row["pixel_values"] = read["pixel_values"]
        if learn:
            answer = torch.tensor(self.answer_ids(example.answer))
            row["labels"] = torch.cat([torch.full_like(row["input_ids"], IGNORED), answer])
            row["input_ids"] = torch.cat([row["input_ids"], answer])
            row["token_type_ids"] = torch.cat([row["token_type_ids"], torch.zeros_like(answer)])
        return row

    def batch(self, rows: list[dict], side: Literal["left", "right"] = "right") -> dict:
        """Rows as one batch, padded on one side."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        fill = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": 0, "labels": IGNORED, "attention_mask": 0}
        rows = [{**row, "attention_mask": torch.ones_like(row["input_ids"])} for row in rows]
        padded = {
            name: pad_sequence([row[name] for row in rows], True, value, side)
            for name, value in fill.items()
            if name in rows[0]
        }
        pixels = [row["pixel_values"] for row in rows if "pixel_values" in row]
        return {**padded, **({"pixel_values": torch.cat(pixels)} if pixels else {})}


class Photographed:
    """Rows to learn, each photo opened when its batch is made.

    A photo that turns out to be broken is told to `skip` and the next row takes its place: no batch is shorter for it.
    """

    def __init__(self, examples: list[Example], encoder: Encoder, skip) -> None:
        self.examples, self.encoder, self.skip = examples, encoder, skip

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict:
        from language.caption.photos import UnreadablePhoto

        for step in range(len(self)):
            example = self.examples[(index + step) % len(self)]
            try:
                return self.encoder.row(example, learn=True)
            except UnreadablePhoto as error:
                self.skip({**example.where, "reason": str(error)})
        raise UserError("none of the photos can be read")
