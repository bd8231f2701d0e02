"""Records say what is wrong when they are built."""

import pytest

from detection.records import Detection, clipped
from language.records import Comment, Element, ElementList, Evidence
from language.render import render_input
from pipeline.records import Failure, Result


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("", "object", 0.5, (0, 0, 1, 1)), "label"),
        (("Hat", "thing", 0.5, (0, 0, 1, 1)), "kind must be one of"),
        (("Hat", "object", 1.5, (0, 0, 1, 1)), "score must be within"),
        (("Hat", "object", float("nan"), (0, 0, 1, 1)), "score must be within"),
        (("Hat", "object", 0.5, (5, 0, 1, 1)), "left < right"),
        (("Hat", "object", 0.5, (-1, 0, 1, 1)), "0 <= left"),
        (("Hat", "object", 0.5, (0, 0, 1)), "four finite numbers"),
        (("Hat", "object", 0.5, (0, 0, float("inf"), 1)), "four finite numbers"),
    ],
)
def test_a_bad_detection_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Detection(*fields)


def test_a_detection_is_frozen():
    with pytest.raises(AttributeError):
        Detection("Hat", "object", 0.5, (0, 0, 1, 1)).label = "Cat"


def test_boxes_are_clipped_to_the_photo_not_dropped():
    assert clipped("Hat", "object", 0.5, (-10, -5, 50, 700), (100, 600)).xyxy == (0, 0, 50, 600)
    assert clipped("Hat", "object", 0.5, (120, 10, 150, 20), (100, 600)) is None  # wholly outside


def test_lists_are_parsed_in_both_languages_and_by_old_names():
    assert [e.id for e in ElementList.parse("공포, 모자")] == ["panic", "Hat"]
    assert [e.name for e in ElementList.parse("공포,모자")] == ["당황", "모자"]
    assert [e.id for e in ElementList.parse("hat, startled")] == ["panic", "Hat"]  # feelings come first
    assert [e.name for e in ElementList.parse("Hat, Hat, panic", lang="en")] == ["startled", "hat"]
    assert [e.id for e in ElementList.parse("차, 배, 시계")] == ["Car", "Boat", "Clock"]  # old pack, commoner class


def test_words_that_say_nothing_make_no_element():
    assert len(ElementList.parse("인간의 얼굴, 남자, 사람, 무표정, 옷, 여자, , ")) == 0
    assert [e.id for e in ElementList.parse("공포, 인간의 얼굴, 모자, 남자, 소년")] == ["panic", "Hat"]


def test_rendering_and_parsing_agree():
    for text in ("당황, 모자", "사진", "기쁨, 슬픔, 자전거 바퀴"):
        assert render_input(ElementList.parse(text)) == text
    assert len(ElementList.parse("사진")) == len(ElementList.parse("")) == 0


def test_unknown_words_given_by_hand_stay():
    (element,) = ElementList.parse("우주 정거장")
    assert (element.id, element.kind, element.name) == ("우주 정거장", "object", "우주 정거장")


def test_element_lists_have_an_order_and_no_repeats():
    hat, panic = Element("Hat", "object", "모자"), Element("panic", "emotion", "당황")
    with pytest.raises(ValueError, match="emotions come before everything else"):
        ElementList((hat, panic))
    with pytest.raises(ValueError, match="no repeats"):
        ElementList((hat, hat))
    with pytest.raises(ValueError, match="match the boxes"):
        Element("Hat", "object", "모자", count=2, boxes=((0, 0, 1, 1),))


def test_comment_and_evidence_agree():
    text = "모자가 잘 어울려요 😊"
    assert Comment(text, -0.1, (Evidence("모자", 0, 2, "Hat"),)).text == text
    with pytest.raises(ValueError, match="does not lie in"):
        Comment(text, -0.1, (Evidence("모자", 1, 3, "Hat"),))
    with pytest.raises(ValueError, match="no space at its ends"):
        Comment(" 안녕하세요", -0.1)


def test_a_result_is_done_or_failed():
    with pytest.raises(ValueError, match="either done or failed"):
        Result("a.jpg", 10, 10, None, None)
    with pytest.raises(ValueError, match="either done or failed"):
        Result("a.jpg", 10, 10, ElementList(), (), error=Failure("damaged", "…"))
    failed = Result("a.jpg", error=Failure("damaged", "no picture"))
    assert [failed.to_json()[k] for k in ("width", "height", "elements", "input", "comment", "comments")] == [None] * 6
    with pytest.raises(ValueError, match="no picture to draw on"):
        failed.annotated()
