"""Comment and Instagram jobs from bad and good input to files."""

import csv
import json
import re

import pytest

from common.errors import UserError
from configs.load import load_settings
from datagen.comments import CommentJob, CommentSettings
from datagen.instagram import COLUMNS, InstagramJob, InstagramSettings, read_examples
from datagen.jobs import plan, run_job
from datagen.llm.journal import Journal
from datagen.posts import Post, likeness, problems, quality, sentences
from datagen.prompts import Prompt
from language.comment.pairs import read_pairs
from tests.conftest import ROOT
from tests.helpers import Answers, run_module
from tests.llm_server import comments

CONFIGS = ROOT / "configs/datagen"
GOOD = {
    "caption": "Nobody tells you how loud joy is. I will keep this one!",
    "hashtags": "#one #two #three #four #five",
}
SHORT = {**GOOD, "hashtags": ["one"]}


def comment_job(tmp_path, config="comments", **fields) -> CommentJob:
    overrides = [f"{name}={value}" for name, value in {"out": tmp_path / "out", "concurrency": 2, **fields}.items()]
    return CommentJob(load_settings(CONFIGS / f"{config}.yaml", CommentSettings, overrides))


def instagram_job(tmp_path, table: str | bytes, **fields) -> InstagramJob:
    (tmp_path / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    fields = {"out": tmp_path / "out", "csv": tmp_path / "t.csv", "concurrency": 1, **fields}
    overrides = [f"{name}={value}" for name, value in fields.items()]
    return InstagramJob(load_settings(CONFIGS / "instagram.yaml", InstagramSettings, overrides))


def table(*rows: str) -> str:
    return "\n".join([",".join(["note", *COLUMNS]), *rows]) + "\n"


def row(number: int, note: str = "", caption: str = "a cat") -> str:
    return f"{note},val2017,{number},{number:012}.jpg,{caption},{caption} sits,,,"


def writer(question: str):
    import random

    listed = question.splitlines()[0].partition(":")[2]
    return {"comments": comments(listed, 2, random.Random(question))}


def test_lists_become_pairs_that_training_reads(tmp_path):
    (tmp_path / "lists.txt").write_text("공포,모자\r\n\r\n당황, 모자\r\n인간의 얼굴\r\n", "utf-8-sig")
    job = comment_job(tmp_path, lists=tmp_path / "lists.txt", count=2, formats="[jsonl, csv, original, datasets]")
    provider = Answers(writer)
    assert run_job(job, provider=provider) and provider.asked == 2  # the same list under an old name is asked once
    pairs = read_pairs(tmp_path / "out/pairs.jsonl")
    assert [p.elements for p in pairs.values()] == ["당황, 모자", "당황, 모자", "사진", "사진"]
    assert read_pairs(tmp_path / "out/dataset") == pairs
    assert len(read_pairs(tmp_path / "out/output_text.json")) == 6  # as the original: a row per line of the file
    with (tmp_path / "out/pairs.csv").open(encoding="utf-8-sig", newline="") as lines:
        assert [r["key"] for r in csv.DictReader(lines)] == ["1", "1", "3", "3", "4", "4"]


def test_lists_come_from_a_run_over_photos(tmp_path):
    lines = [
        {"image": "a.jpg", "elements": [{"id": "Cat", "kind": "object", "name": "고양이"}], "error": None},
        {"image": "b.jpg", "error": {"type": "unreadable", "message": "not a photo"}},
    ]
    (tmp_path / "seen.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    job = comment_job(tmp_path, lists=tmp_path / "seen.jsonl", count=2)
    assert not run_job(job, provider=Answers(writer))
    assert {p.elements for p in read_pairs(tmp_path / "out/pairs.jsonl").values()} == {"고양이"}
    (failed,) = map(json.loads, (tmp_path / "out/failed.jsonl").read_text("utf-8").splitlines())
    assert failed["key"] == "b.jpg" and "not a photo" in failed["reason"]


def test_a_comment_that_breaks_a_rule_is_told_which(tmp_path):
    job = comment_job(tmp_path, count=1)
    _, told = job.check('{"comments": ["모자가 멋진데 어디서 사셨는지 궁금하네요 😊"]}', {"elements": "당황, 모자"})
    assert len(told) == 1 and told[0].startswith("“모자가 멋진데 어디서 사셨는지 궁금하네요 😊”: 질문을 하지 마세요")
    assert job.check('{"comments": []}', {"elements": "모자"})[1] == ["댓글이 0개인데 1개여야 합니다"]
    assert job.check("sorry", {"elements": "모자"})[1] == ["the reply is not one complete JSON object"]
    assert told[0] in job.remark(told, {})


@pytest.mark.parametrize(
    ("example", "rule"),
    [
        ("어머, 무슨 일이 있었던 거예요? 모자가 멋져요! 😮", "질문"),  # asks, under a ban on questions
        ("모자 진짜 멋지다! 😮", "존댓말"),  # another speech level
        ("모자가 멋져요! 깜짝 놀라셨네요! 오늘 하루 힘내세요! 😮", "문장"),  # three sentences
    ],
)
def test_a_template_whose_own_example_breaks_the_rules_refuses_to_run(tmp_path, example, rule):
    """Defect 8: the original banned questions and showed one."""
    text = (CONFIGS / "prompts/comments.original.yaml").read_text("utf-8")
    text = re.sub(r'comments: \["[^"]*"\]', lambda _: f'comments: ["{example}"]', text)
    (tmp_path / "p.yaml").write_text(text, "utf-8")
    done = run_module(
        "datagen.comments", "--config", CONFIGS / "comments.yaml", f"prompt={tmp_path / 'p.yaml'}", f"out={tmp_path}/o"
    )
    assert done.refuses("example 1 breaks its own rules") and rule in done.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("file", sorted((CONFIGS / "prompts").glob("comments.*.yaml")), ids=lambda f: f.name)
def test_shipped_templates_tell_the_rules_and_keep_them(file, tmp_path):
    prompt = load_settings(file, Prompt)
    assert prompt.examples and "$rules" in prompt.system and "$problems" in prompt.reask
    config = "comments_en" if ".en." in file.name else "comments"
    assert next(iter(comment_job(tmp_path, config, prompt=file).items())).request


def test_templates_with_unknown_or_broken_placeholders(tmp_path):
    prompt = Prompt(version=1, system="$moods", user="$elements", reask="costs $ 5")
    with pytest.raises(UserError, match="names 'moods'"):
        prompt.messages({"elements": "x"})
    with pytest.raises(UserError, match="write .. for a dollar"):
        prompt.remark(["x"])


def test_planning_counts_what_is_distinct_and_what_is_there(tmp_path):
    (tmp_path / "lists.txt").write_text("모자\n모자\n고양이\n개\n", "utf-8")
    job = comment_job(tmp_path, lists=tmp_path / "lists.txt", count=2, rpm=1, rpd=2)
    text = " ".join(plan(job).split())
    assert "rows 4 distinct requests 3 answered already 0 (skipped)" in text and "to ask 3" in text
    assert "at least 0 h 3 min, on 2 days under 1 RPM, 200,000 TPM, 2 RPD" in text
    assert not (tmp_path / "out").exists()  # a plan leaves nothing behind
    run_job(comment_job(tmp_path, lists=tmp_path / "lists.txt", count=2, rpm="null"), limit=2, provider=Answers(writer))
    text = " ".join(plan(job).split())
    assert "answered already 1 (skipped)" in text and "to ask 2" in text and "about 40 by the replies so far" in text
    assert re.search(r"about \$0\.00, at most \$0\.00 for one reply each; spent so far \$0\.00", text)
    assert "unknown: prices.yaml has no price for x9" in plan(comment_job(tmp_path, model="x9", sample=1), mode="skip")


def test_a_budget_needs_a_price(tmp_path):
    with pytest.raises(UserError, match="needs a price for x9"):
        run_job(comment_job(tmp_path, model="x9"), budget=1.0, provider=Answers(writer))


def test_posts_keep_every_source_column(tmp_path):
    rows = row(1, "첫째"), row(2, '"a, ""b"""', "a dog"), row(3, caption="a cow"), ",val2017,4,4.jpg,,,,,"
    job = instagram_job(tmp_path, table(*rows))
    turns = iter([GOOD, SHORT, {**GOOD, "caption": "The wind had other plans. So did I."}, SHORT, "no JSON"])
    assert not run_job(job, provider=Answers(lambda _: next(turns)))
    with (tmp_path / "out/instagram.csv").open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [r["note"] for r in rows] == ["첫째", 'a, "b"'] and rows[0]["cap2"] == "a cat sits"
    assert rows[0]["en_hashtags"] == "#one #two #three #four #five" and rows[0]["gen_ok"] == "True"
    gen = [[r[f"gen_{n}"] for n in ("attempts", "temperature", "top_p", "max_new_tokens", "model")] for r in rows]
    assert gen == [["1", "0.8", "0.9", "220", "gpt-4o-mini"], ["2", "0.55", "0.85", "220", "gpt-4o-mini"]]
    assert json.loads(rows[1]["raw_output"])["caption"] == rows[1]["en_caption"]
    with (tmp_path / "out/failed.csv").open(encoding="utf-8-sig", newline="") as lines:
        failed = {r["image_id"]: r for r in csv.DictReader(lines)}
    assert failed["3"]["raw_output"] == "no JSON" and failed["4"]["reason"] == "all five captions are empty"
    figures = json.loads((tmp_path / "out/quality.json").read_text("utf-8"))
    assert figures["posts"] == 2 and figures["valid_at_first_try"] == 0.3333 and figures["valid_after_retry"] == 0.6667


def test_failed_rows_are_not_done_and_every_attempt_is_kept(tmp_path):
    """Defects 33 and 34: the original kept one raw reply of two, said the retry's temperature for either, asked again
    without saying what was wrong, and took failed rows for done ones."""
    rows, questions = table(row(1), row(2, caption="a dog")), []
    turns = iter([SHORT, "no JSON", GOOD])
    answers = Answers(lambda question: questions.append(question) or next(turns))
    assert not run_job(instagram_job(tmp_path, rows), provider=answers)
    assert "there are 1 hashtags; give 5 to 7" in questions[1]
    idle = Answers(lambda _: pytest.fail("asked again"))
    assert not run_job(instagram_job(tmp_path, rows), provider=idle)  # nothing is asked, nothing is mended
    again = Answers(lambda _: {**GOOD, "caption": "He was not impressed. Neither was I."})
    assert run_job(instagram_job(tmp_path, rows), retry_failed=True, provider=again) and again.asked == 1
    with (tmp_path / "out/instagram.csv").open(encoding="utf-8-sig", newline="") as lines:
        done = [(r["image_id"], r["gen_attempts"], r["gen_temperature"]) for r in csv.DictReader(lines)]
    assert done == [("1", "3", "0.8"), ("2", "1", "0.8")]
    with Journal(tmp_path / "out/journal.sqlite") as journal:
        kept = journal.db.execute("SELECT status, temperature, reply FROM attempts ORDER BY id").fetchall()
    assert [(status, warmth) for status, warmth, _ in kept] == [
        ("invalid", 0.8), ("invalid", 0.55), ("ok", 0.8), ("ok", 0.8),
    ]  # fmt: skip
    assert kept[1][2] == "no JSON"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("split,image_id,cap1,cap2,cap3,cap4\nv,1,a,a,a,a\n", "lacks the columns file_name, cap5 (it has: split, "),
        ("", "lacks the columns split, image_id"),
        (table(row(1), row(2), row(1)), "the key 'val2017_1' stands twice (again in row 3)"),
        (table(row(1) + ",,more"), "line 2: more cells than columns"),
        (table(",,1,f,a,b,,,"), "no split or image_id"),
        (table(row(1)).replace("note", "gen_ok"), "has columns that this job writes: gen_ok"),
        (b"\xff\xfe\x00\x80\xff", "neither UTF-8 nor cp949"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, content, message):
    job = instagram_job(tmp_path, content)
    with pytest.raises(UserError) as caught:
        run_job(job, provider=Answers(lambda _: GOOD))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with Journal(tmp_path / "out/journal.sqlite") as journal:
        assert journal.db.execute("SELECT count(*) FROM items").fetchone() == (0,)


@pytest.mark.parametrize("encoding", ["cp949", "utf-8", "utf-8-sig"])
def test_tables_in_korean_encodings_are_read(tmp_path, encoding):
    job = instagram_job(tmp_path, table(row(1, "메모")).encode(encoding))
    assert next(iter(job.items())).source["note"] == "메모"


def test_a_post_is_held_to_what_the_prompt_says():
    """Defect 32: the original's prompt asked for more than its validator looked at."""
    check = lambda caption=GOOD["caption"], hashtags=GOOD["hashtags"]: " ".join(
        problems(Post(caption=caption, hashtags=hashtags), ["a cat sits on a red sofa", "a cat"])
    )
    five = ["a1", "b1", "c1", "d1", "e1"]
    assert (
        check()
        == ""
        == check(hashtags=five)
        == check(hashtags="#a1 #b b #c1 #d1 #e1")
        == check(hashtags="a1,b1,c1,d1,e1")
    )
    assert "3 hashtags" in check(hashtags="#one #two #three") and "8 hashtags" in check(
        hashtags=[*five, "f1", "g1", "h1"]
    )
    assert "lowercase" in check(hashtags=["A1", *five[1:]]) and "twice" in check(hashtags=[*five, "a1"])
    assert "1 sentences" in check("Just wait...") and "5 sentences" in check("A. B. C. D. E.")
    assert check("Morning light ☕ Nothing else matters") == ""  # emoji end sentences, too
    assert "hashtag in it" in check("So good. Love it #cat") and "not English" in check("너무 좋아요. 정말로요!")
    assert "describes" in check("This image shows love. Wow.") and "describes" in check(
        "A cat sits on a red sofa. Nice."
    )


def test_sentences_and_likeness():
    counts = {"One...": 1, "One. Two!": 2, "“Stay.” She did.": 2, "v1.5 is out": 1, "Yes!!! No?! Ok": 3, "☕": 0, "": 0}
    assert {text: sentences(text) for text in counts} == counts
    assert likeness("a cat on a mat", ["a dog", "a cat on a mat today"]) == 1 and likeness("", ["a b"]) == 0
    assert likeness("what a day", ["a cat"]) == 0


def test_quality_figures():
    posts = [(Post(caption=f"Day {n % 2} was ours. Yes!", hashtags=["cat", "mood"]), ["a cat"]) for n in range(4)]
    figures = quality(posts, 0.5, 0.75)
    assert (figures["valid_at_first_try"], figures["valid_after_retry"]) == (0.5, 0.75)
    assert figures["object_hashtags"] == figures["caption_hashtags"] == figures["distinct_captions"] == 0.5
    assert figures["description_likeness"] == 0 and quality([], None, None)["distinct_2"] is None


def test_examples_are_json_however_they_are_written(tmp_path):
    """Defect 35: the original wrote JSON by an f-string, and a quote in a caption broke it."""
    shipped = read_examples(CONFIGS / "prompts/instagram.examples.json")
    assert len(shipped.splitlines()) == 5 and all(json.loads(line)["caption"] for line in shipped.splitlines())
    assert '\\"You will know' in shipped
    for content, message in (
        ("[]", "has no examples"),
        ('[{"en_caption": "x"}]', "is not a list of en_caption and en_hashtags"),
        ('[{"en_caption": "One. Two.", "en_hashtags": "#a"}]', "example 1 breaks its own rules"),
        (None, "cannot read the examples"),
    ):
        file = tmp_path / "e.json"
        file.write_text(content, "utf-8") if content else file.unlink()
        with pytest.raises(UserError, match=message):
            read_examples(file)


def test_shared_captions_are_planned(shared, tmp_path):
    source = shared / "data/coco_captions/captions.csv"
    command = ["--config", "configs/datagen/instagram.yaml", f"csv={source}", f"out={tmp_path / 'out'}"]
    done = run_module("datagen.instagram", *command, "--plan")
    assert done.status == 0 and re.search(r"^to ask +235$", done.out, re.M)
    done = run_module("datagen.instagram", *command, "--dry-run", "--limit", "1")
    assert done.out.count("=== ") == 1 and "--- system" in done.out and "--- user" in done.out
