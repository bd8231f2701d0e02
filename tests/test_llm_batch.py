"""Batches: written down before they leave, found again, read once, and only what is missing goes into the next."""

import json
import signal
import subprocess
import sys
import time

import pytest

from common.errors import UserError
from datagen.llm.batch import BatchRunner
from datagen.llm.journal import DiskFull, Journal
from datagen.llm.limits import FREE, Price
from datagen.llm.openai_ import _lines, answer_of
from datagen.llm.records import BatchState, FatalError, RejectedError, Reply, RetryableError
from datagen.llm.runner import Runner
from tests.conftest import ROOT
from tests.helpers import run_module
from tests.llm_server import KEY, serve
from tests.test_llm_faults import ENV, arguments
from tests.test_llm_runner import Script, YesJudge, attempts, items, settings

PRICE = Price(prompt=1000, completion=1000)


class Shop:
    """A server of batches in memory: `script` is per batch a function from (name, body) lines to answers."""

    def __init__(self, *script, looks: int = 0) -> None:
        self.script, self.looks = list(script), looks
        self.batches: dict[str, list] = {}  # our name -> [remote, lines, looks, answers]
        self.before_create = self.after_create = self.on_look = lambda: None

    def batch_line(self, name, request):
        return json.dumps([name, [m["content"] for m in request.messages]]).encode() + b"\n"

    def submit_batch(self, file, name):
        self.before_create()
        lines = [json.loads(line) for line in file]
        answer = self.script.pop(0) if self.script else good
        self.batches[name] = [f"remote-{len(self.batches)}", lines, self.looks, answer]
        self.after_create()
        return self.batches[name][0]

    def find_batch(self, name, since):
        return self.batches[name][0] if name in self.batches else None

    def look_at_batch(self, remote):
        self.on_look()
        batch = next(b for b in self.batches.values() if b[0] == remote)
        batch[2] -= 1
        if batch[2] >= 0:
            return BatchState("in_progress")
        return batch[3] if isinstance(batch[3], BatchState) else BatchState("completed", (remote,))

    def batch_answers(self, state):
        _, lines, _, answer = next(b for b in self.batches.values() if b[0] == state.files[0])
        yield from answer(lines)

    @property
    def asked(self) -> list[list[str]]:
        """The questions of every batch."""
        return [[texts[0] for _, texts in lines] for _, lines, _, _ in self.batches.values()]


def good(lines):
    return [(name, Reply("yes", 10, 10)) for name, _ in lines]


def run(journal, shop, rows=None, price=FREE, budget=None, **fields):
    if rows is not None:
        with journal.transaction():
            journal.add(rows)
    fields = {"poll_s": 0.001, "batch_api": True, "retries": 2, **fields}
    return BatchRunner(journal, shop, YesJudge(), settings(**fields), price, budget).run()


def test_batches_of_a_size_at_half_the_price():
    with Journal() as journal:
        shop = Shop(looks=2)
        tally = run(journal, shop, items(25), PRICE, batch_requests=10)
        assert tally.ok == 25 and [len(questions) for questions in shop.asked] == [10, 10, 5]
        assert journal.cost() == pytest.approx(25 * 0.02 / 2)


def test_twice_missing_unasked_and_failed_ids_and_only_those_missing_are_sent_again():
    def odd(lines):
        (a, _), (b, _), (c, _), (d, _), (e, _), (f, _) = lines
        yield from [(c, Reply("no", 1, 1)), (a, Reply("yes", 1, 1)), (a, Reply("no", 1, 1)), ("nobody", Reply("yes"))]
        yield from [(d, RetryableError("server error")), (e, RejectedError("status 400: too long"))]
        yield from [(f, RetryableError("server error")), (f, Reply("yes", 1, 1)), ("1-000000000000", Reply("no"))]
        # b is missing

    with Journal() as journal:
        shop = Shop(odd)
        tally = run(journal, shop, items(6))
        assert (tally.ok, tally.failed) == (5, 1)
        assert shop.asked[1:] == [["question 1", "question 2", "question 3"]]  # with the re-ask of question 2
        (_, texts), *_ = [line for line in next(iter(list(shop.batches.values())[1:]))[1] if len(line[1]) == 3]
        assert texts == ["question 2", "no", "said no"]
        assert [r["reason"] for r in journal.rows("failed")] == ["status 400: too long"]
        assert [a[0] for a in attempts(journal)][:6] == ["ok", "error", "invalid", "error", "error", "ok"]


