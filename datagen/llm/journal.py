"""The journal of a job: SQLite, one row per attempt, so that nothing that was paid for is lost or asked again.

An attempt is written down before it is sent ("sent") and completed when its reply is here; a process that dies leaves
at most the attempts in flight open, and only those are asked once more. Only one thread writes, many rows a commit.
`synchronous=FULL`: a commit survives a power cut too; with rows committed together the disk is not what one waits for.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from datagen.llm.records import Reply, Request

TABLES = """
CREATE TABLE IF NOT EXISTS requests (seq INTEGER PRIMARY KEY, hash TEXT UNIQUE, body TEXT, state TEXT DEFAULT 'open',
    round INTEGER DEFAULT 1, reason TEXT DEFAULT '', result TEXT, decided_by INTEGER);
CREATE TABLE IF NOT EXISTS items (key TEXT, hash TEXT, position INTEGER, run INTEGER, current INTEGER DEFAULT 1,
    problem TEXT DEFAULT '', source TEXT, PRIMARY KEY (key, hash));
CREATE INDEX IF NOT EXISTS items_by_hash ON items (hash);
CREATE TABLE IF NOT EXISTS attempts (id INTEGER PRIMARY KEY, root TEXT, hash TEXT, round INTEGER, number INTEGER,
    model TEXT, temperature REAL, top_p REAL, max_tokens INTEGER, rules TEXT, status TEXT, reply TEXT, parsed TEXT,
    problems TEXT, error TEXT, finish TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL,
    latency_s REAL, sent_at REAL, batch TEXT);
