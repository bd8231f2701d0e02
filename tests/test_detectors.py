"""The runner on hand-made models whose answers are known, and the embedded detectors on real photos."""

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from common.errors import UserError
from detection.adapters import from_ultralytics
from detection.boxes import iou_matrix, nms
from detection.emotion import EmotionDetector
from detection.labels import OBJECT_IDS
from detection.objects import ObjectDetector
from detection.runner import OnnxYolo, letterbox
from tests.conftest import PHOTOS
from tests.helpers import constant_detector, save_onnx
from tests.test_photos import save_oriented


def test_iou_and_nms_against_known_values():
    a, b = [[0, 0, 10, 10], [20, 20, 30, 30]], [[0, 0, 10, 10], [5, 0, 15, 10], [100, 100, 110, 110]]
    assert np.allclose(iou_matrix(a, b), [[1, 1 / 3, 0], [0, 0, 0]])
    assert iou_matrix([], b).shape == (0, 3)
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], float)
    assert nms(boxes, np.array([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]  # the better of two alike stays
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []
    eye = np.array([[0, 0, 100, 100], [20, 20, 40, 40], [90, 20, 130, 60]], float)
    assert nms(eye, np.array([0.9, 0.5, 0.4]), 0.5, inside=0.7).tolist() == [0, 2]  # a quarter of the last is inside
    assert nms(eye, np.array([0.3, 0.5, 0.4]), 0.5, inside=0.7).tolist() == [1, 2, 0]  # a surer one stays


@pytest.mark.parametrize("size", [(640, 480), (481, 640), (1, 1), (1000, 17), (33, 999), (4000, 3000)])
@pytest.mark.parametrize("square", [False, True])
def test_letterbox_maps_back_exactly(size, square):
    tensor, scale, pad = letterbox(Image.new("RGB", size), 320, square)
    height, width = tensor.shape[2:]
    assert (
        (height, width) == (320, 320) if square else height % 32 == 0 and width % 32 == 0 and max(height, width) == 320
    )
    corners = np.array([pad[0], pad[1], pad[0] + size[0] * scale[0], pad[1] + size[1] * scale[1]])
    assert np.allclose((corners - [*pad, *pad]) / [*scale, *scale], [0, 0, *size])
    assert corners[2] <= width + 1e-6 and corners[3] <= height + 1e-6


def red_meter(path):
    """A detector whose only box has the mean of the first colour channel as its score."""
    nodes = [
        helper.make_node("Slice", ["images", "zero", "one", "axis"], ["red"]),
        helper.make_node("ReduceMean", ["red"], ["score"], keepdims=0),
        helper.make_node("Reshape", ["score", "shape1"], ["score1"]),
        helper.make_node("Concat", ["box", "score1", "klass"], ["row"], axis=0),
        helper.make_node("Reshape", ["row", "shape"], ["out"]),
    ]
    from onnx import numpy_helper

    constants = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "axis": np.array([1]),
        "shape1": np.array([1]),
        "shape": np.array([1, 1, 6]),
        "box": np.array([0, 0, 64, 64], np.float32),
        "klass": np.array([0], np.float32),
    }
    values = [helper.make_node("Constant", [], [k], value=numpy_helper.from_array(v)) for k, v in constants.items()]
    return save_onnx(path, [*values, *nodes], [1, 1, 6], ["Hat"])


def test_red_reaches_the_network_as_red(tmp_path):
    """The original fed RGB pictures to a BGR model: a red square must read as red."""
    model = OnnxYolo(red_meter(tmp_path / "red.onnx"), confidence=0.0)
    assert model.predict(Image.new("RGB", (64, 64), (255, 0, 0))).scores[0] == pytest.approx(1.0)
    assert model.predict(Image.new("RGB", (64, 64), (0, 0, 255))).scores[0] == pytest.approx(0.0)


def test_the_drawn_photo_keeps_its_colours(commenter):
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    assert commenter.comment(red).annotated().getpixel((60, 60)) == (255, 0, 0)


def test_v8_head_nms_is_by_class_and_boxes_come_back_in_pixels(tmp_path):
    """128 x 64 photo in a 64 px network: scale 0.5, padded below to 32."""
    anchors = np.zeros((1, 4 + 2, 4), np.float32)
    anchors[0, :4] = np.array([[16, 8, 20, 10], [16.5, 8, 20, 10], [16, 8, 20, 10], [50, 20, 8, 8]]).T  # centre xywh
    anchors[0, 4] = [0.9, 0.8, 0.0, 0.0]  # Hat, twice the same
    anchors[0, 5] = [0.0, 0.0, 0.7, 0.05]  # Cat on the same spot stays; the last is below the threshold
    found = OnnxYolo(constant_detector(tmp_path / "v8.onnx", anchors, ["Hat", "Cat"])).predict(
        Image.new("RGB", (128, 64))
    )
    assert found.classes.tolist() == [0, 1]
    assert np.allclose(found.scores, [0.9, 0.7])
    assert np.allclose(found.xyxy[0], [12, 6, 52, 26])


def test_end_to_end_head_needs_no_nms(tmp_path):
    rows = np.array([[[0, 0, 10, 10, 0.3, 1], [0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.1, 0]]])
    found = OnnxYolo(constant_detector(tmp_path / "v10.onnx", rows, ["happy", "sad"])).predict(
        Image.new("RGB", (64, 64))
    )
    assert found.classes.tolist() == [0, 1] and np.allclose(found.scores, [0.9, 0.3])


def test_two_feelings_on_one_face_become_one(tmp_path):
    rows = np.array([[[10, 10, 40, 40, 0.8, 0], [11, 10, 41, 40, 0.6, 1], [50, 50, 60, 60, 0.5, 1]]])
    with pytest.raises(UserError, match="no emotions"):
        EmotionDetector(str(constant_detector(tmp_path / "odd.onnx", rows, ["happy", "toast"])))
    file = constant_detector(tmp_path / "faces.onnx", rows, ["happy", "panic"], side=64)
    faces = EmotionDetector(str(file)).detect(Image.new("RGB", (64, 64)))
    assert [(f.label, f.kind) for f in faces] == [("happy", "emotion"), ("panic", "emotion")]


def test_a_face_finder_leaves_feelings_to_the_crop_classifier(tmp_path):
    """The astronaut's face given by a detector of the one class "face": it is found happy, with calibrated scores."""
    side, photo = 512, Image.open(PHOTOS / "astronaut.jpg")
    scale = side / max(photo.size)
    box = np.array([175, 65, 275, 200]) * scale
    rows = np.array([[[*box, 0.6, 0], [0, 0, 60, 60, 0.1, 0]]])
    faces = EmotionDetector(str(constant_detector(tmp_path / "f.onnx", rows, ["face"], side))).detect(photo)
    assert faces[0].label == "happy" and iou_matrix([faces[0].xyxy], [(175, 65, 275, 200)])[0, 0] > 0.9
    assert len(faces) == 1, "a patch of background is no face on a second look"


def test_a_users_own_classes_keep_their_names_with_a_warning(tmp_path):
    rows = np.array([[[10, 10, 40, 40, 0.8, 0], [0, 0, 9, 9, 0.6, 1]]])
    file = constant_detector(tmp_path / "own.onnx", rows, ["spaceship", "tennis racket"])
    with pytest.warns(UserWarning, match="spaceship"):
        detector = ObjectDetector(str(file))
    assert [d.label for d in detector.detect(Image.new("RGB", (64, 64)))] == ["spaceship", "Tennis racket"]


def test_ultralytics_results_come_in_as_plain_arrays():
    class Column:
        def __init__(self, values):
            self.values = np.array(values)

        def cpu(self):
            return self.values

    class Boxes:
        cls, conf, xyxy = Column([3, 7]), Column([0.4, 0.9]), Column([[0, 0, 1, 1], [2, 2, 5, 5]])

    class Outcome:
        boxes = Boxes

    found = from_ultralytics(Outcome)
    assert found.classes.tolist() == [7, 3] and found.scores.tolist() == [0.9, 0.4]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 50])
