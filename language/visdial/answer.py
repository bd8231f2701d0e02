"""Answer questions about photos with a dialog model: one conversation, or a file of them.

    python -m language.visdial.answer --model runs/visdial/gemma3_4b --image photo.jpg --conversation 'Q: is it sunny'
    python -m language.visdial.answer --model google/gemma-3-4b-it --image photo.jpg --conversation talk.txt --stream
    python -m language.visdial.answer --model runs/visdial/gemma3_4b --batch visdial_1.0_val.json --photos data/coco \\
        --out answers.jsonl

A conversation is lines `Q: …` and `A: …` and ends with a question. The likeliest words are taken, so that the same
question gets the same answer; `--temperature` draws instead, by `--seed`. A batch goes on where it stopped; rows that
failed say so in `error`, and `--retry-failed` asks them again.
"""

import argparse
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from common.errors import UserError, exit_with
from common.files import write_json
from configs.load import Settings
from language.visdial.answers import extract
from language.visdial.data import Encoder, Example, Unusable, parse_conversation, read_examples
from language.visdial.dialogs import conversation
from language.visdial.rows import Rows


class AnswerSettings(Settings):
    """What decides an answer."""

    model: str
    precision: str = "auto"
    max_new_tokens: int = Field(256, ge=1)
    temperature: float = Field(0, ge=0)  # 0: the likeliest words
    top_p: float = Field(1, gt=0, le=1)
    seed: int = 0


class Answerer:
    """A model that answers; asked alone or in a batch, it says the same."""

    def __init__(self, settings: AnswerSettings) -> None:
        from transformers import GenerationConfig

        from language.visdial.model import load

        self.settings = settings
        self.model, processor = load(settings.model, settings.precision)
        self.encoder, self.tokenizer = Encoder(processor), processor.tokenizer
        drawn = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
        # instead of the published one, by which Gemma-3 draws
        self.model.generation_config = GenerationConfig(
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=self._ends(),
            pad_token_id=self.tokenizer.pad_token_id,
            **(drawn if settings.temperature else {"do_sample": False}),
        )

    def _ends(self) -> list[int]:
        published = self.model.generation_config.eos_token_id
        listed = published if isinstance(published, list) else [published]
        ending = self.tokenizer.convert_tokens_to_ids(self.encoder.ending)
        return sorted({token for token in (*listed, self.tokenizer.eos_token_id, ending) if token is not None})

    def texts(self, examples: list[Example], rows: list[dict], stream: bool = False) -> list[str]:
        """What the model writes for encoded questions, without their prompts."""
        import torch
        from transformers import TextStreamer

        if self.settings.temperature and len(rows) > 1:  # drawn by itself, whatever else is in the batch
            return [self.texts([e], [row])[0] for e, row in zip(examples, rows, strict=True)]
        torch.manual_seed(zlib.crc32(f"{self.settings.seed} {examples[0].where}".encode()))
        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True) if stream else None
        batch = {name: value.to(self.model.device) for name, value in self.encoder.batch(rows, "left").items()}
        with torch.inference_mode():
            written = self.model.generate(**batch, streamer=streamer)
        # Prompts are padded on the left: all replies begin where the longest prompt ends.
        replies = written[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(replies, skip_special_tokens=True)]


@contextmanager
def memory_line(what: str):
    """Raises `UserError`, which says that `what` has to be lower, where a GPU is out of memory."""
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"the accelerator is out of memory; lower {what}, or take --precision 4bit: {reason}") from None


def answer_batch(
    settings: AnswerSettings, examples: list[Example], skipped: list[dict], out: Path, size: int, retry_failed: bool
) -> Rows:
    """Answer what the file has no answer to yet; each batch is written before the next one is asked.

    Raises:
        UserError: the file holds answers made with other settings, or the model cannot be used.
    """
    from rich.console import Console
    from rich.progress import track

    rows = Rows(out, settings)
    rows.add_skipped(skipped)
    todo = rows.open(examples, retry_failed)
    if todo:
        answerer = Answerer(settings)
        console = Console(stderr=True)
        starts = track(range(0, len(todo), size), "", console=console, disable=not console.is_terminal)
        with memory_line(f"--batch-size (now {size})"):
            for start in starts:
                for row in _answered(answerer, todo[start : start + size]):
                    rows.add(row)
    write_json(out.with_suffix(".figures.json"), {"answered": len(rows.results), "failed": len(rows.errors)})
    return rows


