"""Asking through OpenAI's Batch API: half the price, an answer within a day.

A batch's intent is in the journal before its file leaves, so a process that died is taken up where it was: batches
that the server has are found by their metadata and read, those that never arrived are sent anew, and only requests
that came back without a reply go into another batch. Re-asks go into the next one.
"""

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO, Protocol

from common.errors import UserError, gentle_stop
from datagen.llm.batch_book import Batch, BatchBook, line_name
from datagen.llm.journal import Ask, Outcome
from datagen.llm.limits import Pace
from datagen.llm.records import BatchState, ModelError, RejectedError, Reply, Request, RetryableError
from datagen.llm.runner import Asking, Tally, judged, next_ask

MOST_BYTES = 150_000_000  # of a batch's file; OpenAI takes 200 MB
AT_ONCE = 200  # answers in one commit


class BatchProvider(Protocol):
    """A server that takes batches. Every method tries once, and raises the errors of `records`."""

    def batch_line(self, name: str, request: Request) -> bytes: ...

    def submit_batch(self, file: IO[bytes], name: str) -> str: ...

    def find_batch(self, name: str, since: float) -> str | None: ...

    def look_at_batch(self, remote: str) -> BatchState: ...

    def batch_answers(self, state: BatchState) -> Iterator[tuple[str, Reply | ModelError]]: ...


