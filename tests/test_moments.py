"""Moments: each rule is tried on a described picture, and none rests on one weak answer."""

import re

import pytest

from common.errors import UserError
from detection.labels import EMOTION_IDS, MOMENT_IDS, OBJECT_IDS, SCENE_IDS, kind_of
from detection.records import Detection
from pipeline import moments
from pipeline.facts import gather
from pipeline.moments import boxes_of, find_moments, holding, lint, rules

SIZE = (1000, 600)
# What is seen, in words: a thing with its score (0.6 unless told), `3 Person` for three beside each other, `A+B` for
# things on one spot, `~beach 0.4` for what the look at the whole picture thinks, `~beach!` where it is sure; a face is
# its feeling.
CASES = {
    "birthday": "Cake 0.5, Candle 0.4",
    "meal_together": "3 Person, Plate 0.6, Salad 0.5, ~meal_together 0.2",
    "meal": "2 Plate, Pasta 0.5",
    "drinks": "2 Person, 2 Wine glass",
    "group_photo": "5 happy, 5 Person",
    "group_together": "5 Person, ~group_together 0.2",
    "two_together": "2 Person, ~two_together 0.3",
    "couple": "2 happy, ~couple 0.4",
    "baby": "Infant bed 0.5, ~baby 0.4",
    "child": "Girl, ~child 0.45",
    "children": "2 Girl, ~children 0.35",
    "selfie": "Person+Mobile phone 0.6, Mirror 0.5, ~selfie 0.35",
    "portrait": "happy, ~portrait 0.4",
    "hug": "2 happy, 2 Person, ~hug 0.4",
    "kiss": "2 Person, ~kiss 0.4",
    "party": "3 Person, 2 Balloon",
    "wedding": "Suit 0.5, Dress 0.5, ~wedding 0.35",
    "graduation": "Person, ~graduation 0.65",
    "christmas": "Christmas tree 0.65, Person",
    "costume": "Person, Crown 0.4, ~costume 0.4",
    "parade": "5 Person, ~street 0.5, ~parade 0.4",
    "crowd": "9 Person, ~crowd 0.4",
    "cheering": "4 Person, ~stadium 0.5, ~cheering 0.4",
    "concert": "Person, Guitar 0.5, ~stage 0.5",
    "playing_music": "Person+Guitar 0.6",
    "singing": "Person, Microphone 0.6, ~singing 0.3",
    "dancing": "2 Person, ~dancing 0.55",
    "baseball": "Person, Baseball bat 0.5",
    "soccer": "2 Person, Football 0.5, ~soccer 0.2",
    "american_football": "2 Person, Football helmet 0.5, Sports uniform 0.5",
    "rugby": "2 Person, Rugby ball 0.5",
    "tennis": "Person, Tennis racket 0.5",
    "basketball": "Person, Ball 0.4, ~basketball 0.4",
    "volleyball_game": "Person, Volleyball (Ball) 0.5",
    "golf": "Person, Golf ball 0.5",
    "hockey": "2 Person, Helmet 0.4, ~ice_rink 0.5",
    "ice_skating": "Person, ~ice_rink 0.6",
    "roller_skating": "Person, Roller skates 0.5",
    "skiing": "Person, Ski 0.45",
    "snowboarding": "Person, Snowboard 0.5",
    "sledding": "Person, ~snow 0.6, ~sledding 0.4",
    "snow_play": "Girl, ~snow 0.7",
    "surfing": "Person+Surfboard 0.6",
    "swimming": "Person, Swim cap 0.5",
    "water_play": "Girl, Swimming pool 0.6",
    "diving": "Person, ~underwater 0.5, ~diving 0.25",
    "boating": "Person+Canoe 0.5",
    "skateboarding": "Person+Skateboard 0.55",
    "cycling": "Person+Bicycle 0.6, Bicycle helmet 0.4",
    "motorcycling": "Person+Motorcycle 0.6, Helmet 0.4",
    "motor_race": "Car 0.6, ~race_track 0.5",
    "horse_riding": "Person+Horse 0.7, Helmet 0.4",
    "running": "Person, Shorts 0.4, ~running 0.4",
    "jumping": "Person, Footwear 0.4, ~jumping 0.5",
    "climbing": "Person, Helmet 0.4, ~climbing 0.4",
    "hiking": "Person, Backpack 0.4, ~mountain 0.6",
    "walking": "Person+Dog 0.6, ~street 0.5",
    "martial_arts": "Person, Punching bag 0.5",
    "gymnastics": "Person, Balance beam 0.5",
    "exercise": "Person, Dumbbell 0.5",
    "frisbee_game": "Dog 0.6, Flying disc 0.5",
    "ball_play": "Girl, Ball 0.5",
    "kite_flying": "Person, Kite 0.6, ~kite_flying 0.1",
    "swing": "~child 0.5, ~swing 0.4",
    "slide": "~child 0.5, ~slide 0.4",
    "trampoline": "~child 0.5, ~trampoline 0.4",
    "playing": "Girl, ~playground 0.5",
    "bubbles": "Person, ~bubbles 0.5",
    "rides": "Person, ~amusement_park 0.6",
    "camping": "Person, Tent 0.6",
    "campfire": "Person, ~campfire 0.4, ~night_view 0.3",
    "picnic": "Person, Picnic basket 0.5",
    "barbecue": "Hamburger 0.4, ~barbecue 0.4",
    "fishing": "Person, ~lake 0.4, ~fishing 0.4",
    "beach_day": "Person, Umbrella 0.5, ~beach 0.5",
    "travel": "Suitcase 0.5, ~airport 0.6",
    "sightseeing": "2 Person, Castle 0.5",
    "flight": "Airplane 0.6, ~sky 0.6",
    "drive": "Person, ~car_interior 0.5",
    "train_ride": "Train 0.5, ~station 0.4, ~train_ride 0.4",
    "shopping": "Person, ~market 0.6",
    "museum_visit": "Person, Sculpture 0.5, ~gallery 0.7",
    "zoo_visit": "Person, ~zoo 0.5",
    "feeding_animals": "Person, Goat 0.5, ~feeding_animals 0.4",
    "with_pet": "Person+Dog 0.6",
    "dog_play": "2 Dog, ~dog_play 0.4",
    "dog_run": "Dog 0.6, ~field 0.5, ~dog_run 0.6",
    "dog_swim": "Dog 0.6, Swimming pool 0.5",
    "dog_fetch": "Dog 0.7, Ball 0.5, ~dog_fetch 0.15",
    "pet_nap": "Cat 0.7, Bed 0.5, ~pet_nap 0.2",
    "animal_close_up": "Lion 0.7, ~animal_close_up 0.6",
    "herd": "4 Sheep",
    "bird_watching": "4 Bird, ~sky 0.5",
    "flower_viewing": "Person, ~blossom 0.5",
    "cooking": "Person, Frying pan 0.4, ~kitchen 0.6",
    "coffee_time": "Coffee cup 0.6, Book 0.5",
    "dessert_time": "Cake 0.6, Plate 0.5",
    "ice_cream": "Person, Ice cream 0.6",
    "reading": "Person+Book 0.6, ~reading 0.2",
    "working": "Person+Laptop 0.6",
    "manual_work": "Person, Hammer 0.4, ~manual_work 0.4",
    "gaming": "2 Person, Remote control 0.4, ~living_room 0.5",
    "drawing": "Person, Pen 0.4, ~drawing 0.4",
    "taking_photos": "Camera 0.6, Tripod 0.5",
    "phone_call": "Person+Mobile phone 0.6, neutral, ~phone_call 0.2",
    "sleeping": "Person, Pillow 0.5, ~sleeping 0.4",
    "resting": "Person, Bench 0.5, ~resting 0.3",
    "bath_time": "Dog 0.6, Bathtub 0.5",
    "chatting": "2 Person, ~chatting 0.4",
    "dressing_up": "Suit 0.6, Tie 0.6, neutral",
    "street_performance": "Person+Guitar 0.6, ~street 0.5",
    "show": "2 Person, ~stage 0.6",
    "ceremony": "3 Person, Suit 0.4, ~ceremony 0.4",
    "protest": "4 Person, Poster 0.4, ~protest 0.4",
    "medical_care": "Person, Stethoscope 0.5",
}


