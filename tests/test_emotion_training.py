"""Faces, scenes, the crop classifier and the detector's training, on tiny data that the tests draw themselves."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from configs.load import load_settings
from detection.distillation import view
from detection.emotion import POCKET_FEELINGS, classifier, dataset, verify
from detection.emotion.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)
from detection.emotion.distill import distill, scene_batch
from detection.emotion.faces import load_faces
from detection.emotion.feelings import FeelingClassifier, SecondLook, face_crop
from detection.emotion.scenes import LARGEST, SMALLEST, SceneComposer
from detection.emotion.train import EmotionSettings, export, new_detector, train_detector, write_dataset
from detection.emotion.yolo_coco import DatasetWriter, FaceBox, Item
from detection.labels import EMOTION_IDS
from detection.runner import OnnxYolo
from tests.conftest import ROOT
from tests.helpers import constant_detector, run_module, toy_faces


def test_votes_become_soft_targets(tmp_path):
    names = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "nf"]
    votes = np.array([[0, 0, 3, 0, 1, 0, 4, 0, 2, 0], [0, 0, 0, 0, 0, 5, 0, 0, 5, 0]])
    np.savez(tmp_path / "f.npz", images=np.zeros((2, 48, 48), np.uint8), votes=votes, vote_names=names)
    faces = load_faces(tmp_path / "f.npz")
    assert len(faces) == 1  # the second has no vote for any of our five
    assert faces.targets[0].tolist() == pytest.approx([1 / 8, 0, 7 / 8, 0, 0])  # surprise and fear are both panic
    np.savez(tmp_path / "g.npz", images=np.zeros((1, 48, 48), np.uint8), votes=[[1]], vote_names=["boredom"])
    with pytest.raises(UserError, match="boredom"):
        load_faces(tmp_path / "g.npz")
    with pytest.raises(UserError, match="does not exist"):
        load_faces(tmp_path / "none.npz")


def test_the_face_split_is_seeded_and_disjoint():
    faces = toy_faces(100)
    train, val = faces.split(0.1, seed=3)
    assert (len(train), len(val)) == (90, 10)
    assert np.array_equal(faces.split(0.1, seed=3)[1].images, val.images)
    assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in val.images}


def test_scenes_are_deterministic_and_boxes_hold_faces():
    background = [Image.new("RGB", (400, 300), "green")]
    scenes = [SceneComposer(toy_faces(50), background, 416, seed=4) for _ in range(2)]
    sides = []
    for _ in range(12):
        (a, truth), (b, again) = (s.compose() for s in scenes)
        assert truth == again and a.tobytes() == b.tobytes()
        for label, (x1, y1, x2, y2) in truth:
            assert 0 <= label < 5 and 0 <= x1 < x2 <= a.width and 0 <= y1 < y2 <= a.height
            sides.append(x2 - x1)
    assert len(sides) > 20 and min(sides) >= SMALLEST and max(sides) <= LARGEST


def test_scenes_hold_covered_faces_and_things_that_are_no_faces():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    composer = SceneComposer(toy_faces(20), [photo], 160, seed=0)
    canvas = Image.new("RGB", (200, 150))
    composer._cover(canvas, (40, 30, 100, 90))
    box = canvas.getbbox()
    assert box[0] in (40, 100 - (box[2] - box[0])) and 0.15 <= (box[2] - box[0]) / 60 <= 0.34  # from one side
    canvas, taken = Image.new("RGB", (200, 150)), [(0, 0, 100, 75)]
    composer._distract(canvas, taken)
    assert len(taken) > 1 and canvas.getbbox() and canvas.crop((0, 0, 97, 72)).getbbox() is None  # beside the face


def conv_trunk():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 256, 12, 12), torch.nn.BatchNorm2d(256), torch.nn.ReLU())


def test_the_crop_classifier_learns_resumes_and_is_exported(tmp_path):
    train, val = toy_faces(300), toy_faces(60, seed=1)
    lines = []
    run = lambda epochs: classifier.train_classifier(
        train, val, conv_trunk(), epochs, tmp_path / "c.pt", lr=5e-3, batch=12, log=lines.append
    )
    run(2)
    before = len(lines)
    model = run(8)
    assert len(lines) - before == 6, "an interrupted training goes on after its last epoch"
    answers = classifier.logits(model, val.images)
    assert (answers.argmax(1) == val.targets.argmax(1)).mean() > 0.5  # chance is 0.2
    temperature = classifier.temperature(model, val)
    plain = SecondLook(1.0, np.zeros(2 * 256 + 1), 0.0, 0.3)
    file = classifier.export_classifier(model, temperature, plain, tmp_path / "c.onnx", {"settings": "{}"})
    feelings = FeelingClassifier(file)
    photo = Image.new("RGB", (100, 60))
    photo.paste(Image.fromarray(val.images[0]), (10, 6))
    p, is_face = feelings.read(photo, np.array([[10, 6, 58, 54]]), np.array([0.7]))
    assert is_face == pytest.approx([0.7], abs=1e-3) and feelings.second_look.confidence == 0.3  # the finder's score
    assert np.allclose(p, softmax(answers[:1] / temperature), atol=0.02) and p.sum() == pytest.approx(1, abs=1e-5)
    assert [part.shape for part in feelings.read(photo, np.zeros((0, 4)), np.zeros(0))] == [(0, 5), (0,)]
    assert feelings.session.get_modelmeta().custom_metadata_map["settings"] == "{}"
    verify.store(SecondLook(1.0, np.zeros(2 * 256 + 1), -20.0, 0.4), file)
    p_after, is_face = FeelingClassifier(file).read(photo, np.array([[10, 6, 58, 54]]), np.array([0.7]))
    assert is_face < 1e-6 and np.allclose(p_after, p), "another second look changes no feeling"


def test_the_second_look_sees_the_face_and_what_is_around_it(tmp_path):
    model = classifier.CropClassifier(conv_trunk())
    plain = SecondLook(1.0, np.zeros(2 * 256 + 1), 0.0)
    feelings = FeelingClassifier(classifier.export_classifier(model, 1.0, plain, tmp_path / "c.onnx", {}))
    photo, box = Image.new("RGB", (200, 200), "grey"), np.array([[80.0, 80, 120, 120]])
    before = feelings.look(photo, box)[1]
    photo.paste("white", (60, 125, 140, 160))  # shoulders: below the face, within the wider square
    after = feelings.look(photo, box)[1]
    assert before.shape == (1, 513) and before[0, -1] == pytest.approx(np.log(40 / 200))
    assert np.allclose(before[0, :256], after[0, :256]) and not np.allclose(before[0, 256:512], after[0, 256:512])


def test_mixing_keeps_crops_and_targets_together():
    faces = toy_faces(64)
    x, targets = torch.from_numpy(faces.images[:, None]).float() / 255, torch.from_numpy(faces.targets)
    draws = [classifier.mix(x, targets, torch.Generator().manual_seed(seed)) for seed in range(8)]
    changed = [not torch.equal(mixed, x) for mixed, _ in draws]
    assert any(changed) and not all(changed)
    for mixed, blend in draws:
        assert torch.allclose(blend.sum(1), torch.ones(64)) and (blend.max(1).values >= 0.7 - 1e-6).all()
        assert torch.equal(blend.argmax(1), targets.argmax(1)) and mixed.shape == x.shape


def test_a_face_at_the_edge_is_padded_and_turned_grey():
    picture = Image.new("RGB", (100, 80), (255, 0, 0))
    crop = face_crop(picture, (-20, 60, 30, 100))
    assert crop.shape == (48, 48) and crop.dtype == np.uint8 and np.ptp(crop) == 0  # the edge goes on, no black bars
    assert face_crop(picture, (50, 50, 50.2, 50.2)).shape == (48, 48)


def test_temperature_makes_scores_honest():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 4000)
    honest = rng.normal(0, 1, (4000, 5)) + 2.0 * np.eye(5)[truth]
    honest = honest * 2.0  # what a Gaussian of this spread says about itself
    loud = honest * 3
    temperature = fit_temperature(loud, truth)
    assert temperature == pytest.approx(3 * fit_temperature(honest, truth), rel=0.05)
    error = lambda p: expected_calibration_error(p.max(1), p.argmax(1) == truth)
    assert error(softmax(loud / temperature)) < 0.03 < error(softmax(loud))
    assert reliability(np.array([0.95, 0.95, 1.0]), np.array([True, False, True])) == [
        (pytest.approx(2.9 / 3), pytest.approx(2 / 3), 3)
    ]
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def looks(count=2000, seed=0):
    """Detections whose first trunk feature tells faces from clocks; the finder's score hardly does."""
    rng = np.random.default_rng(seed)
    right = rng.random(count) < 0.5
    read = rng.normal(0, 1, (count, 256))
    read[:, 0] += np.where(right, 2.0, -2.0)
    scores = np.clip(rng.normal(np.where(right, 0.5, 0.4), 0.2), 0.05, 0.95)
    return verify.Looks(scores, read, right, rng.integers(0, 5, count), ~right, 1000)


