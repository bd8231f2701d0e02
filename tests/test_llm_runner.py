"""Requests are asked once, faults are survived, and every attempt is in the journal."""

import json
import sqlite3
from collections import Counter

import pytest

from common.errors import UserError
from datagen.llm.journal import Ask, DiskFull, Item, Journal, Outcome
from datagen.llm.limits import FREE, Bucket, Pace, Price, estimate_tokens, most_tokens
from datagen.llm.records import FatalError, RejectedError, Reply, Request, RetryableError
from datagen.llm.runner import Runner
from datagen.llm.settings import ModelSettings


def request(text: str = "hello", **fields) -> Request:
    return Request("m", ({"role": "user", "content": text},), **fields)


def items(count: int, **fields) -> list[Item]:
    return [Item(str(n), {"n": n}, request(f"question {n}", **fields)) for n in range(count)]


class Script:
    """A provider that answers by a script: text -> answers in order (a Reply, an error or a text)."""

    def __init__(self, script=None, default="yes") -> None:
        self.script, self.default, self.asked = dict(script or {}), default, []

    def complete(self, request: Request) -> Reply:
        self.asked.append(request)
        answers = self.script.get(request.messages[0]["content"])
        answer = answers.pop(0) if answers else self.default
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(answer, 10, 10)


class YesJudge:
    """Only "yes" is right."""

    def check(self, text, source):
        return ({"said": text}, []) if text == "yes" else (None, [f"said {text}"])

    def remark(self, problems, source):
        return "; ".join(problems)


def settings(**fields) -> ModelSettings:
    return ModelSettings(model="m", **{"backoff_s": 0.01, "concurrency": 4, **fields})


def run(journal: Journal, provider, rows=None, price=FREE, budget=None, mode=None, **fields):
    if rows is not None:
        with journal.transaction():
            journal.add(rows, mode)
    runner = Runner(journal, provider, YesJudge(), settings(**fields), price, budget)
    return runner.run()


def attempts(journal: Journal) -> list[tuple]:
    return journal.db.execute(
        "SELECT status, number, temperature, top_p, reply, error FROM attempts ORDER BY id"
    ).fetchall()


def test_identical_requests_are_asked_once():
    rows = [Item("a", {"x": 1}, request()), Item("b", {"x": 2}, request()), Item("c", {}, request("other"))]
    with Journal() as journal:
        provider = Script()
        assert run(journal, provider, rows).ok == 2 and len(provider.asked) == 2
        assert [(r["key"], r["source"], r["result"]) for r in journal.rows("ok")] == [
            ("a", {"x": 1}, {"said": "yes"}),
            ("b", {"x": 2}, {"said": "yes"}),
            ("c", {}, {"said": "yes"}),
        ]


@pytest.mark.parametrize(
    "other",
    [
        request("hello "),
        request(temperature=0.7),
        request(top_p=0.8),
        request(max_tokens=9),
        request(schema={"type": "object"}),
        request(seed=1),
        request(rules="v2"),
        Request("n", request().messages),
        Request("m", ({"role": "system", "content": "hello"},)),
    ],
)
def test_the_hash_sees_everything_and_survives_the_journal(other):
    assert other.hash != request().hash
    assert Request.from_json(other.to_json()).hash == other.hash


def test_an_image_counts_by_its_bytes():
    part = lambda path, digest: {"type": "image", "path": path, "sha256": digest}
    of = lambda *image: Request("m", ({"role": "user", "content": [part(*image)]},)).hash
    assert of("a.jpg", "1") == of("b.jpg", "1") != of("a.jpg", "2")


def test_a_broken_reply_is_asked_again_in_words_with_a_steadier_hand_and_all_attempts_are_kept():
    with Journal() as journal:
        provider = Script({"question 0": ["no", "yes"], "question 1": ["no", "never"]})
        tally = run(journal, provider, items(2), concurrency=1)
        assert (tally.ok, tally.failed) == (1, 1)
        again = [r for r in provider.asked if len(r.messages) == 3]
        assert [m["content"] for m in again[0].messages] == ["question 0", "no", "said no"]
        assert (again[0].temperature, again[0].top_p) == (0.55, 0.85)
        assert sorted(attempts(journal)) == sorted(
            [
                ("invalid", 1, 0.8, 0.9, "no", ""),
                ("ok", 2, 0.55, 0.85, "yes", ""),
                ("invalid", 1, 0.8, 0.9, "no", ""),
                ("invalid", 2, 0.55, 0.85, "never", ""),
            ]
        )
        (failed,) = journal.rows("failed")
        assert failed["reason"] == "said never" and failed["reply"] == "never" and failed["attempts"] == 2


