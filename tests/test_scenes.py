"""The look at the whole picture: what it learns from, how far it is trusted, and that a trained one runs."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from configs.load import load_settings
from detection.families import thing_of
from detection.labels import KNOWN_IDS
from detection.photos import upright
from detection.scenes import SIDE, SceneDetector, as_input, heads, targets
from detection.scenes.annotations import FILE, Annotation, problems, read_annotations
from detection.scenes.evaluate import compare
from detection.scenes.train import SceneSettings, gather, scene_pictures, train
from tests.conftest import PHOTOS, ROOT
from tests.helpers import run_module


@pytest.fixture(scope="module")
def detector():
    return SceneDetector()


def annotation(**changes) -> Annotation:
    row = {
        "file": "photos/a.jpg",
        "split": "train",
        "subject": "dog",
        "scenes": ("beach",),
        "light": "day",
        "moments": ("dog_run",),
        "people": {"count": 0, "kinds": []},
        "mention": ("dog_run", "Dog"),
        "ko": "강아지가 해변을 달려요 🐶",
        "en": "A dog runs along the beach 🐶",
    }
    return Annotation(**{**row, **changes})


# ---- use


def test_a_picture_is_told_of_without_boxes(detector):
    found = detector.detect(Image.open(PHOTOS / "coffee.jpg"))
    assert found and all(d.xyxy is None and 0 <= d.score <= 1 and d.label in KNOWN_IDS for d in found)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert any(d.label in ("Coffee", "Coffee cup") and d.kind == "object" for d in found)


def test_orientation_and_mode_do_not_matter(detector):
    image = upright(Image.open(PHOTOS / "cat.jpg"))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    told = lambda picture: {thing_of(d.label): round(d.score, 2) for d in detector.detect(picture)}
    assert told(image) == told(image.convert("RGBA")) == told(turned)
    assert told(image)["Cat"] > 0.9


def test_the_whole_picture_is_read_squeezed_into_a_square():
    x = as_input(Image.new("RGB", (640, 200), (255, 0, 0)))
    assert x.shape == (1, 3, SIDE, SIDE) and x.dtype == np.float32
    assert np.allclose(x[0, 0], 1, atol=1e-4) and np.allclose(x[0, 1], -0.498 / 0.502, atol=1e-4)


def test_weights_of_something_else_are_refused(tmp_path):
    from detection.objects import POCKET

    with pytest.raises(UserError, match="was not written by detection.scenes.train"):
        SceneDetector(str(POCKET))
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match="damaged"):
        SceneDetector(str(tmp_path / "broken.onnx"))


# ---- annotations


def test_the_annotations_have_no_problem():
    rows = read_annotations()
    assert problems(rows) == []
    assert len(rows) >= 1500 and len(read_annotations("test")) >= 300
    assert run_module("detection.scenes.annotations", "check").status == 0


def test_no_annotated_photo_is_one_that_is_checked(shared):
    held = set()
    for name in ("photos_holdout", "no_people", "face_boxes_holdout"):
        held |= {line.split("/")[-1] for line in (shared / f"data/splits/{name}.txt").read_text("utf-8").split()}
    assert not {row.file.split("/")[-1] for row in read_annotations()} & held


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": ("moon",)}, "scene 'moon' is unknown"),
        ({"moments": ("beach",)}, "moment 'beach' is unknown"),
        ({"mention": ("Spaceship",)}, "mention 'Spaceship' is unknown"),
        ({"mention": ()}, "0 mentions"),
        ({"light": "blue"}, "light 'blue'"),
        ({"split": "valid"}, "split 'valid'"),
        ({"people": {"count": 1, "kinds": ["giant"]}}, "people"),
        ({"ko": "개"}, "ko comment of 1 characters"),
    ],
)
def test_lint_finds_what_is_wrong_with_an_annotation(changes, message):
    assert any(message in problem for problem in problems([annotation(**changes)]))


def test_lint_finds_doubles():
    assert any("annotated twice" in p for p in problems([annotation(), annotation()]))
    assert any("stands elsewhere" in p for p in problems([annotation(), annotation(file="photos/b.jpg")]))


def test_each_line_is_one_row():
    lines = FILE.read_text("utf-8").split("\n")
    assert lines[-1] == "" and all(isinstance(json.loads(line), dict) for line in lines[:-1])


# ---- targets


def test_two_captions_of_five_make_a_tag_and_silence_is_weak():
    told = ["a man surfing a wave .", "a surfer rides .", "a dog .", "a man .", "water ."]
    y, w = targets.from_captions(told)
    place = targets.TAGS.index
    assert y[place("surfing")] == 1 and w[place("surfing")] == targets.SAID
    assert y[place("snow")] == 0 and w[place("snow")] == targets.UNSAID_IN_CAPTIONS
    assert targets.from_captions(["a man surfing .", *told[2:]])[1][place("surfing")] == 0, "one caption: not known"


def test_annotators_and_captions_are_merged():
    told = targets.from_captions(["snow on a mountain ."] * 5)
    y, w = targets.merged(targets.from_annotation(annotation()), told)
    place = targets.TAGS.index
    assert y[place("beach")] == 1 and y[place("snow")] == 1 and y[place("kitchen")] == 0
    assert w[place("snow")] < targets.SAID, "the annotator did not list it"


def test_a_folder_tells_its_scene_and_says_nothing_of_what_it_may_show():
    y, w = targets.from_folder("kitchen")
    place = targets.TAGS.index
    assert y[place("kitchen")] == 1 and y.sum() == 1
    assert w[place("dining_room")] == 0 and w[place("desert")] > 0 and w[place("surfing")] == 0


# ---- heads


def test_unknown_targets_teach_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8)).astype(np.float32)
    y = np.stack([x[:, 0] > 0, x[:, 0] > 0], 1).astype(float)
    w = np.ones_like(y)
    w[:100, 1], y[:100, 1] = 0, 1 - y[:100, 1]  # half of the second tag's targets are wrong, and not known
    z = heads.fit_head(x, y, w, 0.001).logits(x)
    right = lambda column: ((z[:, column] > 0) == (x[:, 0] > 0)).mean()
    assert right(0) > 0.95 and right(1) > 0.9


def test_a_threshold_is_where_answers_are_right_often_enough():
    z = np.linspace(-4, 4, 400)
    y = (np.random.default_rng(0).random(400) < 1 / (1 + np.exp(-2 * z))).astype(float)
    told = heads.trust(z, y, np.ones(400), 0.8)
    p = 1 / (1 + np.exp(-(told.slope * z + told.offset)))
    named = p >= told.threshold
    assert y[named].mean() >= 0.8 and told.recall == pytest.approx(y[named].sum() / y.sum(), abs=0.02)
    assert told.slope == pytest.approx(2, abs=0.6)


def test_a_tag_that_hardly_any_photo_has_is_never_named():
    y = np.zeros(100)
    y[:3] = 1
    assert heads.trust(y * 9, y, np.ones(100), 0.8).threshold > 1


# ---- evaluation


def test_precision_and_recall_are_counted_by_tag():
    told = compare({"photos/a.jpg": {"beach", "snow"}}, [annotation()]).figures()
    assert told["tags"]["beach"] == {"right": 1, "precision": 1.0, "recall": 1.0}
    assert told["tags"]["snow"]["precision"] == 0.0 and told["tags"]["dog_run"]["recall"] == 0.0
    assert told["all"] == {"right": 1, "precision": 0.5, "recall": 0.5}


# ---- training


def noisy(scene, rng):
    base = np.array([235, 240, 250] if scene == "snow" else [30, 110, 40])
    return Image.fromarray(np.clip(base + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8))


def drawn(folder, rng):
    """Eighty small pictures, white (snow) or green (forest), half with captions and half in scene folders."""
    (folder / "walks/images").mkdir(parents=True)
    (folder / "scenes/images").mkdir(parents=True)
    captions, scenes = [], []
    for number in range(80):
        scene = ("snow", "forest")[number % 2]
        name = f"{scene}_{number}.jpg"
        noisy(scene, rng).save(folder / ("walks" if number < 40 else "scenes") / "images" / name)
        words = {"snow": "snow covers the ground", "forest": "a forest of trees"}[scene]
        if number < 40:
            captions += [[name, words]] * 5
        else:
            scenes.append([name, scene])
    for file, header, rows in (
        ("walks/captions.csv", ["image", "caption"], captions),
        ("scenes/scenes.csv", ["file", "scene"], scenes),
    ):
        with (folder / file).open("w", newline="") as out:
            csv.writer(out).writerows([header, *rows])
    (folder / "held.txt").write_text("walks/images/snow_0.jpg\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    drawn(folder / "data", np.random.default_rng(0))
    values = {
        "data": folder / "data",
        "run": folder / "run",
        "photos": ["walks/images"],
        "captions": ["walks/captions.csv"],
        "scenes": "scenes/scenes.csv",
        "held_out": ["held.txt"],
        "export": folder / "out.onnx",
    }
    return SceneSettings(**values)


def test_what_is_held_out_or_kept_for_measuring_is_not_learned_from(run):
    known = gather(run)
    names = {p.name for p in known.photos}
    assert "snow_0.jpg" not in names and len(known.photos) == 39 + 36
    assert len(scene_pictures(run, kept=True)) == 4
    assert not {p.name for p, _ in scene_pictures(run, kept=True)} & names


def test_training_writes_weights_that_run(run):
    train(run)
    detector, rng = SceneDetector(str(run.export)), np.random.default_rng(1)
    top = lambda image: max((d for d in detector.detect(image) if d.kind == "scene"), key=lambda d: d.score).label
    for scene in ("snow", "forest") * 4:
        assert top(noisy(scene, rng)) == scene
    settings = load_settings(run.run / "settings.yaml", SceneSettings)
    assert settings == run
    kept = json.loads(detector.session.get_modelmeta().custom_metadata_map["settings"])
    assert kept["decay"] == run.decay and "data" not in kept


def test_a_second_run_reads_what_the_first_looked_at(run, monkeypatch):
    from detection.scenes import trunk

    monkeypatch.setattr(trunk, "look", lambda *_: pytest.fail("looked again"))
    assert train(run) == run.export


def test_the_trunk_can_learn_too_and_goes_on_where_it_was(run, tmp_path):
    changed = run.model_copy(update={"run": tmp_path / "run", "tune_epochs": 1, "export": tmp_path / "tuned.onnx"})
    train(changed)
    assert SceneDetector(str(changed.export)).detect(Image.new("RGB", (80, 60), (236, 240, 250)))
    before = (changed.run / "tuned.pt").stat().st_mtime_ns
    train(changed)
    assert (changed.run / "tuned.pt").stat().st_mtime_ns == before


def test_the_shipped_config_is_valid():
    settings = load_settings(ROOT / "configs/scenes/pocket.yaml", SceneSettings)
    assert "splits/photos_holdout.txt" in settings.held_out


def test_a_missing_data_folder_is_one_line(tmp_path):
    done = run_module(
        "detection.scenes.train", "--config", "configs/scenes/pocket.yaml", f"data={tmp_path}", f"run={tmp_path}/run"
    )
    assert done.refuses("does not exist")