@pytest.mark.slow
def test_a_second_look_tells_faces_from_what_looks_like_them():
    seen, unseen = looks(), looks(seed=1)
    verifier = verify.fit(seen, most_false=0.1)
    p = verifier.probabilities(unseen.scores, unseen.evidence)
    assert ((p > 0.5) == unseen.right).mean() > 0.9 > ((unseen.scores > 0.45) == unseen.right).mean()
    left = (p[unseen.on_empty] >= verifier.confidence).sum() / unseen.empty
    assert left < 0.2, "about a tenth of a false face a picture was allowed"
    assert verify.fit(seen, most_false=5.0).confidence < verifier.confidence  # allowed more, it shows more


def test_the_second_look_learns_from_the_finders_detections(tmp_path):
    """Pictures where the finder sees one face: a right one, a wrong one, one on a person, of which nothing is known."""
    writer = DatasetWriter(tmp_path / "data", ["face"], {})
    for name, faces in (("a", (FaceBox("face", (10.0, 10.0, 40.0, 40.0)),)), ("b", ())):
        Image.new("RGB", (64, 64)).save(writer.picture_path("train", f"{name}.png"))
        writer.add(name, Item("train", f"{name}.png", 64, 64, faces))
    finder = OnnxYolo(constant_detector(tmp_path / "d.onnx", np.array([[[10, 10, 40, 40, 0.6, 0]]]), ["face"]))
    pictures = list(verify.written_pictures(tmp_path / "data", writer.items.values()))
    assert [len(p.faces) for p in pictures] == [1, 0]
    person = verify.Picture("c", pictures[0].image, np.zeros((0, 4)), np.array([[0.0, 0, 60, 64]]))
    found = verify.collect(finder, FeelingClassifier(POCKET_FEELINGS), [*pictures, person])
    assert found.right.tolist() == [True, False] and found.on_empty.tolist() == [False, True] and found.empty == 1
    assert found.evidence.shape == (2, 513) and found.scores == pytest.approx([0.6, 0.6])