def test_refusals_and_cut_replies_say_so():
    with Journal() as journal:
        replies = [Reply("cannot", 1, 1, "refusal"), Reply("ye", 1, 1, "length")]
        run(journal, Script({"question 0": replies}), items(1))
        problems = [json.loads(p) for (p,) in journal.db.execute("SELECT problems FROM attempts ORDER BY id")]
        assert problems[0] == ["the model refused: cannot"] and "cut off at 256 tokens" in problems[1][0]


def test_errors_are_tried_again_and_rejected_requests_fail_alone():
    with Journal() as journal:
        script = {
            "question 0": [RetryableError("429", 0.01), RetryableError("cut", billed=True), "yes"],
            "question 1": [RejectedError("too long")],
            "question 2": [RetryableError("500")] * 3,
            "question 3": [ValueError("odd")],
        }
        tally = run(journal, Script(script), items(5), retries=2)
        assert (tally.ok, tally.failed) == (2, 3)
        reasons = {r["key"]: r["reason"] for r in journal.rows("failed")}
        assert reasons == {"1": "too long", "2": "500", "3": "ValueError: odd"}
        assert Counter(a[0] for a in attempts(journal)) == {"ok": 2, "error": 7}


def test_retry_failed_asks_only_failed_rows_again():
    with Journal() as journal:
        run(journal, Script({"question 1": ["no", "no"]}), items(3))
        provider = Script()
        assert run(journal, provider, None).failed == 1 and provider.asked == []
        assert journal.reopen_failed() == 1
        assert run(journal, provider).ok == 3
        assert [r.messages[0]["content"] for r in provider.asked] == ["question 1"]
        assert len(provider.asked[0].messages) == 1  # a fresh start, not a third re-ask
        assert len(attempts(journal)) == 5  # the old ones are kept


def test_a_wrong_key_stops_the_run_and_fails_no_row():
    with Journal() as journal:
        provider = Script({f"question {n}": [FatalError("status 401: no such key")] for n in range(9)})
        with pytest.raises(UserError, match="401"):
            run(journal, provider, items(9), concurrency=2)
        assert len(provider.asked) <= 2 and journal.distinct() == {"ok": 0, "failed": 0, "open": 9}


def test_a_dead_server_stops_the_run_and_fails_few_rows():
    with Journal() as journal:
        provider = Script(default=RetryableError("cannot connect"))
        with pytest.raises(UserError, match="does not answer .cannot connect"):
            run(journal, provider, items(1000), retries=2)
        assert len(provider.asked) < 40 and journal.distinct()["open"] > 990


def test_the_budget_is_never_passed():
    price = Price(prompt=1000, completion=1000)
    each = price.of(request(), Reply("yes", 10, 10))
    for budget in (0.0, each, 1.0, 2.5):
        with Journal() as journal:
            tally = run(journal, Script(), items(200), price, budget)
            assert journal.cost() <= budget and "budget" in tally.stopped
            assert tally.ok == round(journal.cost() / each)
            assert journal.cost() + price.most(items(1)[0].request) > budget  # and it was used up


def test_what_was_never_heard_of_counts_as_paid():
    price = Price(prompt=1000, completion=1000)
    with Journal() as journal:
        script = {"question 0": [RetryableError("no reply in time", billed=True)]}
        run(journal, Script(script), items(1), price)
        assert journal.cost() == pytest.approx(price.most(items(1)[0].request) + 0.02)


def test_the_days_limit_stops_the_run_and_counts_earlier_attempts():
    with Journal() as journal:
        assert "midnight UTC" in run(journal, Script(), items(9), rpd=5).stopped
        assert len(attempts(journal)) == 5
        provider = Script()
        run(journal, provider, rpd=7)
        assert len(provider.asked) == 2


