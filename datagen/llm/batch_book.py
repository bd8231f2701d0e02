"""What the journal knows of batches: "intent" (about to be sent), "sent", then "read", or "dropped" if it never ran."""

import json
import time
from dataclasses import dataclass

from datagen.llm.journal import Ask, Journal
from datagen.llm.records import Request
from datagen.llm.runner import Judge, next_ask
from datagen.llm.settings import ModelSettings


@dataclass(frozen=True)
class Batch:
    """A batch by our name and the server's, and when it was written down."""

    name: str
    remote: str | None
    created: float


class BatchBook:
    """The batches of a journal and the attempts in them."""

    def __init__(self, journal: Journal, judge: Judge, settings: ModelSettings) -> None:
        self.journal, self.db, self.judge, self.settings = journal, journal.db, judge, settings

    def intend(self, name: str) -> None:
        """Write down that a batch is about to be sent; within the transaction that writes its attempts."""
        self.db.execute("INSERT INTO batches VALUES (?, NULL, 'intent', ?)", (name, time.time()))

    def forget(self, name: str) -> None:
        """Nothing is in it; within the transaction that wrote it down."""
        self.db.execute("DELETE FROM batches WHERE name = ?", (name,))

    def sent(self, name: str, remote: str) -> None:
        """Write down that the server has it."""
        with self.journal.transaction():
            self.db.execute("UPDATE batches SET remote = ?, state = 'sent' WHERE name = ?", (remote, name))

    def read(self, name: str) -> None:
        """Write down that all of its attempts are settled."""
        with self.journal.transaction():
            self.db.execute("UPDATE batches SET state = 'read' WHERE name = ?", (name,))

    def drop(self, name: str, reason: str) -> None:
        """Write down that it never ran: nothing was paid, and its attempts count for nothing."""
        with self.journal.transaction():
            self.db.execute(
                "UPDATE attempts SET status = 'lost', cost = 0, error = ? WHERE batch = ? AND status = 'sent'",
                (reason, name),
            )
            self.db.execute("UPDATE batches SET state = 'dropped' WHERE name = ?", (name,))

    def all(self, state: str) -> list[Batch]:
        """The batches in a state, the oldest first."""
        rows = self.db.execute("SELECT name, remote, created FROM batches WHERE state = ? ORDER BY created", (state,))
        return [Batch(*row) for row in rows]

    def waiting(self, name: str, answer: str) -> Ask | None:
        """The attempt that a line of a batch answers; None where it is answered already or was never asked."""
        number = answer.partition("-")[0]
        row = self.db.execute(
            "SELECT id, root, round, cost FROM attempts WHERE id = ? AND batch = ? AND status = 'sent'",
            (number, name),
        ).fetchone()
        ask = self._ask(name, *row) if row else None
        return ask if ask and line_name(ask) == answer else None

    def unanswered(self, name: str, most: int) -> list[Ask]:
        """Up to `most` attempts of a batch that have no outcome yet."""
        rows = self.db.execute(
            "SELECT id, root, round, cost FROM attempts WHERE batch = ? AND status = 'sent' ORDER BY id LIMIT ?",
            (name, most),
        )
        return [self._ask(name, *row) for row in rows.fetchall()]

    def _ask(self, name: str, attempt: int, root: str, turn: int, bound: float) -> Ask:
        body, source = self.db.execute(
            "SELECT body, (SELECT source FROM items i WHERE i.hash = r.hash LIMIT 1) FROM requests r WHERE hash = ?",
            (root,),
        ).fetchone()
        ask = next_ask(self.journal, self.judge, self.settings, Request.from_json(body), json.loads(source), turn)
        ask.id, ask.bound, ask.batch, ask.tries = attempt, bound, name, self._tries(ask)
        return ask

    def _tries(self, ask: Ask) -> int:
        """How often this attempt got no reply before."""
        return self.db.execute(
            "SELECT count(*) FROM attempts WHERE root = ? AND round = ? AND number = ? AND status = 'error'",
            (ask.root, ask.round, ask.number),
        ).fetchone()[0]


def line_name(ask: Ask) -> str:
    """The name of an attempt's line in a batch, which its answer carries."""
    return f"{ask.id}-{ask.root[:12]}"