def test_what_never_comes_back_fails_in_the_end_and_counts_as_paid():
    nothing = lambda lines: []
    with Journal() as journal:
        shop = Shop(nothing, nothing, nothing, nothing)
        assert run(journal, shop, items(2), PRICE).failed == 2
        assert len(shop.batches) == 3  # one and two retries
        assert {r["reason"] for r in journal.rows("failed")} == {"the batch came back without it"}
        assert journal.cost() == pytest.approx(6 * PRICE.most(items(1)[0].request, batch=True))


def test_a_batch_that_expired_gives_what_it_has():
    with Journal() as journal:
        shop = Shop(lambda lines: good(lines)[:3])
        shop.look_at_batch = lambda remote: BatchState("expired" if remote.endswith("0") else "completed", (remote,))
        assert run(journal, shop, items(5), PRICE).ok == 5 and shop.asked[1] == ["question 3", "question 4"]
        assert journal.cost() == pytest.approx(5 * 0.02 / 2)  # nothing is charged for what expired


class Killed(BaseException):
    """The process dies here."""


def die(*_):
    raise Killed


@pytest.mark.parametrize("moment", ["before_create", "after_create", "on_look", "batch_answers"])
def test_a_process_that_dies_sends_nothing_twice(tmp_path, moment):
    shop = Shop(looks=1)
    with Journal(tmp_path / "j.sqlite") as journal, pytest.raises(Killed):
        if moment == "batch_answers":
            shop.script.append(
                lambda lines: map(lambda n, line: good([line])[0] if n < 300 else die(), *numbered(lines))
            )
        else:
            setattr(shop, moment, die)
        run(journal, shop, items(500), PRICE)
    if moment == "batch_answers":
        next(iter(shop.batches.values()))[3] = good
    else:
        setattr(shop, moment, lambda: None)
    with Journal(tmp_path / "j.sqlite") as journal:
        assert run(journal, shop, items(500), PRICE).ok == 500
        assert sum(map(len, shop.asked)) == 500 and journal.cost() == pytest.approx(500 * 0.02 / 2)
        lost = [a for a in attempts(journal) if a[0] == "lost"]
        assert len(lost) == (500 if moment == "before_create" else 0)


def numbered(lines):
    return range(len(lines)), lines


def test_sending_that_fails_midway_is_looked_for_before_it_is_repeated():
    turns = iter([True, False])

    def cut():
        if next(turns, False):
            raise RetryableError("connection lost", billed=True)

    for moment, batches in (("before_create", 1), ("after_create", 1)):
        turns = iter([True, False])
        with Journal() as journal:
            shop = Shop()
            setattr(shop, moment, cut)
            assert run(journal, shop, items(5)).ok == 5 and len(shop.batches) == batches, moment


def test_the_budget_is_never_passed():
    most = PRICE.most(items(1)[0].request, batch=True)
    for budget in (0.0, most, 2.5):
        with Journal() as journal:
            tally = run(journal, Shop(), items(300), PRICE, budget)
            assert journal.cost() <= budget < journal.cost() + most and "budget" in tally.stopped
            assert tally.ok == round(journal.cost() / 0.01)


def test_ctrl_c_leaves_batches_at_the_server_and_the_next_run_reads_them():
    with Journal() as journal:
        shop = Shop(looks=3)
        shop.on_look = lambda: signal.raise_signal(signal.SIGINT)
        tally = run(journal, shop, items(5))
        assert tally.stopped == "stopped by Ctrl-C (1 batches go on at the server)" and tally.ok == 0
        shop.on_look = lambda: None
        plain = Script()
        tally = Runner(journal, plain, YesJudge(), settings(), FREE).run()
        assert "5 requests are in a batch; batch_api=true" in tally.stopped and not plain.asked  # not paid for twice
        assert run(journal, shop).ok == 5 and len(shop.batches) == 1


def test_refused_batches():
    too_many = BatchState("failed", (), "Enqueued token limit reached")
    with Journal() as journal:  # there is one at the server: wait for it
        shop = Shop(good, too_many, looks=1)
        assert run(journal, shop, items(20), batch_requests=10, concurrency=4).ok == 20
        assert [len(b) for b in shop.asked] == [10, 10, 10] and journal.cost() == 0
    with Journal() as journal, pytest.raises(UserError, match="refused the batch remote-1: Enqueued token limit"):
        run(journal, Shop(too_many, too_many), items(3))
    with Journal() as journal, pytest.raises(UserError, match="status 401"):
        shop = Shop()
        shop.before_create = lambda: (_ for _ in ()).throw(FatalError("status 401: no such key"))
        run(journal, shop, items(3))