def test_the_second_look_is_fitted_anew_by_its_command(tmp_path):
    """A tiny data folder: photos without faces, one with drawn ones, crops for scenes; a copy of the classifier."""
    real_photos(tmp_path)
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(1).integers(0, 255, (2, 90, 120, 3), np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    votes = np.eye(2)[np.arange(40) % 2] * 10
    np.savez(tmp_path / "faces.npz", images=toy_faces(40).images, votes=votes, vote_names=["happiness", "sadness"])
    file = shutil.copy(POCKET_FEELINGS, tmp_path / "c.onnx")
    settings = {"data": tmp_path, "run": tmp_path / "run", "photos": ["photos"], "faces": "faces.npz", "scenes": 12}
    settings |= {"face_boxes": "people/boxes.json", "held_out": ["held.txt"], "export": file}
    verify.train(verify.SecondLookSettings(**settings))
    before, after = FeelingClassifier(POCKET_FEELINGS).second_look, FeelingClassifier(file).second_look
    assert not np.allclose(before.weights, after.weights) and after.weights[256:].any() and 0 < after.confidence < 1
    assert (tmp_path / "run" / "settings.yaml").exists()


def real_photos(tmp_path):
    """Two photos of three faces each, one of them held out: bare, masked, bare."""
    folder = tmp_path / "people" / "images"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (100, 300, 3), np.uint8)
    for name in ("a.png", "held.png"):
        Image.fromarray(noise).save(folder / name)
    boxes = [
        {"bbox_xywh": [x, 10, 60, 60], "label": label}
        for x, label in ((10, "without_mask"), (100, "with_mask"), (200, "without_mask"))
    ]
    rows = [{"file_name": n, "width": 300, "height": 100, "boxes": boxes} for n in ("a.png", "held.png")]
    (tmp_path / "people" / "boxes.json").write_text(json.dumps(rows))
    (tmp_path / "held.txt").write_text("held.png\n")
    return dataset.known_faces(tmp_path / "people" / "boxes.json", [tmp_path / "held.txt"])


