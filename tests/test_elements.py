"""Detections become the element list of the contract."""

from detection.labels import kind_of
from detection.records import Detection
from language.render import render_input
from pipeline.elements import FEELING_THRESHOLD, LONE_FACE_THRESHOLD, MOST, RARE_FEELING_THRESHOLD, to_elements

SIZE = (640, 480)


def thing(label, score=0.9, box=(0, 0, 100, 100), votes=1):
    return Detection(label, "object", score, box, votes)


def face(label, score=0.9, box=(0, 0, 100, 100)):
    return Detection(label, "emotion", score, box)


def whole(label, score=0.9, sure=True):
    return Detection(label, kind_of(label), score, None, sure=sure)


def ids(*seen, lang="ko"):
    return [e.id for e in to_elements(seen, SIZE, lang)]


def test_feelings_come_first_the_largest_faces_before_the_others():
    seen = [
        thing("Cat", 0.95, (200, 100, 500, 400)),
        face("sad", 0.95, (300, 0, 380, 80)),
        face("happy", 0.9, (0, 200, 100, 300)),
    ]
    assert ids(*seen) == ["happy", "sad", "Cat"]
    assert render_input(to_elements(seen, SIZE, "ko")) == "기쁨, 슬픔, 고양이"
    assert render_input(to_elements(seen, SIZE, "en")) == "happy, sad, cat"


def test_what_people_mention_comes_before_what_is_larger():
    cat, couch = thing("Cat", 0.9, (250, 180, 400, 300)), thing("Couch", 0.9, (0, 100, 640, 480))
    assert ids(couch, cat)[0] == "Cat"


def test_furniture_tableware_and_clothing_do_not_lead():
    side = [thing("Table", 0.9, (0, 240, 640, 480)), thing("Plate", 0.9, (200, 300, 320, 400))]
    side += [thing("Jeans", 0.9, (500, 100, 620, 470)), thing("Tire", 0.9, (0, 0, 120, 120))]
    for lead, box in (("Pizza", (210, 310, 310, 390)), ("Dog", (10, 10, 200, 230))):
        found = to_elements([thing(lead, 0.9, box), *side], SIZE, "ko")
        assert found.of_kind("object")[0].id == lead


def test_a_scene_or_a_moment_may_lead():
    assert ids(whole("beach", 0.95), thing("Hat", 0.5, (0, 0, 20, 20)))[0] in ("beach", "beach_day")
    assert "surfing" in ids(whole("surfing", 0.9), thing("Person", 0.9, (200, 200, 300, 400)))[:2]


def test_an_animal_is_said_before_the_herd_or_zoo_that_it_makes():
    flock = [thing("Sheep", 0.45, (x, 200, x + 90, 300), 2) for x in (0, 120, 240, 360)]
    assert ids(whole("herd", 0.95), *flock)[0] == "Sheep" and "herd" in ids(whole("herd", 0.95), *flock)
    assert ids(whole("zoo", 0.95), thing("Bear", 0.6, (200, 150, 400, 400), 2))[0] == "Bear"
    # a beach is not told by what may be a dog
    assert ids(whole("beach", 0.95), thing("Dog", 0.35, (0, 0, 20, 20)))[0] != "Dog"


def test_order_does_not_depend_on_the_order_of_detections():
    seen = [
        thing("Cat", 0.8, (0, 0, 200, 200)),
        thing("Dog", 0.8, (300, 0, 500, 200)),
        face("happy"),
        thing("Hat", 0.5),
        whole("beach"),
    ]
    assert to_elements(seen, SIZE, "ko") == to_elements(seen[::-1], SIZE, "ko")


def test_what_says_nothing_makes_no_element():
    seen = [thing(n) for n in ("Human face", "Human hair", "Clothing", "Person", "Man", "Woman", "Boy", "Girl")]
    assert not {
        e.id for e in to_elements([*seen, face("neutral", 0.99)], SIZE, "ko") if e.kind in ("emotion", "object")
    }