class BatchRunner(Asking[BatchProvider]):
    """Asks a journal's open requests by batches until none is left, or the budget or the server stops it."""

    def run(self) -> Tally:
        """Ask everything that is open; batches at the server go on when this stops, and the next run reads them.

        Raises:
            UserError: nothing can succeed (key, model, funds, disk, server); what was answered before is kept.
        """
        self.book = BatchBook(self.journal, self.judge, self.settings)
        self.pace, self.most, self.wake = Pace(self.settings), self.settings.concurrency, threading.Event()
        self.silent = 0
        self._count()
        with gentle_stop(self._stop):
            while not self.tally.stopped:
                self._match_orphans()
                while not self.tally.stopped and len(self.book.all("sent")) < self.most and self._submit():
                    pass
                if not (self.book.all("sent") or self.book.all("intent")):
                    break
                self._pause(self.settings.poll_s)
                for batch in [] if self.tally.stopped else self.book.all("sent"):
                    self._look(batch)
        self._count()
        if self.tally.stopped and (waiting := len(self.book.all("sent"))):
            self.tally.stopped += f" ({waiting} batches go on at the server)"
        return self.tally

    def _stop(self) -> None:
        self.tally.stopped = "stopped by Ctrl-C"
        self.wake.set()

    def _pause(self, seconds: float) -> None:
        self.wake.wait(seconds)

    def _count(self) -> None:
        states = self.journal.distinct()
        self.tally.ok, self.tally.failed, self.tally.cost = states["ok"], states["failed"], self.journal.cost()
        self.report(self.tally)

    def _insist(self, call: Callable, *args):
        """What a call that may be repeated returns; errors that pass are waited out."""
        tries = 0
        while True:
            try:
                return call(*args)
            except RetryableError as error:
                tries += 1
                if tries > self.settings.retries or self.tally.stopped:
                    raise UserError(
                        f"the server does not answer ({error}); run the same command again when it does"
                    ) from error
                self._pause(self.pace.back_off(tries, error.retry_after))
            except ModelError as error:
                raise UserError(str(error)) from error

    def _match_orphans(self) -> None:
        """Find out whether batches whose sending was cut off have arrived."""
        for batch in self.book.all("intent"):
            remote = self._insist(self.provider.find_batch, batch.name, batch.created)
            if remote is None and (wait := batch.created + self.settings.poll_s - time.time()) > 0:
                self._pause(wait)  # it may still be on its way into the server's list
                remote = self._insist(self.provider.find_batch, batch.name, batch.created)
            if remote is None:
                self.book.drop(batch.name, "the batch never arrived")
            else:
                self.book.sent(batch.name, remote)

    def _submit(self) -> bool:
        """Send a batch of what is open; whether another one may be sent after it."""
        name = uuid.uuid4().hex
        with tempfile.TemporaryFile() as file:
            if not self._intend(name, file):
                return False
            file.seek(0)
            try:
                remote = self.provider.submit_batch(file, name)
            except RetryableError as error:  # it may have arrived: the intent stays, and is looked for
                self.silent += 1
                if self.silent > self.settings.retries:
                    raise UserError(
                        f"the server takes no batches ({error}); run the same command again later"
                    ) from error
                self._pause(self.pace.back_off(self.silent, error.retry_after))
                return False
            except ModelError as error:
                self.book.drop(name, str(error))
                raise UserError(str(error)) from error
        self.silent = 0
        self.book.sent(name, remote)
        self._count()
        return True

    def _intend(self, name: str, file: IO[bytes]) -> int:
        """Write a batch of what is open down, and its file; how many requests are in it."""
        lines, spent = 0, self.journal.cost()
        with self.journal.transaction():
            self.book.intend(name)
            for row in self.journal.open_requests():
                ask = next_ask(self.journal, self.judge, self.settings, *row)
                ask.batch, ask.bound = name, self.price.most(ask.request, batch=True)
                if self.budget is not None and spent + ask.bound > self.budget:
                    if not lines and not self.book.all("sent"):  # those at the server will cost less than they could
                        self.tally.stopped = f"the next request could pass the budget of ${self.budget:g}"
                    break
                if self._write_line(ask, file):
                    lines, spent = lines + 1, spent + ask.bound
                if lines == self.settings.batch_requests or file.tell() > MOST_BYTES:
                    break
            if not lines:
                self.book.forget(name)
        self.tally.asked += lines
        return lines

    def _write_line(self, ask: Ask, file: IO[bytes]) -> bool:
        """Write an attempt down and into the file; one that cannot be written (a photo is gone) fails alone."""
        self.journal.sent([ask])
        try:
            file.write(self.provider.batch_line(line_name(ask), ask.request))
        except RejectedError as error:
            self.journal.finished(ask, Outcome("error", "failed", error=str(error)))
            return False
        return True

    def _look(self, batch: Batch) -> None:
        """Read a batch that is over."""
        state = self._insist(self.provider.look_at_batch, batch.remote)
        if not state.over:
            return
        if state.status == "failed" and not state.files:
            self._refused(batch, state)
            return
        self._settle(batch, state, self._insist(self._read, batch, state))
        self.book.read(batch.name)
        if state.status == "cancelled":
            self.tally.stopped = f"the batch {batch.remote} was cancelled"
        self._count()

    def _refused(self, batch: Batch, state: BatchState) -> None:
        """Nothing of it ran: there may have been too much at the server at once; refused alone, it never will."""
        reason = f"the server refused the batch {batch.remote}: {state.problem or 'no reason'}"
        self.book.drop(batch.name, reason)
        if self.most == 1:
            raise UserError(f"{reason} (batch_requests={self.settings.batch_requests} may be too many)")
        self.most = max(1, len(self.book.all("sent")))

    def _read(self, batch: Batch, state: BatchState) -> dict[str, ModelError]:
        """Write down the replies of a batch; the errors it holds are returned, by the name of their line, and one
        that concerns all the others under "".

        It may be read twice: what is answered is no longer waiting, be it by an earlier read or by an id that stands
        twice; ids that nobody asked are passed over.
        """
        errors: dict[str, ModelError] = {}
        try:
            answers = self.provider.batch_answers(state)
            while part := list(islice(answers, AT_ONCE)):
                errors |= {name: answer for name, answer in part if not isinstance(answer, Reply)}
                replies = {name: answer for name, answer in reversed(part) if isinstance(answer, Reply)}
                asks = ((self.book.waiting(batch.name, name), reply) for name, reply in replies.items())
                self.journal.commit([], [(ask, self._judged(batch, ask, reply)) for ask, reply in asks if ask])
                self._count()
        except RejectedError as lost:
            errors[""] = lost
        return errors

    def _judged(self, batch: Batch, ask: Ask, reply: Reply) -> Outcome:
        cost = self.price.of(ask.request, reply, batch=True)
        return judged(ask, reply, self.judge, self.settings, cost, time.time() - batch.created)

    def _settle(self, batch: Batch, state: BatchState, errors: dict[str, ModelError]) -> None:
        """What came back without a reply is open again, or failed where it was refused or missed too often."""
        missing = errors.get("", RetryableError("the batch came back without it"))
        while asks := self.book.unanswered(batch.name, AT_ONCE):
            outcomes = []
            for ask in asks:
                error = errors.get(line_name(ask), missing)
                final = isinstance(error, RejectedError) or ask.tries >= self.settings.retries
                # a server that says nothing of a request, or sends an empty answer, may have charged for it
                paid = error is missing and state.status == "completed" or getattr(error, "billed", False)
                cost, took = ask.bound if paid else 0.0, time.time() - batch.created
                state_now = "failed" if final else "open"
                outcomes.append((ask, Outcome("error", state_now, error=str(error), cost=cost, latency_s=took)))
            self.journal.commit([], outcomes)
