"""The loop that asks: bounded in flight, paced, journalled, validated, asked once more, within a budget."""

import heapq
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Generic, Protocol, TypeVar

from common.errors import UserError, gentle_stop
from datagen.llm.journal import Ask, DiskFull, Journal, Outcome
from datagen.llm.limits import Pace, Price
from datagen.llm.providers import Provider
from datagen.llm.records import FatalError, ModelError, RejectedError, Reply, Request, RetryableError
from datagen.llm.settings import ModelSettings

DAY_S = 86400
P = TypeVar("P")  # kind of provider


class Judge(Protocol):
    """What a job knows of replies."""

    def check(self, text: str, source: dict) -> tuple[object | None, list[str]]:
        """The reply as JSON data, or what is wrong with it in words."""
        ...

    def remark(self, problems: list[str], source: dict) -> str:
        """How the model is told of the problems."""
        ...


@dataclass
class Tally:
    """How a run stands, in distinct requests; what is shown while it goes on."""

    ok: int = 0
    failed: int = 0
    asked: int = 0
    cost: float = 0.0  # USD, all attempts of the journal
    stopped: str = ""  # why it stopped before the end


def asked_again(ask: Ask, reply: str, problems: list[str], judge: Judge, settings: ModelSettings) -> Ask:
    """The re-ask after a reply that broke something."""
    remark = judge.remark(problems, ask.source)
    request = ask.request.followed_by(reply, remark, settings.retry_temperature, settings.retry_top_p)
    return Ask(ask.root, request, ask.source, ask.round, ask.number + 1)


def next_ask(journal: Journal, judge: Judge, settings: ModelSettings, root: Request, source: dict, turn: int) -> Ask:
    """The attempt that a request is due: itself, or the re-ask after the replies it already got."""
    again = root if turn == 1 else replace(root, seed=root.seed + turn - 1)  # the same seed may give the same reply
    ask = Ask(root.hash, again, source, turn)
    for reply, problems in journal.invalid_replies(root.hash, turn):
        ask = asked_again(ask, reply, problems, judge, settings)
    return ask


def judged(ask: Ask, reply: Reply, judge: Judge, settings: ModelSettings, cost: float, latency_s: float) -> Outcome:
    """The outcome of a reply: ok, or invalid and, after the last attempt, failed."""
    broken = False
    if reply.finish == "refusal":
        parsed, problems = None, [f"the model refused: {reply.text[:200]}"]
    else:
        try:
            parsed, problems = judge.check(reply.text, ask.source)
        except Exception as error:  # our own mistake must not lose a reply that is paid for, nor pay for more
            parsed, problems, broken = None, [f"the check broke: {error!r}"], True
        if problems and reply.finish == "length":
            problems = [f"the reply was cut off at {ask.request.max_tokens} tokens; be shorter", *problems]
    last = broken or ask.number >= settings.max_attempts
    state = "ok" if not problems else "failed" if last else "open"
    return Outcome("invalid" if problems else "ok", state, reply, parsed, problems, "", cost, latency_s)


@dataclass
class Asking(Generic[P]):
    """What a runner needs: open requests, who answers, who judges, and the money."""

    journal: Journal
    provider: P
    judge: Judge
    settings: ModelSettings
    price: Price
    budget: float | None = None  # USD for all attempts of the journal
    report: Callable[[Tally], None] = lambda tally: None
    tally: Tally = field(default_factory=Tally)


