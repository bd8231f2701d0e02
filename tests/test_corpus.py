"""The corpus is complete and keeps its rules; pairs drawn from it are lint-clean and well split."""

import json
import random
import re

import pytest

from detection.labels import MOMENT_IDS, OBJECT_IDS, PLAIN_IDS, SCENE_IDS, THING_IDS
from language.comment import corpus, frames, whole
from language.records import ElementList, find_evidence
from language.rules import EMOJI, violations
from tests.helpers import run_module


def batchim(char: str) -> int:
    return (ord(char) - 0xAC00) % 28


def test_particles_agree_with_the_names():
    wrong, checked = [], 0
    names = {e.name for label in (*OBJECT_IDS, *THING_IDS) for e in ElementList.from_ids([label], "ko")}
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    found = re.compile(rf"(?<![가-힣])({pattern})(은|는|이|가|을|를|과|와|으로|로)(?=[ ,]|$)")
    for pair in corpus.build(3000, seed=1):
        for name, particle in found.findall(pair.comment):
            last, checked = batchim(name[-1]), checked + 1
            after_consonant = last not in (0, 8) if particle in ("으로", "로") else last != 0
            if (particle in ("은", "이", "을", "과", "으로")) != after_consonant:
                wrong.append(pair.comment)
    assert wrong == [] and checked > 300


@pytest.mark.parametrize("lang", corpus.LANGUAGES)
@pytest.mark.parametrize("style", corpus.STYLES)
def test_building_is_deterministic_and_clean(lang, style):
    pairs = corpus.build(300, 5, lang, style)
    assert pairs == corpus.build(300, 5, lang, style) != corpus.build(300, 6, lang, style)
    assert len({(p.elements, p.comment) for p in pairs}) == 300
    for pair in pairs:
        assert violations(pair.comment, ElementList.parse(pair.elements, lang), style) == []


def test_drawn_pairs_speak_of_what_leads_their_list():
    pairs = [p for p in corpus.build(500, seed=7) if "," in p.elements]
    lead = [ElementList.parse(p.elements).elements for p in pairs]
    spoken_of = [{s.element for s in find_evidence(p.comment, ElementList.parse(p.elements))} for p in pairs]
    plain = [(e, s) for e, s in zip(lead, spoken_of, strict=True) if e[0].kind != "emotion"]
    assert sum(e[0].id in s for e, s in plain) / len(plain) > 0.6


def test_a_held_out_line_is_in_no_training_pair():
    train = {p.comment for p in corpus.build(1500, seed=3)}
    held_out = {p.comment for p in corpus.build(100, seed=3, held_out=True)}
    assert held_out and not held_out & train


def test_sad_and_angry_lists_are_answered_gently():
    for pair in corpus.build(2000, seed=0):
        feelings = {e.id for e in ElementList.parse(pair.elements).of_kind("emotion")}
        if feelings and feelings <= {"sad", "anger"}:
            assert not re.search("행복|즐거|신나|신난|축하|활짝|!", pair.comment), pair


@pytest.mark.parametrize(
    ("comment", "rule"),
    [
        ("모자가 참 멋져요! 어디서 사셨어요? 😊", "question"),
        ("모자가 어디 건지 궁금해요! 😊", "question"),
        ("모자가 잘 어울려요", "emoji"),
        ("모자 😊", "length"),
        ("모자가 잘 어울려! 😊", "speech level"),
        ("모자도 좋고 자동차도 멋지네요! 😊", "names what is not there"),
        ("모자 좋아요. 정말 좋아요. 또 올게요. 😊", "sentences"),
        ("모자가 좋네요 \ufffd 😊", "broken"),
        ("모자가 <unk> 좋네요 😊", "broken"),
        ("모자도 좋고 모자까지 멋지네요 😊", "repeats itself"),
        ("모자 쓰고 푹 쉬세요. 힘내세요 💙", "mood"),
    ],
)
def test_each_rule_speaks_up(comment, rule):
    assert rule in violations(comment, ElementList.parse("기쁨, 모자"))


def test_a_good_comment_breaks_nothing():
    assert violations("웃는 얼굴이 참 밝네요! 모자도 찰떡이에요 😊", ElementList.parse("기쁨, 모자")) == []
    assert "mood" in violations("모자 쓰니 신나 보여요 😊", ElementList.parse("슬픔, 모자"))


def test_nothing_is_copied_from_the_published_pairs(shared):
    published = json.loads((shared / "data/comment_pairs/pairs_train.json").read_text("utf-8")).values()
    sentences = {s.strip() for _, comment in published for s in re.split(r"[.!?~…]+", comment)}
    ours = {row["text"] for style in corpus.STYLES for rows in whole.wholes("ko", style).values() for row in rows}
    ours = {part.strip() for text in ours for part in re.split(r"[.!?~…]+", EMOJI.sub("", text)) if part.strip()}
    assert not ours & sentences


def test_command(tmp_path):
    assert "no problems" in run_module("language.comment.corpus", "check").out
    done = run_module("language.comment.corpus", "build", "--out", tmp_path / "p.jsonl", "--count", 20)
    assert done.status == 0 and len((tmp_path / "p.jsonl").read_text("utf-8").splitlines()) == 20


def texts_about(elements: ElementList, lead) -> list[str]:
    return [text for _, text in whole.lines(elements, lead, "polite", random.Random(0))]


