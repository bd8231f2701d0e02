"""What was said lately, so that the next comment begins and ends differently."""

import json
from pathlib import Path

from common.errors import UserError
from common.files import write_json
from language.rules import EMOJI

OPENINGS, EMOJIS = 60, 6  # how far back each is remembered


def opening(text: str) -> str:
    """The first two words of a comment."""
    return " ".join(text.split()[:2])


class Memory:
    """Openings and emoji of recent comments, kept in a JSON file, or without one for as long as the object lives.

    Raises:
        UserError: the file exists but is no memory, or its folder does not exist.
    """

    def __init__(self, file: Path | None = None):
        self.file = file and Path(file)
        self.openings: list[str] = []
        self.emoji: list[str] = []
        if not self.file:
            return
        if not self.file.parent.is_dir():
            raise UserError(f"--memory {file}: the folder {self.file.parent} does not exist")
        if self.file.exists():
            try:
                raw = json.loads(self.file.read_text("utf-8"))
                self.openings, self.emoji = [str(o) for o in raw["openings"]], [str(e) for e in raw["emoji"]]
            except (ValueError, KeyError, TypeError, OSError):
                raise UserError(
                    f"--memory {file} is not a memory file (JSON with openings and emoji); remove it or name another"
                ) from None

    def repeats(self, text: str) -> int:
        """How much of a comment was just said: 2 for a known opening, 1 for a known emoji."""
        return 2 * (opening(text) in self.openings) + any(e in self.emoji for e in EMOJI.findall(text))

    def add(self, text: str) -> None:
        """Remember a comment; written atomically at once where there is a file."""
        self.openings = [*self.openings, opening(text)][-OPENINGS:]
        self.emoji = [*self.emoji, *EMOJI.findall(text)][-EMOJIS:]
        if not self.file:
            return
        try:
            write_json(self.file, {"openings": self.openings, "emoji": self.emoji}, indent=None)
        except OSError as error:
            raise UserError(f"--memory {self.file} cannot be written: {error.strerror}") from None