def spread(picture, x):
    return np.asarray(Image.open(picture), float)[20:60, x : x + 40].std()


def test_unsure_and_masked_faces_are_neither_target_nor_background(tmp_path):
    photos = real_photos(tmp_path)
    assert [p.name for p in photos] == ["a.png"]  # the other is held out
    writer = DatasetWriter(tmp_path / "out", EMOTION_IDS, {})
    namer = lambda image, boxes: np.array([[0, 0, 0, 0.9, 0.1], [0.3, 0.3, 0.2, 0.1, 0.1]])  # sure, unsure
    dataset.write_real_photos(writer, photos, lambda number: "train", namer)
    (label,) = (tmp_path / "out/labels/train").iterdir()
    assert label.name == "real_people_a.txt" and [line.split()[0] for line in label.read_text().splitlines()] == ["3"]
    picture = tmp_path / "out/images/train/real_people_a.jpg"
    assert spread(picture, 20) > 40 and spread(picture, 110) < 25 and spread(picture, 210) < 25  # smeared away


def test_faces_are_faces_where_nobody_names_them(tmp_path):
    writer = DatasetWriter(tmp_path / "out", ["face"], {})
    dataset.write_real_photos(writer, real_photos(tmp_path), lambda number: "train")
    lines = (tmp_path / "out/labels/train/real_people_a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "0"]
    assert spread(tmp_path / "out/images/train/real_people_a.jpg", 110) < 25  # the masked one is still smeared


def test_a_teachers_faces_are_sure_possible_or_nothing(tmp_path, monkeypatch):
    import ultralytics

    rows = torch.tensor([[10.0, 10, 50, 50], [60, 10, 90, 40], [0, 0, 5, 5]])
    found = SimpleNamespace(xyxy=rows, conf=torch.tensor([0.9, 0.1, 0.8]))
    teacher = SimpleNamespace(
        names={3: "Human face", 4: "Hat"}, predict=lambda image, classes, **more: [SimpleNamespace(boxes=found)]
    )
    monkeypatch.setattr(ultralytics, "YOLO", lambda path: teacher)
    photo = tmp_path / "a.png"
    Image.new("RGB", (100, 60)).save(photo)
    for _ in range(2):  # the second answer comes from the cache
        seen = dataset.teacher_faces([photo], "teacher.pt", tmp_path / "cache.json")
        monkeypatch.setattr(ultralytics, "YOLO", lambda path: pytest.fail("looked again"))
    assert dataset.guessed_faces(seen) == {
        photo: ([(10.0, 10.0, 50.0, 50.0)], [(60.0, 10.0, 90.0, 40.0), (0.0, 0.0, 5.0, 5.0)])
    }


def test_a_dataset_goes_on_where_it_stopped(tmp_path):
    scenes = lambda out, count: dataset.write_scenes(
        DatasetWriter(tmp_path / out, EMOTION_IDS, {"seed": 1}), toy_faces(30), [background], "train", count, 96, 1
    )
    background = tmp_path / "b.png"
    Image.new("RGB", (200, 150), "green").save(background)
    scenes("whole", 6)
    scenes("halves", 3)
    cut = tmp_path / "halves" / "journal.jsonl"
    cut.write_text(cut.read_text()[:-25])  # as a kill in the middle of a write leaves it
    scenes("halves", 6)
    names = sorted(p.name for p in (tmp_path / "whole/images/train").iterdir())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "whole/images/train" / name).read_bytes() == (
            tmp_path / "halves/images/train" / name
        ).read_bytes()
    hashes = [DatasetWriter(tmp_path / out, EMOTION_IDS, {"seed": 1}).finish() for out in ("whole", "halves")]
    assert hashes[0] == hashes[1]
    with pytest.raises(UserError, match="other settings"):
        DatasetWriter(tmp_path / "whole", EMOTION_IDS, {"seed": 2})