def test_a_server_that_does_not_answer_and_answers_it_has_not_kept():
    def gone():
        raise RetryableError("cannot connect")

    with Journal() as journal:
        shop = Shop()
        shop.on_look = gone
        with pytest.raises(UserError, match="does not answer .cannot connect"):
            run(journal, shop, items(3))
        assert journal.distinct()["open"] == 3 and journal.in_batches() == 3
        shop.on_look = lambda: None
        shop.batch_answers = lambda state: (_ for _ in ()).throw(RejectedError("the server has not kept the answers"))
        assert run(journal, shop).failed == 3


def test_a_full_disk_loses_no_reply(tmp_path, monkeypatch):
    with Journal(tmp_path / "j.sqlite") as journal:
        write = journal._commit

        def full(asks, outcomes):
            if journal.ballast.exists():
                raise DiskFull("the disk is full")
            write(asks, outcomes)

        monkeypatch.setattr(journal, "_commit", full)
        with pytest.raises(DiskFull):
            run(journal, shop := Shop(), items(5))
        assert journal.distinct()["ok"] == 5
    with Journal(tmp_path / "j.sqlite") as journal:
        assert run(journal, shop, items(5)).ok == 5 and len(shop.batches) == 1


def test_lines_of_a_batchs_output():
    text = json.dumps({"custom_id": "1", "error": {"code": "batch_expired"}, "note": "a\u2028b"}, ensure_ascii=False)
    parts = [text[:9].encode(), text[9:].encode() + b"\n\n{cut", b" off\n[1]\n"]
    (name, error), *rest = filter(None, map(answer_of, _lines(parts)))
    assert name == "1" and str(error) == "batch_expired" and not rest
    line = lambda status, body: answer_of(
        json.dumps({"custom_id": "1", "response": {"status_code": status, "body": body}})
    )
    assert isinstance(line(400, {"error": {"message": "bad"}})[1], RejectedError)
    assert isinstance(line(429, {})[1], RetryableError) and isinstance(line(500, None)[1], RetryableError)
    assert line(200, {})[1].billed


def batch_arguments(server, out, **fields):
    return arguments(server, out, batch_api="true", poll_s=0.02, **fields)


def test_through_the_real_client_against_a_server_that_misbehaves(tmp_path):
    with serve(seed=5, faults=0.4) as server:
        (tmp_path / "lists.txt").write_text("".join(f"happy, thing {n}\n" for n in range(120)), "utf-8")
        command = batch_arguments(server, tmp_path / "out", lists=tmp_path / "lists.txt", batch_requests=50)
        done = run_module("datagen.comments", *command, env=ENV)
        stats = server.stats()
    assert done.status in (0, 1), done.err
    assert len(stats["faults"]) == 6 and stats["repeats"] == 0  # what is delivered is never asked again
    with Journal(tmp_path / "out/journal.sqlite") as journal:
        ok, failed = (list(journal.rows(state)) for state in ("ok", "failed"))
        assert len(ok) + len(failed) == 120 and len(ok) > 100 and all(row["reason"] for row in failed)
    assert KEY.encode() not in (tmp_path / "out/journal.sqlite").read_bytes()


def test_kill_between_submit_and_record(tmp_path):
    with serve(delay=2) as server:
        command = batch_arguments(server, tmp_path / "out", sample=10)
        process = subprocess.Popen(
            [sys.executable, "-m", "datagen.comments", *command], cwd=ROOT, env=ENV, stderr=subprocess.DEVNULL
        )
        while not server.stats()["batches"]:
            time.sleep(0.02)
        process.kill()  # the server has the batch, and we have not heard of it
        process.wait()
        with Journal(tmp_path / "out/journal.sqlite") as journal:
            assert journal.db.execute("SELECT state, remote FROM batches").fetchall() == [("intent", None)]
        done = run_module("datagen.comments", *command, env=ENV)
        stats = server.stats()
    assert done.status == 0, done.err
    assert stats["batches"] == 1 and stats["repeats"] == 0