class Runner(Asking[Provider]):
    """Asks a journal's open requests until none is left, or the budget, the day's limit or the server stops it."""

    def run(self) -> Tally:
        """Ask everything that is open.

        Raises:
            UserError: nothing can succeed (key, model, funds, disk); what was answered before is kept.
        """
        states = self.journal.distinct()
        self.tally = Tally(states["ok"], states["failed"], cost=self.journal.cost())
        self.pace, self.order, self.silent, self.heard = Pace(self.settings), count(), 0, False
        self.today = self.journal.attempts_since(time.time() // DAY_S * DAY_S)
        self.fresh, self.due, self.broken = self.journal.open_requests(), [], None
        self.asks: list[Ask] = []
        self.flying: dict[Future, Ask] = {}
        ended: list[tuple[Ask, Outcome]] = []
        with gentle_stop(self._stop), ThreadPoolExecutor(self.settings.concurrency) as self.pool:
            while self._send(ended) or self.flying:
                ended = self._wait()
        if self.broken:
            raise self.broken
        if not self.tally.stopped and (waiting := self.journal.in_batches()):
            self.tally.stopped = f"{waiting:,} requests are in a batch; batch_api=true collects them"
        return self.tally

    def _stop(self) -> None:
        self.tally.stopped = "stopped by Ctrl-C"

    def _send(self, ended: list[tuple[Ask, Outcome]]) -> bool:
        """Commit what ended together with what is sent next, then send it; whether there is more to do."""
        self.asks, self.blocked = [], False
        while len(self.flying) + len(self.asks) < self.settings.concurrency and (ask := self._next()):
            self.asks.append(ask)
        try:
            if self.asks or ended:
                self.journal.commit(self.asks, ended)
        except DiskFull as error:
            self.broken, self.tally.stopped, self.asks = error, "the disk is full", []
        for ask in self.asks:
            self.flying[self.pool.submit(self._call, ask.request)] = ask
        self.report(self.tally)
        return bool(self.due) and not self.tally.stopped

    def _next(self) -> Ask | None:
        """The next attempt that may be sent now: one that waited, else a fresh one."""
        if self.tally.stopped:
            return None
        now = time.monotonic()
        if not self.due or self.due[0][0] > now:
            # no more may wait than can fly, so that memory stays flat however slow the server is
            row = next(self.fresh, None) if len(self.due) < self.settings.concurrency else None
            if row is None:
                return None
            heapq.heappush(self.due, (now, next(self.order), next_ask(self.journal, self.judge, self.settings, *row)))
        ask = self.due[0][2]
        if (pause := self.pace.wait(ask.request)) > 0:
            at, turn, _ = self.due[0]
            heapq.heapreplace(self.due, (max(at, now + pause), turn, ask))
            return None
        bound = self.price.most(ask.request)
        if self.budget is not None and self.tally.cost + self._reserved() + bound > self.budget:
            if self.flying or self.asks:  # these will cost less than they could
                self.blocked = True
            else:
                self.tally.stopped = f"the next request could pass the budget of ${self.budget:g}"
        elif self.settings.rpd and self.today >= self.settings.rpd:
            self.tally.stopped = f"the day's {self.settings.rpd} requests are used up; go on after midnight UTC"
        else:
            heapq.heappop(self.due)
            self.pace.take(ask.request)
            self.today, ask.bound = self.today + 1, bound
            self.tally.asked += 1
            return ask
        return None

    def _reserved(self) -> float:
        """USD that attempts without a reply yet can cost at most."""
        return sum(ask.bound for ask in (*self.flying.values(), *self.asks))

    def _later(self, ask: Ask, seconds: float) -> None:
        heapq.heappush(self.due, (time.monotonic() + seconds, next(self.order), ask))

    def _call(self, request: Request) -> tuple[Reply | ModelError, float]:
        start = time.monotonic()
        try:
            answer = self.provider.complete(request)
        except ModelError as error:
            answer = error
        except Exception as error:  # one strange reply must not end the others
            answer = RejectedError(f"{type(error).__name__}: {error}")
        return answer, time.monotonic() - start

    def _wait(self) -> list[tuple[Ask, Outcome]]:
        """Outcomes of the attempts that ended; comes back without any when something else is due to be sent."""
        due = self.due and not self.tally.stopped and not self.blocked
        pause = max(0.01, self.due[0][0] - time.monotonic()) if due else None
        if not self.flying:
            time.sleep(min(pause or 0, 1.0))  # looks up now and then for Ctrl-C
            return []
        room = len(self.flying) < self.settings.concurrency
        done, _ = wait(self.flying, timeout=pause if room else None, return_when=FIRST_COMPLETED)
        landed = [(self.flying.pop(future), future.result()) for future in done]
        return [(ask, self._outcome(ask, *result)) for ask, result in landed]

    def _outcome(self, ask: Ask, answer: Reply | ModelError, latency_s: float) -> Outcome:
        if isinstance(answer, Reply):
            self.silent, self.heard = 0, True
            cost = self.price.of(ask.request, answer)
            outcome = judged(ask, answer, self.judge, self.settings, cost, latency_s)
            if outcome.state == "open":
                self._later(asked_again(ask, answer.text, outcome.problems, self.judge, self.settings), 0.0)
        else:
            outcome = self._missed(ask, answer, latency_s)
        self.tally.cost += outcome.cost
        self.tally.ok += outcome.state == "ok"
        self.tally.failed += outcome.state == "failed"
        return outcome

    def _missed(self, ask: Ask, error: ModelError, latency_s: float) -> Outcome:
        """No reply: again later, failed, or the end of the run."""
        missed = lambda state, cost=0.0: Outcome("error", state, error=str(error), cost=cost, latency_s=latency_s)
        if isinstance(error, FatalError):
            self._break(str(error))
            return missed("open")
        if isinstance(error, RejectedError):
            return missed("failed")
        self.silent += 1
        cost = ask.bound if isinstance(error, RetryableError) and error.billed else 0.0
        if ask.tries < self.settings.retries:
            again = Ask(ask.root, ask.request, ask.source, ask.round, ask.number, ask.tries + 1)
            self._later(again, self.pace.back_off(again.tries, getattr(error, "retry_after", None)))
            return missed("open", cost)
        if not self.heard or self.silent > self.settings.concurrency * self.settings.retries:
            self._break(f"the server does not answer ({error}); run the same command again when it does")
            return missed("open", cost)
        return missed("failed", cost)

    def _break(self, message: str) -> None:
        self.broken, self.tally.stopped = self.broken or UserError(message), "the server refuses"