def _answered(answerer: Answerer, examples: list[Example]) -> list[dict]:
    from language.caption.photos import UnreadablePhoto

    good, encoded, found = [], [], []
    for example in examples:
        try:
            encoded.append(answerer.encoder.row(example))
            good.append(example)
        except (UnreadablePhoto, Unusable) as error:
            found.append({**example.where, "error": str(error)})
    for example, text in zip(good, answerer.texts(good, encoded) if good else [], strict=True):
        told = extract(text, example.asked)
        result = {"error": told.problem} if told.problem else {"answer": told.answer}
        found.append({**example.where, "conversation": example.asked, "response": text, **result})
    return found


def answer_one(settings: AnswerSettings, image: Path, text: str, stream: bool) -> str:
    """The answer to one conversation.

    Raises:
        UserError: the conversation or the photo cannot be read, its last question is answered, or nothing came back.
    """
    dialog = parse_conversation(text, image.name)
    example = Example(image.name, len(dialog.rounds), conversation(dialog, len(dialog.rounds)), image)
    if not image.is_file():
        raise UserError(f"no photo {image}")
    answerer = Answerer(settings)
    with memory_line("--max-new-tokens"):
        try:
            written = answerer.texts([example], [answerer.encoder.row(example)], stream)[0]
        except ValueError as error:
            raise UserError(str(error)) from error
    told = extract(written, example.asked)
    if told.problem:
        raise UserError(f"the model gave no answer: {told.problem} ({written[:100]!r})")
    return told.answer


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m language.visdial.answer", description=__doc__.split("\n")[0])
    add_model_arguments(parser)
    one, many = parser.add_argument_group("one question"), parser.add_argument_group("many questions")
    one.add_argument("--image", type=Path, help="photo")
    one.add_argument("--conversation", metavar="TEXT|FILE", help="lines `Q: …`, `A: …`, ending with a question")
    one.add_argument("--stream", action="store_true", help="show words as they come")
    many.add_argument("--batch", type=Path, metavar="FILE", help="VisDial JSON, or .jsonl with image_id, conversation")
    many.add_argument("--photos", type=Path, metavar="FOLDER", help="where its photos lie")
    many.add_argument("--out", type=Path, metavar="FILE.jsonl", help="answers, one a line")
    many.add_argument("--rounds", choices=["last", "all"], default="last", help="questions of each dialog")
    add_batch_arguments(many, 8)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0, help="0 (the default): the likeliest words")
    parser.add_argument("--top-p", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    settings = checked_settings(AnswerSettings, args)
    if args.batch and args.out and not (args.image or args.conversation or args.stream):
        examples, skipped = read_examples(args.batch, args.photos, args.rounds)
        rows = answer_batch(settings, examples[: args.limit], skipped, args.out, args.batch_size, args.retry_failed)
        print(rows.summary())
        return int(bool(rows.errors))
    if args.image and args.conversation and not (args.batch or args.out):
        told = answer_one(settings, args.image, _text(args.conversation), args.stream)
        if not args.stream:
            print(told)
        return 0
    raise UserError("give --image and --conversation for one answer, or --batch and --out for many")


def _text(given: str) -> str:
    if given.lstrip().startswith("Q:"):
        return given
    try:
        return Path(given).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--conversation {given!r} is neither a text that begins with `Q:` nor a file") from error


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model answers or ranks."""
    parser.add_argument("--model", required=True, help="folder of a run, a merged model, or a hub name")
    choices = ["auto", "fp32", "bf16", "fp16", "8bit", "4bit"]
    parser.add_argument("--precision", choices=choices, default="auto", help="of its weights; auto: bf16 on a GPU")


def add_batch_arguments(group, size: int) -> None:
    """How a file is worked through."""
    group.add_argument("--batch-size", type=_count, default=size, metavar="N", help="at the same time (%(default)s)")
    group.add_argument("--limit", type=_count, metavar="N", help="only the first N questions")
    group.add_argument("--retry-failed", action="store_true", help="try rows again that failed")


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, but got {text!r}")
    return int(text)


def checked_settings(schema: type[Settings], args: argparse.Namespace):
    """The arguments that are settings, checked.

    Raises:
        UserError: a value is not allowed.
    """
    from pydantic import ValidationError

    try:
        return schema(**{name: getattr(args, name) for name in schema.model_fields})
    except ValidationError as error:
        wrong = error.errors()[0]
        option = str(wrong["loc"][0]).replace("_", "-")
        raise UserError(f"--{option}: {wrong['msg'].lower()}, got {wrong['input']!r}") from error


if __name__ == "__main__":
    exit_with(main)