def tiny_run(tmp_path, *more):
    overrides = [f"run={tmp_path}/run", "dataset=null", "faces=faces.npz", f"data={tmp_path}", "base=null", "scenes=24"]
    overrides += ["scene_side=64", "epochs=1", "imgsz=64", "batch=8", "export=null", "export_feelings=null", *more]
    return load_settings(ROOT / "configs/emotion/pocket.yaml", EmotionSettings, overrides)


def test_the_face_detector_trains_once_and_is_exported_with_its_card(tmp_path, monkeypatch):
    votes = (toy_faces(60).targets * 10).astype(int)
    names = ["anger", "sadness", "surprise", "happiness", "neutral"]
    np.savez(tmp_path / "faces.npz", images=toy_faces(60).images, votes=votes, vote_names=names)
    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    Image.new("RGB", (200, 150), "green").save(photo)
    settings = tiny_run(tmp_path, f"export={tmp_path}/faces.onnx", "ultralytics={workers: 0}")
    monkeypatch.setattr(dataset, "_look", lambda detector, name, photos, *more: {str(p): [] for p in photos})
    settings.run.mkdir()
    data = write_dataset(settings, [photo], None, [], None)
    assert "face" in data.read_text() and (settings.run / "dataset/annotations/val.json").exists()
    best = train_detector(settings, data)
    export(settings, best)
    assert (settings.run / "train/results.png").exists()  # the curves
    rows = (settings.run / "train/results.csv").read_text().splitlines()
    assert len(rows) == 1 + settings.epochs, "measured after every epoch, not afterwards with the last weights"
    runner = OnnxYolo(tmp_path / "faces.onnx")
    meta = runner.session.get_modelmeta().custom_metadata_map
    assert runner.names == ["face"] and len(meta["dataset"]) == 16
    assert json.loads(meta["settings"])["imgsz"] == 64 and str(tmp_path) not in meta["settings"].replace("base", "")
    written = best.stat().st_mtime_ns
    assert train_detector(settings, data).stat().st_mtime_ns == written


def test_a_yolov8_checkpoint_starts_the_matching_layers(tmp_path):
    """YOLOv10's attention block shifts the neck by one layer."""
    from ultralytics import YOLO

    source = YOLO("yolov8n.yaml", verbose=False)
    source.save(tmp_path / "v8.pt")
    old, new = source.model.state_dict(), new_detector(["face"], str(tmp_path / "v8.pt")).state_dict()
    same = lambda a, b: torch.allclose(old[a].float(), new[b], atol=1e-3)  # checkpoints hold half floats
    assert same("model.2.cv1.conv.weight", "model.2.cv1.conv.weight")
    assert same("model.15.cv1.conv.weight", "model.16.cv1.conv.weight")
    for twin in ("cv2", "one2one_cv2"):
        assert same("model.22.cv2.0.0.conv.weight", f"model.23.{twin}.0.0.conv.weight")