def test_damaged_weights_give_one_line(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.onnx is damaged|names no classes"):
        ObjectDetector(str(tmp_path / "bad.onnx"))


def test_embedded_labels_are_the_canonical_ids():
    assert tuple(ObjectDetector().labels) == OBJECT_IDS
    assert EmotionDetector().model.names == ["face"]  # feelings come from the crop classifier


@pytest.mark.parametrize(("photo", "labels"), [("cat.jpg", {"Cat"}), ("coffee.jpg", {"Coffee cup", "Mug"})])
def test_embedded_objects_on_real_photos(photo, labels):
    image = Image.open(PHOTOS / photo)
    found = ObjectDetector().detect(image)
    assert labels & {d.label for d in found}
    assert [d.score for d in found] == sorted([d.score for d in found], reverse=True)
    for d in found:
        assert d.kind == "object" and d.xyxy[2] <= image.width and d.xyxy[3] <= image.height


def test_embedded_emotions_on_a_real_face():
    faces = EmotionDetector().detect(Image.open(PHOTOS / "astronaut.jpg"))
    best = faces[0]
    assert best.label == "happy"
    assert iou_matrix([best.xyxy], [(175, 65, 275, 200)])[0, 0] > 0.4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_detections(tmp_path, orientation):
    photo = Image.open(PHOTOS / "astronaut.jpg")
    save_oriented(photo, orientation, tmp_path / "a.jpg")
    turned = Image.open(tmp_path / "a.jpg")
    for detector in (ObjectDetector(), EmotionDetector()):
        sure = {d.label for d in detector.detect(photo) if d.score > 0.5}
        assert sure and sure <= {d.label for d in detector.detect(turned)}


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_picture_mode_is_taken(mode):
    assert isinstance(ObjectDetector().detect(Image.open(PHOTOS / "cat.jpg").convert(mode)), list)


def test_detectors_load_side_by_side():
    """Parsing 601 class names in two threads at once failed now and then."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda kind: kind(), [ObjectDetector, EmotionDetector] * 10))
    assert len(loaded) == 20
