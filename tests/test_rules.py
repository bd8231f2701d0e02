"""One rule file: it is checked whole, compiled for run time, and speaks up in both languages and styles."""

import json

import pytest
import yaml

from common.errors import UserError
from language.records import ElementList
from language.rules import describe, is_tender, tender_elements, violations
from language.rules.check import COMPILED
from language.rules.schema import FILE, load_rules
from tests.helpers import run_module


def test_the_compiled_rules_are_those_of_the_file():
    assert json.loads(COMPILED.read_text("utf-8")) == load_rules().model_dump(mode="json")


def test_every_mistake_in_a_rule_file_is_reported_at_once(tmp_path):
    book = yaml.safe_load(FILE.read_text("utf-8"))
    book["languages"]["ko"]["cheerful"] = "(행복"
    book["languages"]["en"]["length"] = [20, 10]
    book["tender"]["things"].append("Blanket of sorrow")
    book["hashtags"] = False
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(book, allow_unicode=True), "utf-8")
    with pytest.raises(UserError) as error:
        load_rules(tmp_path / "rules.yaml")
    for part in ("languages.ko.cheerful", "en.length", "Blanket of sorrow", "unknown key hashtags"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lang", "names", "style", "comment", "rule"),
    [
        ("ko", "기쁨, 모자", "casual", "모자 진짜 잘 어울리네요 😊", "speech level"),
        ("ko", "기쁨, 모자", "casual", "모자 쓰시니 더 좋다 😊", "speech level"),
        ("ko", "기쁨, 모자", "polite", "모자 잘 어울린다 😊", "speech level"),
        ("ko", "기쁨, 모자", "polite", "모자 어디서 사셨는지 궁금하네요 😊", "question"),
        ("ko", "기쁨, 모자", "polite", "모자가 잘 어울려요 #데일리룩 😊", "hashtag"),
        ("ko", "모자", "polite", "오늘 날씨가 좋네요! 😊", "names nothing"),
        ("ko", "슬픔, 모자", "polite", "모자 쓴 모습 정말 예쁘세요 🤍", "not gentle"),
        ("ko", "휠체어", "polite", "휠체어 질주라니 빵 터졌어요 😂", "not gentle"),
        ("ko", "기쁨, 모자", "polite", "모자가 잘 어울린다. 저도 웃었어요 😊", "speech level"),  # of every sentence
        ("ko", "기쁨, 모자", "polite", "그 모자에 어울리는 노래를 불러 줄게요 😊", "speech level"),
        ("ko", "기쁨, 모자, 의자", "polite", "모자가 참 잘 어울려요. 의자도 편안해 보여요 😊", "glued on"),
        ("ko", "기쁨, 모자", "polite", "웃는 얼굴이 좋아요. 거기에 모자라니 더 좋아요 😊", "seam"),
        ("ko", "기쁨, 꽃", "polite", "꽃이 정말 예쁘시네요 😊", "honours a thing"),
        ("ko", "슬픔, 당황, 모자", "polite", "웃는 얼굴도 놀란 얼굴도 모자가 잘 어울려요 💛", "feeling not there"),
        ("ko", "모자", "polite", "모자 아래로 번지는 그 웃음이 참 좋아요 💛", "feeling not there"),
        ("en", "hat", "polite", "That smile under the hat made my day 😊", "feeling not there"),
        ("ko", "슬픔, 기쁨, 모자", "polite", "모자 쓴 얼굴들이 다 보여서 웃겨요 💛", "laughs"),
        ("en", "happy, sad, hat", "polite", "That hat has seen every kind of face 😂", "laughs"),
        ("en", "happy, hat, chair", "polite", "That hat has the best view of a smile. And a chair, too 😊", "seam"),
        ("en", "happy, hat", "polite", "Is that a new hat? 😊", "question"),
        ("en", "happy, hat", "polite", "I wonder where that hat is from 😊", "question"),
        ("en", "happy, hat", "polite", "That hat and the guitar go together 😊", "names what is not there"),
        ("en", "hat", "polite", "What a lovely afternoon that was 😊", "names nothing"),
        ("en", "happy, hat", "polite", "That hat is all you need today", "emoji"),
        ("en", "sad, hat", "polite", "That hat looks like so much fun 🤍", "mood"),
        ("en", "sad, hat", "casual", "Lol that hat has seen things 🤍", "not gentle"),
        ("en", "happy, hat", "casual", "That damn hat again 😎", "banned word"),
        ("en", "happy, hat", "polite", "What a hat, 정말 멋져요 😊", "another language"),
        ("en", "happy, hat", "polite", "A hat. A smile. A whole story. 😊", "sentences"),
    ],
)
def test_each_rule_speaks_up(lang, names, style, comment, rule):
    assert rule in violations(comment, ElementList.parse(names, lang), style)


@pytest.mark.parametrize(
    ("lang", "names", "style", "comment"),
    [
        ("ko", "기쁨, 모자", "casual", "그 모자 나 몰래 샀구나, 잘 샀다 😎"),
        ("ko", "", "casual", "이 공기 나도 마시고 싶다 ✨"),
        ("ko", "기쁨, 모자", "polite", "모자가 잘 어울리시네요, 저도 웃었어요 😊"),  # said of who wears it
        ("ko", "기쁨, 의자", "polite", "웃는 얼굴 덕분에 저도 웃었어요 😊"),  # no side thing by force
        ("en", "happy, hat", "polite", "That hat was waiting for a smile like yours 😊"),
        ("en", "happy, car key, dog", "casual", "Two dogs, zero worries 🐶"),
        ("en", "sad, tree", "polite", "Lean on that tree as long as you need 🤍"),
        ("en", "anger", "polite", "Take all the room you need today 🫶"),
    ],
)
def test_good_comments_break_nothing(lang, names, style, comment):
    assert violations(comment, ElementList.parse(names, lang), style) == []


def test_tender_moments_are_known():
    tender = lambda text: is_tender(ElementList.parse(text))
    assert tender("슬픔, 꽃") and tender("슬픔, 분노") and tender("기쁨, 휠체어") and tender("들것")
    assert not tender("기쁨, 꽃") and not tender("슬픔, 기쁨") and not tender("")
    assert "농담" in describe("ko", "polite", tender=True) and "No questions" in describe("en", "casual")


def test_what_wants_gentle_words_is_named():
    because = lambda text: [e.id for e in tender_elements(ElementList.parse(text))]
    assert because("슬픔, 꽃") == ["sad"] and because("기쁨, 휠체어, 장례식장") == ["Wheelchair", "장례식장"]
    assert because("슬픔, 휠체어") == ["sad", "Wheelchair"] and because("기쁨, 슬픔") == []


def test_the_command_compiles():
    done = run_module("language.rules", "compile")
    assert done.status == 0 and done.out.strip().endswith("rules.json")
