"""The embedded writers keep the contract and the rules; broken folders are refused in one line."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from common.errors import UserError
from detection.labels import KNOWN_IDS
from language import render
from language.comment import CommentWriter, corpus, rates
from language.comment.card import POCKET
from language.comment.propose import Draft
from language.comment.writer import plans
from language.memory import Memory, opening
from language.records import ElementList, find_evidence
from language.render import render_plan, render_target
from language.rules import EMOJI, violations
from language.tokenizer import train_tokenizer
from language.voice import Voice

LISTS = [
    "당황, 모자",
    "기쁨, 케이크, 풍선",
    "슬픔, 나무",
    "분노, 자동차",
    "고양이",
    "커피, 노트북",
    "기쁨",
    "슬픔",
    "당황",
    "분노",
    "",
    "자전거, 헬멧, 나무, 자동차",
    "강아지, 공",
    "피자",
    "기쁨, 슬픔, 텐트",
]


VOICES = [(lang, style) for lang in corpus.LANGUAGES for style in corpus.STYLES]


@pytest.fixture(scope="module", params=["t5", "gpt2", "bank"])
def model(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def writer(model) -> CommentWriter:
    return CommentWriter(model)


@pytest.mark.parametrize(("lang", "style"), VOICES)
def test_comments_keep_the_rules(model, lang, style):
    writer = CommentWriter(model, lang, style)
    for text in LISTS:
        comment, elements = writer.write(text)[0], ElementList.parse(text, lang)
        assert violations(comment.text, elements, style) == [], (text, comment)


def test_tender_lists_are_answered_gently(model):
    """Injury, weapons and sorrow: no jokes, no praise of looks, no cheer."""
    cheer = re.compile("ㅋㅋ|ㅎㅎ|웃기|귀여|예쁘|예뻐|멋지|멋져|행복|신나|축하|대박|찰떡")
    writer = CommentWriter(model)
    for text in (
        "슬픔, 모자",
        "분노, 자동차",
        "목발, 나무",
        "구급차",
        "휠체어, 의자",
        "소총, 모자",
        "슬픔, 케이크, 풍선",
        "슬픔, 분노",
    ):
        for seed in range(3):
            comment = writer.write(text, seed=seed)[0].text
            assert not cheer.search(comment), (text, comment)


def test_same_seed_same_comment_whatever_was_written_before(writer, model):
    first = writer.write("당황, 모자", count=3, seed=7)
    for text in LISTS[:5]:
        writer.write(text, seed=3)
    assert writer.write("당황, 모자", count=3, seed=7) == first
    assert CommentWriter(model).write("당황, 모자", count=3, seed=7) == first


def test_seeds_vary_the_comment(writer):
    assert len({writer.write("기쁨, 케이크", seed=s)[0].text for s in range(8)}) >= 3


def test_several_comments_begin_differently(writer):
    for text in ("기쁨, 케이크", "", "우주 정거장"):
        comments = writer.write(text, count=6)
        assert len(comments) == 6 and len({opening(c.text) for c in comments}) == 6
    with pytest.raises(UserError, match="at least 1"):
        writer.write("기쁨", count=0)


def test_lists_ids_and_names_mean_the_same(writer):
    assert (
        writer.write(["panic", "Hat"]) == writer.write("공포, 모자") == writer.write(ElementList.parse("startled, hat"))
    )


def test_unknown_words_and_long_lists_still_get_a_comment(writer):
    for text in (
        "우주 정거장",
        "기쁨, 훌라후프",
        ", ".join(["모자", "안경", "재킷", "나무", "자동차", "바퀴", "창문", "건물", "꽃"]),
    ):
        comment = writer.write(text)[0]
        assert violations(comment.text, ElementList.parse(text)) == [], comment
        assert comment.evidence or "기쁨" in text  # what no face outshines is spoken of by its name


@pytest.mark.parametrize("model", ["t5", "gpt2", "bank"])
@pytest.mark.parametrize(
    "text",
    [
        ", ".join(f"낱말{number}뿡꿻쀍쉙" for number in range(40)),  # more than GPT-2 has positions for
        "뷁" * 40,  # one name that is too long by itself
        "모자, 안경, " + "뷁" * 90,  # it is left out, the others stay
    ],
)
def test_lists_longer_than_a_model_can_read_are_cut(model, text):
    comment = CommentWriter(model).write(text)[0]
    assert comment.text and "뷁" not in comment.text


def test_one_model_speaks_every_language_and_style(writer):
    mine = writer.write("모자")
    told = writer.write("모자", voice=Voice("en", "casual"))
    assert told == CommentWriter(writer.model, "en", "casual").write("모자")
    assert writer.write("모자") == mine and writer.voice == Voice("ko", "polite")
    with pytest.raises(UserError, match="not fr"):
        writer.write("모자", voice=Voice("fr", "polite"))


def test_a_memory_lives_without_a_file(writer):
    memory = Memory()
    texts = [writer.write("고양이", seed=0, memory=memory)[0].text for _ in range(4)]
    assert len({opening(t) for t in texts}) == 4


def test_a_person_answers_where_the_model_cannot_and_the_comment_says_so(model, writer, monkeypatch):
    if model == "bank":
        pytest.skip("it has no model that could fail")
    assert "model" in {c.source for text in LISTS for c in writer.write(text, count=3)}
    asks = "어디서 사셨어요? 😊"
    flawed = lambda *args: [Draft(0, writer.decoder.tokens(asks), text=asks, flaws=args[-2](asks))]
    monkeypatch.setattr("language.comment.writer.propose", flawed)
    for text in ("기쁨, 케이크", "슬픔", "벚꽃길, 모자", ""):
        comments, elements = writer.write(text, count=3), ElementList.parse(text)
        assert {c.source for c in comments} == {"whole comment"} and len({opening(c.text) for c in comments}) == 3
        assert all(violations(c.text, elements) == [] and c.score < 0 for c in comments)
    assert writer.write("모자?")[0].text  # a name that itself breaks a rule is not spoken of


def test_evidence_points_at_the_words():
    elements = ElementList.parse("기쁨, 자전거, 자전거 바퀴")
    text = "👨‍👩‍👧 자전거 바퀴도 자전거도 반짝여요"
    spans = find_evidence(text, elements)
    assert [(s.element, text[s.start : s.end]) for s in spans] == [
        ("Bicycle wheel", "자전거 바퀴"),
        ("Bicycle", "자전거"),
    ]


def test_plans_speak_of_what_leads_alone_and_with_what_belongs_to_it():
    elements = ElementList.parse("기쁨, 케이크, 양초, 의자")
    cake, candle = elements.of_kind("object")[:2]
    assert plans(None, elements, "polite") == [[]]
    assert plans(cake, elements, "polite") == [[cake], [cake, candle]]
    for text in LISTS:
        elements = ElementList.parse(text)
        for lead in elements.of_kind("object"):
            found = plans(lead, elements, "polite")
            assert found[0] == [lead] and all(e in elements for plan in found for e in plan) and len(found) <= 3


def test_a_target_is_the_plan_and_the_comment():
    elements = ElementList.parse("기쁨, 모자, 자전거, 자전거 바퀴")
    comment = "자전거 바퀴도 모자도 반짝이네요! 😊"
    assert render_target(elements, comment) == f"기쁨, 자전거 바퀴, 모자: {comment}"
    assert render_plan(elements, []) == "기쁨:" and render_plan(ElementList(), []) == "사진:"
    assert render_plan(elements, [], "casual") == "기쁨;" and render_plan(ElementList((), "en"), []) == "photo="
    english = ElementList.parse("happy, hat", "en")
    assert render_target(english, "Nice hats 😊", "casual") == "happy, hat~ Nice hats 😊"


def test_evidence_is_a_word_not_a_part_of_one():
    elements = ElementList.parse("소")
    assert [s.start for s in find_evidence("음메 하는 소 울음소리", elements)] == [6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "gpt9"}, "unknown writer 'gpt9'"),
        ({"lang": "fr"}, "writes en, ko only"),
        ({"style": "rude"}, "no style rude"),
    ],
)
def test_what_does_not_exist_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        CommentWriter(**arguments)


def test_broken_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no writer"):
        CommentWriter(str(tmp_path))
    folder = tmp_path / "copy"
    shutil.copytree(POCKET["t5"], folder)
    assert CommentWriter(str(folder)).write("모자")
    card = json.loads((folder / "writer.json").read_text())
    for what in ("rendering", "tokenizer"):
        other = {**card, "fingerprints": {**card["fingerprints"], what: "0" * 12}}
        (folder / "writer.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match=f"trained with another {what}"):
            CommentWriter(str(folder))
    for content in ("{", "[]", '{"styles": {}}'):
        (folder / "writer.json").write_text(content)
        with pytest.raises(UserError, match="damaged"):
            CommentWriter(str(folder))
    (folder / "writer.json").write_text(json.dumps(card))
    text = (folder / "tokenizer.json").read_text("utf-8")
    other = json.loads(text)
    other["model"]["merges"] = other["model"]["merges"][:-3000]
    (folder / "tokenizer.json").write_text(json.dumps(other), "utf-8")
    with pytest.raises(UserError, match="another tokenizer"):
        CommentWriter(str(folder))
    (folder / "tokenizer.json").write_text(text, "utf-8")
    (folder / "model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        CommentWriter(str(folder))


def test_memory_avoids_openings_and_emoji(tmp_path, writer):
    file = tmp_path / "memory.json"
    texts = [writer.write("고양이", seed=0, memory=Memory(file))[0].text for _ in range(4)]
    assert len({opening(t) for t in texts}) == 4
    assert not set(EMOJI.findall(texts[0])) & set(EMOJI.findall(texts[1]))
    assert [opening(t) for t in texts] == json.loads(file.read_text("utf-8"))["openings"]


@pytest.mark.parametrize("content", ["", "[]", '{"openings": 1}', "\x00"])
def test_a_file_that_is_no_memory_is_refused(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(UserError, match="not a memory file"):
        Memory(tmp_path / "m.json")
    with pytest.raises(UserError, match="does not exist"):
        Memory(tmp_path / "none" / "m.json")


def test_the_fingerprint_changes_with_the_rendering(monkeypatch):
    """Trained on `모자, 나무`, served `모자,나무`: the original's service wrote its lists in another way."""
    before = render.fingerprint()
    monkeypatch.setattr(render, "SEPARATOR", ",")
    assert render.fingerprint() != before
    with pytest.raises(UserError, match="another rendering"):
        CommentWriter()


