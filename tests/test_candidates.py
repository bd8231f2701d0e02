"""What a comment might speak of: one name a spot, one box a thing, and both kinds of eyes compared."""

from detection.families import akin, ancestors, related, thing_of
from detection.labels import EXACT_IDS, KNOWN_IDS, OBJECT_IDS, THING_IDS, kind_of
from detection.records import Detection
from detection.scenes import subjects
from pipeline.candidates import (
    COUNTED,
    LONE_NEW_THRESHOLD,
    LONE_THRESHOLD,
    LONELY,
    LONELY_ANIMAL,
    MOST_COUNTED,
    find_candidates,
)
from pipeline.facts import gather

SIZE = (1000, 1000)
HERE, THERE = (100, 100, 500, 500), (600, 600, 900, 900)


def thing(label, score=0.9, box=HERE, votes=1):
    return Detection(label, "object", score, box, votes)


def whole(label, score=0.9, sure=True):
    return Detection(label, kind_of(label), score, None, sure=sure)


def found(*detections):
    return {c.id: c for c in find_candidates(detections, gather(detections, SIZE), SIZE) if c.kind != "moment"}


def test_a_general_name_gives_way_to_an_exact_one_on_the_same_spot():
    assert set(found(thing("Animal", 0.7), thing("Cat", 0.5, votes=2))) == {"Cat"}
    assert set(found(thing("Animal", 0.7, THERE, 2), thing("Cat", 0.5, votes=2))) == {"Animal", "Cat"}
    assert set(found(thing("Animal", 0.9, votes=2), thing("Cat", 0.4, votes=2))) == {"Animal"}, (
        "an exact name that is hardly believed"
    )


def test_mirror_images_of_one_thing_are_one():
    for one, other in (
        ("Hot dog", "Hamburger"),
        ("Sheep", "Goat"),
        ("Goat", "Deer"),
        ("Couch", "Bed"),
        ("Tower", "Skyscraper"),
        ("Skyscraper", "Office building"),
    ):
        assert set(found(thing(one, 0.6, votes=2), thing(other, 0.5, votes=2))) == {one}, (one, other)


def test_different_things_on_one_spot_both_stay():
    assert set(found(thing("Bowl"), thing("Salad"))) == {"Bowl", "Salad"}
    assert set(found(thing("Person"), thing("Suit"))) == {"Suit"}


def test_agreement_of_both_networks_decides():
    assert set(found(thing("Sheep", 0.55), thing("Goat", 0.5, votes=2))) == {"Goat"}


def test_the_look_at_the_whole_picture_decides():
    assert set(found(thing("Sheep", 0.5), thing("Goat", 0.45), whole("Goat", 0.8))) == {"Goat"}


def test_boxes_of_one_thing_are_one():
    inner = (120, 120, 480, 480)
    assert found(thing("Dog", 0.9), thing("Dog", 0.8, inner))["Dog"].boxes == (HERE,)
    assert len(found(thing("Dog", 0.9), thing("Dog", 0.8, THERE))["Dog"].boxes) == 2


def test_a_count_is_a_claim():
    weak = thing("Dog", COUNTED - 0.01, THERE)
    assert found(thing("Dog", 0.9), weak)["Dog"].boxes == (HERE,)
    herd = [thing("Sheep", 0.9, (90 * i, 0, 90 * i + 80, 80)) for i in range(MOST_COUNTED + 1)]
    assert len(found(*herd[:-1])["Sheep"].boxes) == MOST_COUNTED
    assert len(found(*herd)["Sheep"].boxes) == 1, "more than a few are never counted right"


def test_a_thing_needs_agreement_or_sureness():
    assert found(thing("Suitcase", LONELY - 0.01)) == {}
    assert set(found(thing("Suitcase", LONELY))) == {"Suitcase"}
    assert set(found(thing("Suitcase", LONELY - 0.01, votes=2))) == {"Suitcase"}
    assert set(found(thing("Suitcase", LONELY - 0.01), whole("Suitcase", 0.3, sure=False))) == {"Suitcase"}


def test_an_animal_needs_more_than_one_networks_word():
    assert found(thing("Giraffe", LONELY_ANIMAL - 0.01)) == {}
    assert set(found(thing("Giraffe", LONELY_ANIMAL))) == {"Giraffe"} == set(found(thing("Giraffe", 0.3, votes=2)))
    assert set(found(thing("Giraffe", 0.3), whole("Giraffe", 0.2, sure=False))) == {"Giraffe"}


def test_the_subject_adds_what_the_detectors_miss():
    assert set(found(thing("Dog", 0.95), whole("Pizza", LONE_THRESHOLD))) == {"Dog", "Pizza"}
    assert found(whole("Pizza", LONE_THRESHOLD))["Pizza"].boxes == ()
    assert found(whole("Pizza", LONE_THRESHOLD - 0.01)) == {}
    assert found(whole("Volcano", LONE_THRESHOLD)) == {}, "what no detector knows must be surer"
    assert set(found(whole("Volcano", LONE_NEW_THRESHOLD))) == {"Volcano"}


def test_the_subject_overrules_a_weak_detection_of_something_akin():
    (antelope,) = found(thing("Sheep", 0.4), whole("Antelope", 0.7)).values()
    assert (antelope.id, antelope.boxes) == ("Antelope", (HERE,))
    assert set(found(thing("Sheep", 0.9), whole("Antelope", 0.7))) == {"Sheep", "Antelope"}


def test_the_subject_names_a_thing_more_exactly():
    breed = next(name for name in EXACT_IDS if thing_of(name) == "Dog")
    dog = found(thing("Dog", 0.8), whole(breed, 0.9))["Dog"]
    assert (dog.named, dog.told, dog.boxes) == (breed, 0.9, (HERE,))
    assert set(found(thing("Bird", 0.8), whole("Goose", 0.9))) == {"Goose"}


def test_unsure_things_and_scenes_are_no_candidates():
    assert found(thing("Suitcase", 0.2), whole("beach", 0.4, sure=False)) == {}
    assert set(found(whole("beach", 0.8))) == {"beach"}


def test_families_are_open_images_own():
    assert {"Carnivore", "Mammal", "Animal"} <= ancestors("Dog")
    assert related("Animal", "Cat") and not related("Cat", "Dog") and akin("Cat", "Dog") and not akin("Cat", "Car")
    named = {label for label in OBJECT_IDS if ancestors(label)}
    assert len(named) > 500
    assert all(set(ancestors(label)) <= KNOWN_IDS for label in (*OBJECT_IDS, *THING_IDS))
    assert all(thing_of(label) in KNOWN_IDS and thing_of(label) not in EXACT_IDS for label in EXACT_IDS)


def test_imagenets_answers_mean_known_ids():
    assert len(subjects()) == 1000
    assert all(label is None or label in KNOWN_IDS for label, _ in subjects())
    assert all(name is None or thing_of(name) == label for label, name in subjects())
    assert len({label for label, _ in subjects() if label in THING_IDS}) >= 120


def test_in_a_room_a_building_is_a_mistake():
    desk = (thing("Office building", 0.8), thing("Computer monitor", 0.9, THERE), whole("office", 0.9))
    assert "Office building" not in found(*desk) and "Computer monitor" in found(*desk)
    assert "Office building" in found(thing("Office building", 0.8), whole("city", 0.9))