def seen(text: str) -> list[Detection]:
    """The detections that a description stands for, each thing on a spot of its own, from left to right."""
    found, place = [], 0
    for part in text.split(", "):
        if part.startswith("~"):
            name, sure, score = re.fullmatch(r"~(\w+)(!?)(?: ([\d.]+))?", part).groups()
            found.append(Detection(name, kind_of(name), float(score or 0.9), None, sure=bool(sure)))
            continue
        count, names, score = re.fullmatch(r"(?:(\d+) )?(.+?)(?: ([\d.]+))?", part).groups()
        for _ in range(int(count or 1)):
            left = place * 90.0
            place += 1
            for name in names.split("+"):
                kind = "emotion" if name in EMOTION_IDS else "object"
                found.append(Detection(name, kind, float(score or 0.6), (left, 100.0, left + 80, 500.0)))
    return found


def moments_of(text: str) -> list[str]:
    return [d.label for d in find_moments(gather(seen(text), SIZE))]


@pytest.mark.parametrize("moment", MOMENT_IDS)
def test_each_rule_by_a_described_picture(moment):
    assert moment in [d.label for d in holding(gather(seen(CASES[moment]), SIZE))]


@pytest.mark.parametrize("moment", MOMENT_IDS)
def test_each_moment_that_the_whole_picture_is_sure_of(moment):
    needs = {"animal_close_up": ", Lion 0.7", "skiing": ", ~snow 0.6", "snowboarding": ", ~snow 0.6"}
    needs |= dict.fromkeys(
        ("flower_viewing", "ball_play", "running", "walking", "with_pet", "motorcycling"), ", Person"
    )
    needs |= {"children": ", Girl", "group_photo": ", 3 Person", "tennis": ", Racket 0.3"}
    assert moment in moments_of(f"~{moment}! 0.9{needs.get(moment, '')}")


