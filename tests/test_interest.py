"""What is worth a word: the model, what it learns from, and that what is stored is what was fitted."""

import json

import numpy as np
import pytest

from detection.records import Detection
from detection.scenes.annotations import Annotation
from pipeline import fit_interest
from pipeline.candidates import Candidate, find_candidates
from pipeline.facts import gather
from pipeline.fit_interest import InterestSettings, fit_priors, untold, worth
from pipeline.interest import FEATURES, describe, load_interest, prior

SIZE = (640, 480)
BOX = (100.0, 100.0, 400.0, 400.0)


def candidate(label="Dog", score=0.9, **more) -> Candidate:
    return Candidate(label, label, more.pop("kind", "object"), score, boxes=more.pop("boxes", (BOX,)), **more)


def annotation(*mention, scenes=(), moments=()) -> Annotation:
    return Annotation("a.jpg", "train", "dog", scenes, "day", moments, {"count": 0, "kinds": []}, mention, "", "")


def of(*candidates) -> np.ndarray:
    return load_interest().of(list(candidates), gather([], SIZE), SIZE)


def test_a_probability_for_each_candidate():
    worths = of(candidate("Dog"), candidate("Chair"), candidate("beach", kind="scene", boxes=()))
    assert worths.shape == (3,) and ((worths > 0) & (worths < 1)).all()
    assert of().shape == (0,)


@pytest.mark.parametrize("label", ["Dog", "Cake", "Chair", "Airplane"])
def test_surer_and_agreed_on_is_never_less_worth_a_word(label):
    assert of(candidate(label, 0.5))[0] <= of(candidate(label, 0.9))[0]
    assert of(candidate(label, votes=1))[0] <= of(candidate(label, votes=2))[0]
    assert of(candidate(label, told=0.0))[0] <= of(candidate(label, told=0.8))[0]


def test_what_is_kept_is_likely_and_not_far_behind_the_best():
    model = load_interest()
    assert list(model.kept(np.array([0.05, 0.9, 0.5, 0.1]))) == [1, 2]
    assert list(model.kept(np.array([0.2, 0.15]))) == [0, 1]
    assert list(model.kept(np.array([]))) == []


def test_an_unknown_id_has_its_familys_prior():
    priors = {"ids": {"Dog": 0.9}, "families": {"Animal": 0.7}, "kinds": {"object": 0.3, "scene": 0.4}}
    assert prior(candidate("Dog"), priors) == 0.9
    assert prior(candidate("Koala"), priors) == 0.7
    assert prior(candidate("Spaceship"), priors) == 0.3


def test_a_mistake_made_often_does_not_make_an_id_worthless():
    sure, weak = [candidate("Giraffe", 0.95)] * 4, [candidate("Giraffe", 0.2)] * 12
    priors = fit_priors([*sure, *weak], np.array([1.0] * 4 + [0.0] * 12))
    assert priors["ids"]["Giraffe"] > 0.6


def test_worth_is_what_people_mention():
    told = ["a dog runs .", "a brown dog .", "an animal .", "a dog .", "grass ."]
    assert worth(candidate("Dog"), None, told) == pytest.approx(0.6)
    assert worth(candidate("Chair"), None, told) == 0
    assert worth(candidate("Dog"), annotation("dog_run", "Dog"), None) == pytest.approx(0.9)
    assert worth(candidate("Cat"), annotation("Animal"), None) == 1.0, "a kind of what was mentioned"
    assert worth(candidate("Dog"), annotation("dog_run"), None) == pytest.approx(0.7), "a dog that runs"
    beach = candidate("beach", kind="scene", boxes=())
    assert worth(beach, annotation("Dog", scenes=("beach",)), None) == pytest.approx(0.3)


def test_photos_chosen_for_a_class_hide_the_look_that_knows_it():
    (dog,) = untold([candidate("Dog", told=0.9, votes=3), candidate("Tench", boxes=(), told=0.9)])
    assert (dog.told, dog.votes) == (0.0, 2)


def test_features_are_as_named():
    seen = [Detection("Dog", "object", 0.9, BOX, 2), Detection("Person", "object", 0.9, (90.0, 90.0, 420.0, 470.0))]
    facts = gather(seen, SIZE)
    x = describe([c for c in find_candidates(seen, facts, SIZE) if c.id == "Dog"], [0.5], facts, SIZE)
    row = dict(zip(FEATURES, x[0], strict=True))
    assert row["prior"] == 0.5 and row["score"] == 0.9 and row["votes"] == 2 and row["people"] == 1
    assert row["with_person"] == 1 and row["largest"] == pytest.approx(300 * 300 / (640 * 480))


@pytest.fixture(scope="module")
def fitted():
    """A model on candidates whose worth is their score where the class is Dog, and nothing else."""
    rng = np.random.default_rng(0)
    x = np.zeros((600, len(FEATURES)))
    x[:, FEATURES.index("prior")] = rng.choice([0.1, 0.9], 600)
    x[:, FEATURES.index("score")] = rng.uniform(0.2, 1, 600)
    worths = np.where(x[:, FEATURES.index("prior")] > 0.5, x[:, FEATURES.index("score")], 0.0)
    settings = InterestSettings(run="r", photos=[], export="e", trees=30)
    return fit_interest.fit_trees(x, worths, np.ones(600), settings), x, worths


def test_the_stored_trees_say_what_the_fitted_ones_said(fitted):
    model, x, worths = fitted
    trees = {name: np.array(values) for name, values in fit_interest.as_arrays(model).items()}
    start = float(model._baseline_prediction.ravel()[0])
    stored = fit_interest.Interest({}, **trees, start=start, least=0.1, beside=0.3).log_odds(x)
    assert np.allclose(stored, model.decision_function(x), atol=0.01)
    assert np.corrcoef(1 / (1 + np.exp(-stored)), worths)[0, 1] > 0.95


def test_the_shipped_model_has_its_figures_and_what_matters():
    raw = json.loads(fit_interest.Path(fit_interest.__file__).with_name("interest.json").read_text("utf-8"))
    assert raw["features"] == list(FEATURES) and set(raw["importance"]) == set(FEATURES)
    assert raw["figures"]["photos"] > 5000 and 0 < raw["figures"]["unmentioned_of_said"] < 0.3
    assert max(raw["importance"], key=raw["importance"].get) in ("prior", "told", "score")