def test_whole_comments_are_there_for_every_moment_and_scene():
    for lang, least in (("ko", 5), ("en", 4)):
        lines = {style: whole.wholes(lang, style) for style in ("polite", "casual")}
        for label in (*MOMENT_IDS, *SCENE_IDS):
            assert len(lines["polite"].get(label, [])) >= least, (lang, label)
            assert lines["casual"].get(label), (lang, label)


def test_lint_finds_what_is_wrong_with_a_whole_comment(tmp_path, monkeypatch):
    good = {"id": "birthday", "style": "polite", "mood": "any", "with": [], "says": "생일"}
    rows = [
        {**good, "text": "생일 노래가 여기까지 들려요 🎂"},
        {**good, "text": "생일이라니 궁금해요 🎂"},
        {**good, "text": "생일 축하는 크게 할수록 좋아요 🎂", "mood": "tender"},
        {**good, "text": "생일 노래가 여기까지 들리네요 🎂", "says": "촛불"},
        {**good, "text": "생일 촛불은 소원을 다 들어줘요 🎂", "with": ["Spaceship"]},
    ]
    file = tmp_path / "wholes.ko.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    monkeypatch.setattr(whole, "FOLDER", tmp_path)
    whole.wholes.cache_clear()
    problems = " ".join(whole.check_wholes("ko"))
    whole.wholes.cache_clear()
    for said in ("breaks question", "breaks mood", "its `says` is not in it", "'Spaceship' is no id"):
        assert said in problems
    assert "생일 노래가 여기까지 들려요" not in problems


def test_a_list_led_by_a_moment_gets_a_comment_about_it():
    listed = ElementList.from_ids(["happy", "birthday", "Cake", "Candle"], "ko")
    texts = texts_about(listed, listed.elements[1])
    assert texts and all(any(s.element == "birthday" for s in find_evidence(t, listed)) for t in texts)
    sad = ElementList.from_ids(["sad", "birthday"], "ko")
    assert all("!" not in t for t in texts_about(sad, sad.elements[1]))


def test_a_frame_takes_the_name_with_its_particle_or_article():
    korean = lambda name: frames.fill("{이/가} 곁에, {으로/로}, {이라/라} 좋아요", "Hat", name, "ko")
    assert korean("모자") == "모자가 곁에, 모자로, 모자라 좋아요" and korean("연필").startswith(
        "연필이 곁에, 연필로, 연필이라"
    )
    english = lambda label, name: frames.fill("{That} {is} fun, {a} too", label, name, "en")
    assert english("Hat", "hat") == "That hat is fun, a hat too"
    assert english("Umbrella", "umbrella") == "That umbrella is fun, an umbrella too"
    assert english("Sunglasses", "sunglasses") == "Those sunglasses are fun, sunglasses too"
    assert english("Popcorn", "popcorn") == "That popcorn is fun, some popcorn too"
    with pytest.raises(ValueError, match="{thing} is no form"):
        frames.fill("{thing}", "Hat", "hat", "en")


def test_every_thing_is_in_one_group_and_every_group_has_frames_of_every_mood():
    assert frames.groups().keys() == {*OBJECT_IDS, *THING_IDS} - PLAIN_IDS
    for lang, least in (("ko", 25), ("en", 15)):
        for group, rows in frames.frames(lang, "polite").items():
            assert len(rows) >= least, (lang, group)
            assert {row["mood"] for row in rows} == {"any", "joy", "startled", "tender", "mixed"}, (lang, group)
        assert (
            frames.frames(lang, "casual").keys()
            == frames.frames(lang, "polite").keys()
            == {*frames.groups().values(), frames.ANYTHING}
        )


def test_lint_finds_what_is_wrong_with_a_frame(tmp_path, monkeypatch):
    row = {"group": "hats", "style": "polite", "mood": "any"}
    texts = (
        "{이/가} 참 좋아요 🎩",
        "{} 하나에 {} 둘이면 충분해요 🎩",
        "모자가 참 좋아요 🎩",
        "{이/가} 어디서 났는지 궁금해요 🎩",
    )
    lines = [json.dumps({**row, "text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "frames.ko.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "groups.json").write_text('{"hats": {"about": "", "ids": ["Hat", "Spaceship"]}}', "utf-8")
    monkeypatch.setattr(frames, "FOLDER", tmp_path)
    for cached in (frames.frames, frames.groups):
        cached.cache_clear()
    problems = "\n".join(whole.check_frames("ko"))
    for cached in (frames.frames, frames.groups):
        cached.cache_clear()
    assert "'Spaceship' is no id" in problems and "'Dog' is in no group" in problems
    assert "하나에" in problems and "'모자가 참 좋아요 🎩'" in problems and "with Hat: breaks question" in problems
    assert "'{이/가} 참 좋아요 🎩'" not in problems


def test_a_new_thing_without_lines_of_its_own_is_spoken_of_by_its_groups_frames():
    for lang in ("ko", "en"):
        bare = [label for label in THING_IDS if label not in whole.wholes(lang, "polite")]
        for label in bare[:10]:
            listed = ElementList.from_ids([label], lang)
            texts = texts_about(listed, listed.elements[0])
            assert len(texts) >= 5 and all(listed.elements[0].name.lower() in t.lower() for t in texts)


def test_the_empty_list_gets_a_general_comment_that_guesses_nothing():
    for lang, guesses in (
        ("ko", "아침|저녁|오후|밤|여름|겨울|날씨|햇살|바람"),
        ("en", "morning|evening|night|sun|summer|weather"),
    ):
        texts = texts_about(ElementList((), lang), None)
        assert len(texts) >= 10 and not any(re.search(guesses, text) for text in texts)
