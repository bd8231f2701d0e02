"""What a trained writer says about itself, and how it is refused where it does not fit this code."""

import hashlib
import json
from pathlib import Path

from common.errors import UserError
from detection.labels import KNOWN_IDS, THING_IDS
from language.records import Element
from language.render import PROBES, TEMPLATES, fingerprint

POCKET = {name: Path(__file__).with_name(f"{name}_pocket") for name in ("t5", "gpt2")}
BANK = "bank"  # the writer without a model
WRITERS = (*POCKET, BANK)  # what ships
CARD = "writer.json"
KEYS = ("architecture", "template", "styles", "sorts", "eos", "fingerprints")


def fingerprints(tokenizer, template: str) -> dict[str, str]:
    """Of the rendering (inputs, plans, targets) and of a `tokenizers.Tokenizer`, as every checkpoint stores them."""
    digest = hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    for probe in (*PROBES, "모자가 잘 어울려요! 😊"):  # how it normalises and cuts
        digest.update(str(tokenizer.encode(probe, add_special_tokens=False).ids).encode())
    return {"rendering": fingerprint(template), "tokenizer": digest.hexdigest()[:12]}


def check_fingerprints(stored: dict[str, str], now: dict[str, str], where: str | Path) -> None:
    """Refuse what was trained with another rendering or another tokenizer.

    Raises:
        UserError: names what differs.
    """
    for what, value in now.items():
        if stored.get(what) != value:
            then = stored.get(what)
            raise UserError(
                f"the writer in {where} was trained with another {what} ({then}, here {value}); train again"
            )


def sort_of(element: Element) -> str:
    """Of what sort an element is to a writer, which speaks only of sorts that it has learned: its kind, but "thing"
    where no detector has a box for it, and "word" for what no class stands for."""
    if element.id not in KNOWN_IDS:
        return "word"
    return "thing" if element.id in THING_IDS else element.kind


def find_model(model: str) -> Path:
    """The folder of a writer.

    Raises:
        UserError: unknown name, or a folder that holds no writer.
    """
    folder = POCKET.get(model, Path(model))
    if not folder.is_dir():
        raise UserError(f"unknown writer {model!r}: allowed are {', '.join(WRITERS)} or a trained model's folder")
    missing = [name for name in (CARD, "model.bin", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no writer ({', '.join(missing)} missing); `python -m language.comment.train` exports one"
        )
    return folder


def read_card(folder: Path) -> dict:
    """`architecture`, `template`, `styles` by language, `sorts` of elements that it learned of, `eos` and
    `fingerprints` of a writer.

    Raises:
        UserError: the card is damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        whole = all(key in card for key in KEYS) and card["template"] in TEMPLATES and card["architecture"] in POCKET
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{folder / CARD} is damaged")
    return card