CREATE INDEX IF NOT EXISTS attempts_by_root ON attempts (root);
CREATE INDEX IF NOT EXISTS attempts_by_status ON attempts (status);
CREATE TABLE IF NOT EXISTS batches (name TEXT PRIMARY KEY, remote TEXT, state TEXT, created REAL);
"""
BALLAST = 4 << 20  # bytes kept aside, for the replies that arrive after the disk is full
DISK_FULL = "the disk is full; every reply that arrived is kept: make room and run the same command again"


class DiskFull(UserError):
    """There is no room for the journal; what is committed stays."""


@dataclass(frozen=True)
class Item:
    """One row of a job: what it is about, and the request that answers it, or why none can be made."""

    key: str
    source: dict
    request: Request | None = None
    problem: str = ""


@dataclass
class Ask:
    """One attempt: the request as sent, and the item's request (its root) that it serves."""

    root: str
    request: Request
    source: dict
    round: int = 1
    number: int = 1  # the how manieth reply of this round
    tries: int = 0  # how often it got no reply
    bound: float = 0.0  # USD it can cost at most
    batch: str | None = None
    id: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; `state` is what its request is now."""

    status: str  # ok, invalid, error
    state: str = "open"  # open, ok, failed
    reply: Reply | None = None
    parsed: object = None
    problems: list[str] = field(default_factory=list)
    error: str = ""
    cost: float = 0.0
    latency_s: float = 0.0


class Journal:
    """The journal file of one job's folder; only one process has it open. Without a path it lives in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.ballast = path and path.with_name("ballast")
        try:
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not self.ballast.exists():
                    self.ballast.write_bytes(b"\1" * BALLAST)
            self.db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=1)
            self.db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.executescript(TABLES)
            self.run = self._one("SELECT coalesce(max(run), 0) + 1 FROM items")
            self.lost = self.db.execute(
                "UPDATE attempts SET status='lost' WHERE status='sent' AND batch IS NULL"
            ).rowcount
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise UserError(f"another run has {path} open; wait for it or stop it") from None
            raise UserError(f"cannot open the journal {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path} is not a journal: {error}") from error

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @contextmanager
    def transaction(self, keep: bool = True) -> Iterator[None]:
        """All or nothing; `keep=False` undoes everything at the end: what would happen if."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT" if keep else "ROLLBACK")
        except BaseException as error:
            if self.db.in_transaction:  # a full disk may have rolled back by itself
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                raise DiskFull(DISK_FULL) from None
            raise

    def add(self, items: Iterable[Item], mode: str | None = None) -> None:
        """Take in a run's items. Rows that were answered under other settings need a `mode`: "skip" leaves them,
        "overwrite" asks anew and "append" keeps both.

        Raises:
            UserError: a key stands twice, or there are such rows and no mode.
        """
        for position, item in enumerate(items):
            digest = item.request.hash if item.request else ""
            known = self.db.execute(
                "SELECT i.hash, i.run, r.state FROM items i LEFT JOIN requests r ON r.hash = i.hash "
                "WHERE i.key = ? AND i.current",
                (item.key,),
            ).fetchall()
            if any(run == self.run for _, run, _ in known):
                raise UserError(f"the key {item.key!r} stands twice (again in row {position + 1}); keys must differ")
            others = [(old, state) for old, _, state in known if old != digest]
            if len(others) == len(known) and any(state == "ok" for _, state in others):
                if mode is None:
                    raise UserError(
                        f"{item.key!r} was answered under other settings (model, prompt, parameters or rules); "
                        "give --skip to keep such answers, --overwrite to ask anew, --append to have both"
                    )
                if mode == "skip":
                    self.db.execute("UPDATE items SET run = ? WHERE key = ? AND current", (self.run, item.key))
                    continue
            for old, state in others:
                if state != "ok" or mode == "overwrite":
                    self.db.execute("UPDATE items SET current = 0 WHERE key = ? AND hash = ?", (item.key, old))
            self._put(item, digest, position)

    def _put(self, item: Item, digest: str, position: int) -> None:
        if item.request:
            self.db.execute(
                "INSERT OR IGNORE INTO requests (hash, body) VALUES (?, ?)", (digest, item.request.to_json())
            )
        source = json.dumps(item.source, ensure_ascii=False)
        self.db.execute(
            "INSERT INTO items (key, hash, position, run, problem, source) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO "
            "UPDATE SET position = excluded.position, run = excluded.run, current = 1, problem = excluded.problem, "
            "source = excluded.source",
            (item.key, digest, position, self.run, item.problem, source),
        )

    def reopen_failed(self) -> int:
        """Put this run's failed requests back to be asked; returns how many."""
        return self.db.execute(
            "UPDATE requests SET state = 'open', round = round + 1, reason = '' WHERE state = 'failed' AND hash IN "
            "(SELECT hash FROM items WHERE run = ? AND current)",
            (self.run,),
        ).rowcount

    def open_requests(self) -> Iterator[tuple[Request, dict, int]]:
        """This run's requests without an answer and not in a batch, in order, with the source of an item and the
        round."""
        last = -1
        while True:
            rows = self.db.execute(
                "SELECT seq, body, round, (SELECT source FROM items i WHERE i.hash = r.hash AND run = ? AND current "
                "LIMIT 1) AS source FROM requests r WHERE state = 'open' AND seq > ? AND source IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.root = r.hash AND a.status = 'sent') "
                "ORDER BY seq LIMIT 200",
                (self.run, last),
            ).fetchall()
            for _, body, turn, source in rows:
                yield Request.from_json(body), json.loads(source), turn
            if not rows:
                return
            last = rows[-1][0]

    def invalid_replies(self, root: str, turn: int) -> list[tuple[str, list[str]]]:
        """The replies of a request's round that broke something: text and problems, in order."""
        rows = self.db.execute(
            "SELECT reply, problems FROM attempts WHERE root = ? AND round = ? AND status = 'invalid' ORDER BY id",
            (root, turn),
        )
        return [(reply, json.loads(problems)) for reply, problems in rows]

    def sent(self, asks: list[Ask]) -> None:
        """Write down that attempts are about to be sent, and give them ids."""
        now = time.time()
        for ask in asks:
            q = ask.request
            row = (ask.root, q.hash, ask.round, ask.number, q.model, q.temperature, q.top_p, q.max_tokens, q.rules)
            ask.id = self.db.execute(
                "INSERT INTO attempts (root, hash, round, number, model, temperature, top_p, max_tokens, rules, "
                "status, cost, sent_at, batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'sent', ?, ?, ?)",
                (*row, ask.bound, now, ask.batch),  # what is never heard of may have been charged
            ).lastrowid

    def finished(self, ask: Ask, outcome: Outcome) -> None:
        """Complete an attempt, and settle its request where that is decided."""
        reply, dump = outcome.reply, lambda value: json.dumps(value, ensure_ascii=False)
        parsed = None if outcome.parsed is None else dump(outcome.parsed)
        got = (reply.text, reply.finish, reply.prompt_tokens, reply.completion_tokens) if reply else (None,) * 4
        self.db.execute(
            "UPDATE attempts SET status = ?, reply = ?, finish = ?, prompt_tokens = ?, completion_tokens = ?, "
            "parsed = ?, problems = ?, error = ?, cost = ?, latency_s = ? WHERE id = ?",
            (outcome.status, *got, parsed, dump(outcome.problems), outcome.error, outcome.cost,
             outcome.latency_s, ask.id),
        )  # fmt: skip
        if outcome.state != "open":
            reason = outcome.error or "; ".join(outcome.problems)
            self.db.execute(
                "UPDATE requests SET state = ?, reason = ?, result = ?, decided_by = ? WHERE hash = ?",
                (outcome.state, reason, parsed if outcome.state == "ok" else None, ask.id, ask.root),
            )

    def commit(self, asks: list[Ask], outcomes: list[tuple[Ask, Outcome]]) -> None:
        """Write attempts about to be sent and attempts that ended in one commit.

        Raises:
            DiskFull: nothing may be sent; the ended ones are written, into the room that was kept aside.
        """
        try:
            self._commit(asks, outcomes)
        except DiskFull:
            if self.ballast:
                self.ballast.unlink(missing_ok=True)
            self._commit([], outcomes)
            raise

    def _commit(self, asks: list[Ask], outcomes: list[tuple[Ask, Outcome]]) -> None:
        with self.transaction():
            for ask, outcome in outcomes:
                self.finished(ask, outcome)
            self.sent(asks)

    def counts(self) -> dict[str, int]:
        """This run's items by state; an item that could make no request is failed."""
        rows = self.db.execute(
            "SELECT CASE WHEN i.problem != '' THEN 'failed' ELSE r.state END AS s, count(*) FROM items i "
            "LEFT JOIN requests r ON r.hash = i.hash WHERE i.run = ? AND i.current GROUP BY s",
            (self.run,),
        )
        return {"ok": 0, "failed": 0, "open": 0, **dict(rows)}

    def distinct(self) -> dict[str, int]:
        """This run's distinct requests by state."""
        rows = self.db.execute(
            "SELECT state, count(*) FROM requests WHERE hash IN (SELECT hash FROM items WHERE run = ? AND current) "
            "GROUP BY state",
            (self.run,),
        )
        return {"ok": 0, "failed": 0, "open": 0, **dict(rows)}

    def cost(self) -> float:
        """USD spent by all attempts; those never heard of count at their most."""
        return self._one("SELECT coalesce(sum(cost), 0) FROM attempts")

    def attempts_since(self, moment: float) -> int:
        """How many attempts were sent since a Unix time."""
        return self._one("SELECT count(*) FROM attempts WHERE sent_at >= ?", moment)

    def in_batches(self) -> int:
        """How many attempts are in batches that have not come back."""
        return self._one("SELECT count(*) FROM attempts WHERE status = 'sent' AND batch IS NOT NULL")

    def mean_completion(self) -> float | None:
        """Mean tokens of the replies so far; None where there are none."""
        return self._one("SELECT avg(completion_tokens) FROM attempts WHERE completion_tokens IS NOT NULL")

    def first_try(self) -> float | None:
        """Share of requests whose first reply was right; None where there are no replies."""
        return self._one(
            "SELECT avg(status = 'ok') FROM attempts WHERE round = 1 AND number = 1 AND status IN ('ok', 'invalid') "
            "AND root IN (SELECT hash FROM items WHERE current)"
        )

    def rows(self, state: str) -> Iterator[dict]:
        """Items in a state ("ok", "failed"), in order: key, source, result, reason, and the attempt that decided."""
        cursor = self.db.execute(
            "SELECT i.key, i.source, r.result, CASE WHEN i.problem != '' THEN i.problem ELSE r.reason END AS reason, "
            "a.reply, a.model, a.temperature, a.top_p, a.max_tokens, (SELECT count(*) FROM attempts n WHERE "
            "n.root = i.hash AND n.status IN ('ok', 'invalid')) AS attempts FROM items i "
            "LEFT JOIN requests r ON r.hash = i.hash LEFT JOIN attempts a ON a.id = r.decided_by WHERE i.current AND "
            "CASE WHEN i.problem != '' THEN 'failed' ELSE r.state END = ? ORDER BY i.position, i.key, i.run",
            (state,),
        )
        names = [column[0] for column in cursor.description]
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            yield {**row, "source": json.loads(row["source"]), "result": row["result"] and json.loads(row["result"])}

    def _one(self, query: str, *values):
        return self.db.execute(query, values).fetchone()[0]