def test_the_originals_run_is_a_preset():
    settings = load_settings(ROOT / "configs/emotion/original.yaml", EmotionSettings)
    assert (settings.epochs, settings.patience, settings.imgsz, settings.batch) == (10000, 10, 512, 16)
    assert (settings.optimizer, settings.lr, settings.ultralytics["mosaic"]) == ("auto", 0.01, 1.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=noses"], "task: input should be 'faces' or 'feelings'"),
        (["faces=null"], "needs faces"),
        (["ultralytics={epoch: 3}"], "unknown training arguments ['epoch']"),
        (["dataset=nowhere"], "nowhere/data.yaml does not exist"),
    ],
)
def test_bad_settings_are_one_line_before_any_work(overrides, message, tmp_path):
    done = run_module(
        "detection.emotion.train", "--config", "configs/emotion/pocket.yaml", f"run={tmp_path}/run", *overrides
    )
    assert done.refuses(message)
    assert not (tmp_path / "run").exists()


def test_views_move_their_boxes_along(tmp_path):
    """A red box in a photo is where the view says it is, whatever the zoom, shift and mirroring."""
    photo = Image.new("RGB", (120, 90), "black")
    photo.paste((255, 0, 0), (30, 20, 60, 50))
    photo.save(tmp_path / "a.png")
    mirrored = set()
    for seed in range(12):
        seen = view(tmp_path / "a.png", 64, np.random.default_rng(seed), (0.6, 1.2))
        x1, y1, x2, y2 = np.clip(seen.boxes(np.array([[30.0, 20, 60, 50]]))[0], 0, 64)
        rows, columns = np.nonzero(seen.pixels[..., 0].astype(int) - seen.pixels[..., 1] > 60)
        assert np.allclose([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], [x1, y1, x2, y2], atol=1.6)
        mirrored.add(seen.mirrored)
    assert mirrored == {True, False}


def test_faces_are_distilled_and_an_interrupted_run_goes_on(tmp_path):
    """The student of one class follows the teacher's "Human face"; batches hold photos and scenes."""
    from ultralytics import YOLO

    for name, labels in (("teacher", ["Hat", "Human face"]), ("student", ["face"])):
        source = YOLO("yolov8n.yaml" if name == "teacher" else "yolov10n.yaml", verbose=False)
        source.model = (
            type(source.model)("yolov8n.yaml", nc=2, verbose=False) if name == "teacher" else new_detector(labels, None)
        )
        source.model.names = dict(enumerate(labels))
        source.save(tmp_path / f"{name}.pt")
    photo = tmp_path / "photo.png"
    Image.new("RGB", (80, 60), "green").save(photo)
    writer = DatasetWriter(tmp_path / "data", ["face"], {})
    dataset.write_scenes(writer, toy_faces(20), [photo], "train", 4, 96, 0)
    lines = []
    go_on = lambda steps: distill(
        str(tmp_path / "student.pt"),
        str(tmp_path / "teacher.pt"),
        writer,
        {photo: True},
        tmp_path / "out",
        steps,
        64,
        4,
        1e-4,
        log=lines.append,
    )
    go_on(10)
    student = YOLO(go_on(20))
    assert [line.split(":")[0] for line in lines] == ["step 10/10", "step 20/20"]
    assert list(student.names.values()) == ["face"]
    before = YOLO(tmp_path / "student.pt").model.float().state_dict()
    after = student.model.float().state_dict()
    assert not torch.equal(before["model.0.conv.weight"], after["model.0.conv.weight"])
    x, truth = scene_batch(writer, list(writer.items.values()), 64, np.random.default_rng(0))
    assert x.shape == (4, 3, 64, 64) and truth["bboxes"].shape == (len(truth["cls"]), 4)
    assert ((truth["bboxes"] > 0) & (truth["bboxes"] <= 1)).all()
