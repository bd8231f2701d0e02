"""Detections become the element list of the contract."""

from detection.records import Detection
from language.render import render_input
from pipeline.elements import FEELING_THRESHOLD, LONE_FACE_THRESHOLD, THING_THRESHOLD, to_elements


def thing(label, score=0.9, box=(0, 0, 100, 100)):
    return Detection(label, "object", score, box)


def face(label, score=0.9, box=(0, 0, 100, 100)):
    return Detection(label, "emotion", score, box)


def test_feelings_by_score_then_things_by_salience():
    seen = [
        thing("Cat", 0.95, (0, 0, 50, 50)),
        thing("Sofa bed", 0.4, (0, 0, 400, 300)),
        face("sad", 0.85, (300, 0, 390, 90)),
        face("happy", 0.9, (0, 200, 100, 300)),
    ]
    assert [e.id for e in to_elements(seen, "ko")] == ["happy", "sad", "Sofa bed", "Cat"]
    assert render_input(to_elements(seen, "ko")) == "기쁨, 슬픔, 소파베드, 고양이"
    assert render_input(to_elements(seen, "en")) == "happy, sad, sofa bed, cat"


def test_order_does_not_depend_on_the_order_of_detections():
    seen = [thing("Cat", 0.5), thing("Dog", 0.8), face("happy"), thing("Hat", 0.3)]
    assert to_elements(seen, "ko") == to_elements(seen[::-1], "ko")


def test_what_says_nothing_makes_no_element():
    seen = [thing(n) for n in ("Human face", "Human hair", "Clothing", "Person", "Man", "Woman", "Boy", "Girl")]
    assert len(to_elements([*seen, face("neutral", 0.99)], "ko")) == 0


def test_unsure_feelings_are_left_unsaid():
    person = thing("Person", 0.3, (0, 0, 120, 400))
    assert len(to_elements([face("anger", FEELING_THRESHOLD - 0.01), person], "ko")) == 0
    assert len(to_elements([face("anger", FEELING_THRESHOLD), person], "ko")) == 1


def test_a_face_where_nobody_is_must_be_surer():
    clock, elsewhere = thing("Clock", 0.9), thing("Man", 0.9, (300, 0, 400, 400))
    assert [e.id for e in to_elements([face("anger", LONE_FACE_THRESHOLD - 0.01), clock, elsewhere], "ko")] == ["Clock"]
    assert [e.id for e in to_elements([face("anger", LONE_FACE_THRESHOLD)], "ko")] == ["anger"]


def test_unsure_things_are_left_unsaid():
    assert len(to_elements([thing("Suitcase", THING_THRESHOLD - 0.01)], "ko")) == 0


def test_passers_by_do_not_set_the_mood():
    seen = [face("happy", 0.85, (0, 0, 100, 100)), face("anger", 0.95, (200, 0, 220, 20))]
    assert [e.id for e in to_elements(seen, "ko")] == ["happy"]


def test_several_of_a_kind_are_counted():
    boxes = [(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)]
    (hat,) = to_elements([thing("Hat", s, b) for s, b in zip((0.5, 0.9, 0.7), boxes, strict=True)], "ko")
    assert (hat.count, hat.score, hat.boxes) == (3, 0.9, (boxes[1], boxes[2], boxes[0]))


def test_a_general_name_gives_way_to_an_exact_one_on_the_same_spot():
    here, there = (0, 0, 100, 100), (200, 200, 300, 300)
    assert [e.id for e in to_elements([thing("Animal", 0.9, here), thing("Cat", 0.5, here)], "ko")] == ["Cat"]
    assert {e.id for e in to_elements([thing("Animal", 0.9, there), thing("Cat", 0.5, here)], "ko")} == {
        "Animal",
        "Cat",
    }
    assert [e.id for e in to_elements([thing("Animal", 0.9, here)], "ko")] == ["Animal"]


def test_nothing_seen_is_an_empty_list():
    assert len(to_elements([], "ko")) == 0
    assert render_input(to_elements([], "ko")) == "사진"