def test_a_start_imports_no_torch_and_the_trainer_may_still_import_the_whole_package():
    code = (
        "import sys; from language.comment.decoder import compiled; engine = compiled().Translator; "
        "assert not {'torch', 'transformers', 'ctranslate2'} & set(sys.modules); "
        "import ctranslate2; assert ctranslate2.Translator is engine; ctranslate2.converters.TransformersConverter"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_tokenizer_knows_every_character(tmp_path):
    from tokenizers import Tokenizer

    train_tokenizer(["모자가 잘 어울려요! 😊"] * 5 + ["모자도 좋네요 ✨"] * 5, 400, tmp_path / "t.json")
    tokenizer = Tokenizer.from_file(str(tmp_path / "t.json"))
    for text in ("모자가 잘 어울려요! 😊", "쀍 déjà vu 👩🏽‍🚀 漢字", "두  칸"):
        encoded = tokenizer.encode(text)
        assert encoded.tokens[-1] == "</s>" and "<unk>" not in encoded.tokens
        assert tokenizer.decode(encoded.ids) == text


@pytest.mark.parametrize("listed", ["생일, 케이크", "바다", "기쁨, 함께 식사", ""])
def test_what_the_model_has_not_learned_is_answered_by_hand_and_says_so(listed):
    writer = CommentWriter()
    writer.sorts = ["emotion", "object"]
    comments = writer.write(listed, count=2)
    assert {c.source for c in comments} == {"whole comment"} and len({opening(c.text) for c in comments}) == 2
    assert writer.write("기쁨, 모자")[0].source == "model"


def test_the_bank_answers_by_hand_alone_and_a_name_it_does_not_know_in_general_words():
    bank = CommentWriter("bank")
    for text in LISTS:
        assert all(e.id in KNOWN_IDS for e in ElementList.parse(text)), text
        assert {c.source for c in bank.write(text, count=3)} == {"whole comment"}, text
    assert all("벚꽃길" in c.text and c.source == "whole comment" for c in bank.write("벚꽃길", count=2))
    assert bank.decoder is None


@pytest.mark.parametrize("lang", corpus.LANGUAGES)
def test_three_choices_of_the_bank_are_three_thoughts(lang):
    """Each about something else of the list, as far as it goes."""
    bank = CommentWriter("bank", lang)
    for ids in (["Dog", "Ball", "park"], ["birthday", "Cake", "Candle"]):
        comments = bank.write(ids, count=3)
        assert len({c.text for c in comments}) == 3
        assert {ids[0], ids[1]} <= {span.element for c in comments for span in c.evidence}


def test_where_faces_feel_the_bank_does_not_speak_of_the_chair():
    for seed in range(20):
        for feeling in ("happy", "sad", "anger", "panic"):
            texts = [c.text for c in CommentWriter("bank").write([feeling, "Chair", "Table"], count=3, seed=seed)]
            assert not any("의자" in t or "테이블" in t for t in texts), texts


def test_rates_tell_what_the_filter_refuses_and_how_much_is_quoted(capsys):
    assert rates.main(["t5", "bank", "--count", "12", "--seed", "3"]) == 0
    t5, bank = map(json.loads, capsys.readouterr().out.splitlines())
    assert t5["after"] == {} and t5["before"]["any"] > 0  # some first drafts are refused, no comment is
    assert t5["quoted"] + t5["new"] + t5["by hand"] == pytest.approx(1, abs=0.01) and t5["quoted"] > 0
    assert bank["by hand"] == 1 and bank["before"] == {}