def test_there_are_at_least_sixty_rules_and_all_have_more_than_the_look_at_the_whole_picture():
    assert len(rules()) >= 60
    assert all(len(rules()[moment]) >= 2 for moment in MOMENT_IDS if moment != "animal_close_up")


def test_of_moments_that_look_alike_the_surest_stays():
    assert moments_of("~surfing! 0.9, ~sledding! 0.8") == ["surfing"]
    assert set(moments_of("~surfing! 0.9, ~hug! 0.8")) == {"surfing", "hug"}


@pytest.mark.parametrize("label", [*OBJECT_IDS, *(f"~{i}" for i in (*SCENE_IDS, *MOMENT_IDS))])
def test_one_weak_answer_makes_no_moment(label):
    assert moments_of(f"{label} 0.69") == []


def test_a_moment_has_the_boxes_it_was_told_by():
    facts = gather(seen("Cake 0.5, Candle 0.4, Chair 0.9"), SIZE)
    assert boxes_of("birthday", facts) == ((0.0, 100.0, 80.0, 500.0), (90.0, 100.0, 170.0, 500.0))


def test_kinds_of_a_thing_count_as_the_thing():
    assert "playing_music" in moments_of("Person+Violin 0.6")


def test_what_must_not_be_there_holds_a_moment_back():
    assert "working" in moments_of("Computer keyboard 0.6, Computer monitor 0.6")
    assert "working" not in moments_of("Computer keyboard 0.6, Computer monitor 0.6, Cat 0.6")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Spaceship 0.5, people 1", "is no id"),
        ("Cake, people 1", "needs a number"),
        ("Cake 0.4", "one weak answer alone"),
        ("itself 0.4", "one weak answer alone"),
        ("people 3", "one weak answer alone"),
    ],
)
def test_lint_finds_what_is_wrong(line, message):
    raw = {moment: ["itself"] for moment in MOMENT_IDS} | {"birthday": [line]}
    assert any(message in problem for problem in lint(raw)[1])


def test_lint_finds_unknown_names_among_those_alike():
    raw = {moment: ["itself"] for moment in MOMENT_IDS} | {"one_of": [["skiing", "moon_landing"]]}
    assert lint(raw)[1] == ["one_of: 'moon_landing' is no moment or scene"]


def test_lint_finds_moments_without_a_rule_and_rules_without_a_moment():
    problems = lint({"birthday": ["itself"], "moon_landing": ["itself"]})[1]
    assert "moon_landing: is no moment or scene" in problems and "baseball: has no rule" in problems


def test_the_compiled_rules_are_those_of_the_yaml(tmp_path, monkeypatch):
    monkeypatch.setattr(moments, "COMPILED", tmp_path / "moments.json")
    before = rules()
    moments.compile_rules()
    rules.cache_clear()
    assert rules() == before
    rules.cache_clear()


def test_a_damaged_rule_file_is_one_line(tmp_path, monkeypatch):
    broken = tmp_path / "moments.yaml"
    broken.write_text("birthday: [", "utf-8")
    monkeypatch.setattr(moments, "SOURCE", broken)
    with pytest.raises(UserError, match="cannot read moments.yaml"):
        moments.compile_rules()


def test_lint_finds_unknown_names_among_what_is_hidden_or_said_after():
    raw = {moment: ["itself"] for moment in MOMENT_IDS} | {"hides": {"Building": ["moon"], "Spaceship": ["kitchen"]}}
    assert lint(raw)[1] == ["hides: 'moon' is no scene", "hides: 'Spaceship' is no thing"]
    raw = {moment: ["itself"] for moment in MOMENT_IDS} | {"after": {"Animal": ["moon"], "Spaceship": ["herd"]}}
    assert lint(raw)[1] == ["after: 'moon' is no moment or scene", "after: 'Spaceship' is no thing or moment"]