def test_unsure_feelings_are_left_unsaid():
    person = thing("Person", 0.3, (0, 0, 120, 400))
    for label, least in (("happy", FEELING_THRESHOLD), ("anger", RARE_FEELING_THRESHOLD), ("sad", 0.9), ("panic", 0.9)):
        assert label not in ids(face(label, least - 0.01), person)
        assert ids(face(label, least), person)[0] == label


def test_a_face_where_nobody_is_must_be_surer():
    clock, elsewhere = thing("Clock", 0.9), thing("Man", 0.9, (300, 0, 400, 400))
    assert "happy" not in ids(face("happy", LONE_FACE_THRESHOLD - 0.01), clock, elsewhere)
    assert ids(face("happy", LONE_FACE_THRESHOLD))[0] == "happy"


def test_a_covered_face_tells_no_feeling():
    person, low = thing("Person", 0.9, (0, 0, 120, 400)), (10, 50, 90, 100)
    assert "happy" in ids(face("happy", 0.95, (0, 0, 100, 100)), person, thing("Mask", 0.6, (200, 50, 280, 100)))
    assert "happy" not in ids(face("happy", 0.95, (0, 0, 100, 100)), person, thing("Mask", 0.6, low))
    assert "happy" not in ids(face("happy", 0.95, (0, 0, 100, 100)), person, whole("Mask", 0.9))


def test_effort_is_no_anger():
    player, racket = thing("Person", 0.9, (0, 0, 120, 400)), thing("Tennis racket", 0.8, (50, 50, 120, 120))
    seen = (player, racket, whole("tennis", 0.95))
    assert "tennis" in ids(*seen, face("anger", 0.97)) and "anger" not in ids(*seen, face("anger", 0.97))
    assert "happy" in ids(*seen, face("happy", 0.97))


def test_an_animal_that_one_network_alone_saw_is_not_believed():
    assert "Giraffe" not in ids(thing("Giraffe", 0.8))
    assert "Giraffe" in ids(thing("Giraffe", 0.8), whole("Giraffe", 0.4)) and "Giraffe" in ids(thing("Giraffe", 0.95))


def test_passers_by_do_not_set_the_mood():
    assert ids(face("happy", 0.85, (0, 0, 100, 100)), face("anger", 0.95, (200, 0, 220, 20)))[0] == "happy"
    assert "anger" not in ids(face("happy", 0.85, (0, 0, 100, 100)), face("anger", 0.95, (200, 0, 220, 20)))


def test_several_of_a_kind_are_counted_best_first():
    boxes = [(0, 0, 90, 90), (120, 0, 210, 90), (240, 0, 330, 90)]
    elements = to_elements([thing("Dog", s, b) for s, b in zip((0.7, 0.9, 0.8), boxes, strict=True)], SIZE, "ko")
    dog = next(e for e in elements if e.id == "Dog")
    assert (dog.count, dog.score, dog.boxes) == (3, 0.9, (boxes[1], boxes[2], boxes[0]))


def test_a_list_is_short():
    seen = [whole(i) for i in ("beach", "sunset", "street", "forest", "snow", "mountain", "lake", "sky", "bridge")]
    names = ("Dog", "Cat", "Horse", "Bird", "Boat", "Kite")
    seen += [thing(n, 0.9, (90 * i, 0, 90 * i + 80, 80)) for i, n in enumerate(names)]
    assert 0 < len(ids(*seen)) <= MOST


def test_a_more_exact_name_names_the_thing():
    breed = whole("Golden retriever", 0.95)
    (dog,) = [e for e in to_elements([thing("Dog", 0.9, (100, 50, 500, 450)), breed], SIZE, "ko") if e.id == "Dog"]
    assert dog.name == "골든 리트리버" and dog.kind == "object"


def test_nothing_seen_is_an_empty_list():
    assert ids() == []
    assert render_input(to_elements([], SIZE, "ko")) == "사진"