def test_changed_settings_need_a_decision(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        run(journal, Script(), items(2))
    changed = [*items(1, seed=5), *items(3)[2:]]
    with Journal(tmp_path / "j.sqlite") as journal, pytest.raises(UserError, match="--skip.*--overwrite.*--append"):
        run(journal, Script(), changed)
    for mode, keys, asked in (("skip", "012", 1), ("append", "0012", 1), ("overwrite", "012", 0)):
        with Journal(tmp_path / "j.sqlite") as journal:
            provider = Script()
            run(journal, provider, changed, mode=mode)
            assert "".join(r["key"] for r in journal.rows("ok")) == keys and len(provider.asked) == asked, mode


def test_duplicate_keys_are_refused_and_nothing_is_taken_in():
    with Journal() as journal:
        with pytest.raises(UserError, match="'1' stands twice .again in row 3"), journal.transaction():
            journal.add([*items(2), items(2)[1]])
        assert journal.distinct() == {"ok": 0, "failed": 0, "open": 0}


def test_a_killed_run_asks_only_the_attempts_in_flight_again(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal, journal.transaction():
        journal.add(items(3))
        asks = [Ask(r.hash, r, source, turn) for r, source, turn in journal.open_requests()]
        journal.sent(asks[:2])
        journal.finished(asks[0], Outcome("invalid", "open", Reply("no"), problems=["said no"]))
    with Journal(tmp_path / "j.sqlite") as journal:  # the process has died here
        assert journal.lost == 1
        provider = Script()
        run(journal, provider, items(3))
        assert [len(r.messages) for r in provider.asked] == [3, 1, 1]  # the re-ask goes on from the reply that is there


def test_only_one_run_at_a_time(tmp_path):
    with Journal(tmp_path / "j.sqlite"), pytest.raises(UserError, match="another run"):
        Journal(tmp_path / "j.sqlite")


def test_no_journal(tmp_path):
    (tmp_path / "j.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 99)
    with pytest.raises(UserError, match="is not a journal"):
        Journal(tmp_path / "j.sqlite")


def test_a_full_disk_loses_no_reply(tmp_path, monkeypatch):
    """Replies that arrive after the disk is full go into the room kept aside."""
    with Journal(tmp_path / "j.sqlite") as journal:
        write, calls = journal._commit, Counter()

        def full(asks, outcomes):
            calls["all"] += 1
            if calls["all"] > 3 and (asks or journal.ballast.exists()):
                raise DiskFull("the disk is full")
            write(asks, outcomes)

        monkeypatch.setattr(journal, "_commit", full)
        provider = Script()
        with pytest.raises(DiskFull):
            run(journal, provider, items(50))
        assert journal.distinct()["ok"] == len(provider.asked) > 0
    with Journal(tmp_path / "j.sqlite") as journal:
        again = Script()
        assert run(journal, again, items(50)).ok == 50
        assert len(provider.asked) + len(again.asked) == 50


def test_sqlite_says_full_in_one_line(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        pages = journal.db.execute("PRAGMA page_count").fetchone()[0]
        journal.db.execute(f"PRAGMA max_page_count={pages + 4}")
        with pytest.raises(DiskFull, match="the disk is full"), journal.transaction():
            journal.add(items(2000))
        journal.db.execute("PRAGMA max_page_count=1000000")
        assert run(journal, Script(), items(5)).ok == 5


def test_a_check_that_breaks_keeps_the_reply(monkeypatch):
    monkeypatch.setattr(YesJudge, "check", lambda *_: 1 / 0)
    with Journal() as journal:
        assert run(journal, Script(), items(2)).failed == 2
        assert [a[4] for a in attempts(journal)] == ["yes", "yes"]


def test_buckets():
    bucket = Bucket(60, burst_s=2, now=0)
    assert bucket.wait(1, 0) == 0
    bucket.take(2)
    assert (
        bucket.wait(1, 0) == 1 and bucket.wait(1, 0.5) == 0.5 and bucket.wait(100, 1.5) == 0.5
    )  # a big one: when full
    assert Bucket(None).wait(1e9, 0) == 0


def test_backing_off():
    pace = Pace(settings(backoff_s=1))
    assert 0.5 <= pace.back_off(1, None) <= 1 and 2 <= pace.back_off(3, None) <= 4 and pace.back_off(30, None) <= 60
    assert pace.back_off(1, 7.5) == 7.5 and 7 < pace.wait(request()) <= 7.5  # everyone waits


def test_rates_are_kept():
    import time

    with Journal() as journal:
        start = time.monotonic()
        run(journal, Script(), items(40), rpm=1200)  # twenty a second, after a burst of 5 s
        assert time.monotonic() - start < 2
    with Journal() as journal:
        start = time.monotonic()
        run(journal, Script(), items(130), rpm=1200)
        assert time.monotonic() - start > 1.2


def test_estimates():
    korean = request("안녕하세요")
    assert estimate_tokens(korean) == 5 + 8 and most_tokens(korean) == 15 + 8
    assert estimate_tokens(request("a" * 40)) == 18


def test_attempts_hold_what_was_asked_for():
    with Journal() as journal:
        run(journal, Script(), items(1, rules="v7"))
        journal.db.row_factory = sqlite3.Row
        (row,) = journal.db.execute("SELECT * FROM attempts")
        assert row["rules"] == "v7" and row["model"] == "m" and row["latency_s"] >= 0 and row["sent_at"] > 0
        assert (row["prompt_tokens"], row["completion_tokens"], row["parsed"]) == (10, 10, '{"said": "yes"}')
