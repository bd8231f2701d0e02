"""A second look at every face: whether a detection is a face at all.

    python -m detection.emotion.verify --config configs/emotion/second_look.yaml data=FOLDER

The finder's score and a linear reading of what the crop classifier's trunk sees in the face's square and around it
give, by logistic regression, how likely a detection is a face. Learned from the finder's own detections on training
pictures, right and wrong ones: calibration (Platt 1999) and hard-negative training in one. Dogs, statues and wall
clocks look like faces to the finder, seldom to both. `detection.emotion.train` fits it to new weights; this command
fits it anew to the embedded weights, on more photos, whose faces the object detector tells.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import exit_with
from common.files import whole_file
from configs.load import Settings, settings_command
from detection.boxes import areas, intersections, iou_matrix, nms
from detection.emotion import POCKET, POCKET_FEELINGS, SAME_FACE_INSIDE, SAME_FACE_IOU
from detection.emotion.faces import load_faces
from detection.emotion.feelings import FeelingClassifier, SecondLook
from detection.emotion.scenes import SceneComposer
from detection.emotion.yolo_coco import Item
from detection.labels import PLAIN_IDS
from detection.photos import open_photo, training_photos
from detection.runner import OnnxYolo, logit
from detection.scenes.annotations import read_annotations
from detection.training import open_run

FOLDS = 5
ON_FACE, OFF_FACE = 0.5, 0.2  # IoU with a labelled face: right from the first, wrong below the second
DOUBT = 0.5  # share of a detection that lies in something doubtful: nothing is known of it
SURE = 0.25  # an object detector's face is a face from here on, a doubtful one below
LEAST_SCORE = 0.012  # of the finder's detections that are learned from


class SecondLookSettings(Settings):
    """Settings of one run; paths under `data` are relative to it."""

    data: Path = Path("data")
    run: Path
    photos: list[str]  # folders of photos; their faces are those that the object detector sees
    face_boxes: str  # boxes.json of photos with drawn faces, pictures in images/ beside it
    faces: str  # .npz of voted face crops, which scenes are composed of
    held_out: list[str] = []  # list files naming photos that are never read
    scenes: int = 300
    scene_side: int = 416
    val_share: float = 0.1  # of the faces that are kept out of scenes
    seed: int = 0
    most_false: float = 0.1  # false faces a picture without faces that may be left
    ridge: float = 3.0  # pull of the weights to zero
    export: Path = POCKET_FEELINGS


@dataclass(frozen=True)
class Picture:
    """A training picture with boxes xyxy of its faces (K, 4) and of what may be one or not (M, 4)."""

    name: str
    image: Image.Image
    faces: np.ndarray
    doubtful: np.ndarray


@dataclass(frozen=True)
class Looks:
    """Detections on training pictures: the finder's scores (N,), evidence (N, F), whether each is a face, and the fold
    (N,) of its picture; `empty` counts the pictures without faces, `on_empty` marks detections there."""

    scores: np.ndarray
    evidence: np.ndarray
    right: np.ndarray
    fold: np.ndarray
    on_empty: np.ndarray
    empty: int


def collect(finder: OnnxYolo, reader: FeelingClassifier, pictures: Iterable[Picture]) -> Looks:
    """The finder's detections on pictures, read by the classifier; doubtful ones teach nothing."""
    rows, empty = [], 0
    for picture in pictures:
        found = finder.predict(picture.image)
        kept = nms(found.xyxy, found.scores, SAME_FACE_IOU, SAME_FACE_INSIDE)
        nobody = not len(picture.faces) and not len(picture.doubtful)
        empty += nobody
        if not len(kept):
            continue
        fold = int(hashlib.sha256(picture.name.encode()).hexdigest()[:8], 16) % FOLDS
        xyxy = found.xyxy[kept]
        on_face = iou_matrix(xyxy, picture.faces).max(axis=1, initial=0)
        doubt = np.array([intersections(box, picture.doubtful).max(initial=0) for box in xyxy]) / areas(xyxy)
        _, evidence = reader.look(picture.image, xyxy)
        known = (on_face >= ON_FACE) | ((on_face < OFF_FACE) & (doubt < DOUBT))
        columns = (found.scores[kept], evidence, on_face >= ON_FACE)
        rows += [(*row, fold, nobody) for row in zip(*(c[known] for c in columns), strict=True)]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Looks(*columns, empty)


def fit(looks: Looks, most_false: float, ridge: float = 3.0) -> SecondLook:
    """Fit the second look; its least probability is the lowest at which, on pictures without faces that it was not
    fitted on (five folds), at most `most_false` false faces a picture are left."""
    held_out = np.zeros(len(looks.scores))
    for fold in range(FOLDS):
        rows = looks.fold != fold
        part = _fit(looks.scores[rows], looks.evidence[rows], looks.right[rows], ridge)
        held_out[~rows] = part.probabilities(looks.scores[~rows], looks.evidence[~rows])
    wrong = np.sort(held_out[looks.on_empty & ~looks.right])[::-1]
    allowed = int(most_false * looks.empty)
    confidence = float(wrong[allowed]) if len(wrong) > allowed else 0.05
    whole = _fit(looks.scores, looks.evidence, looks.right, ridge)
    return SecondLook(whole.score_weight, whole.weights, whole.bias, round(confidence + 1e-4, 4))


def _fit(scores: np.ndarray, evidence: np.ndarray, right: np.ndarray, ridge: float, steps: int = 30) -> SecondLook:
    """Ridge logistic regression by Newton's method, on standardised evidence."""
    mean, spread = evidence.mean(0), evidence.std(0) + 1e-6
    x = np.column_stack([logit(scores), np.ones(len(scores)), (evidence - mean) / spread])
    pull = np.full(x.shape[1], ridge)
    pull[:2] = 1e-2
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ weights))
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(pull)
        weights -= np.linalg.solve(curvature, x.T @ (p - right) + pull * weights)
    own = weights[2:] / spread
    return SecondLook(float(weights[0]), own, float(weights[1] - own @ mean))


def store(second_look: SecondLook, file: Path) -> None:
    """Write a second look into a classifier's file, atomically."""
    import onnx

    graph = onnx.load(file)
    for entry in graph.metadata_props:
        if entry.key == "second_look":
            entry.value = second_look.to_json()
    with whole_file(file) as part:
        onnx.save(graph, part)


def written_pictures(folder: Path, items: Iterable[Item]) -> Iterator[Picture]:
    """Pictures of a dataset that `DatasetWriter` wrote."""
    for item in items:
        image = Image.open(folder / "images" / item.split / item.file_name).convert("RGB")
        faces = np.array([face.xyxy for face in item.faces], float).reshape(-1, 4)
        yield Picture(item.file_name, image, faces, np.zeros((0, 4)))


def labelled_photos(settings: SecondLookSettings) -> Iterator[Picture]:
    """Photos with drawn faces, and photos whose faces the object detector tells.

    A detection on a person whose face was not seen may be a face: people are doubtful as a whole.
    """
    from detection.emotion.dataset import known_faces
    from detection.objects import ObjectDetector

    data, held_out = settings.data, [settings.data / name for name in settings.held_out]
    measured = {data / row.file for row in read_annotations("test")}
    boxes = lambda rows: np.array(rows, float).reshape(-1, 4)
    for photo, (bare, masked) in known_faces(data / settings.face_boxes, held_out).items():
        yield Picture(photo.name, open_photo(photo)[0], boxes(bare), boxes(masked))
    detector = ObjectDetector()
    for photo in training_photos([data / name for name in settings.photos], held_out):
        if photo in measured:
            continue
        image, _ = open_photo(photo)
        seen = detector.detect(image)
        sure = [d.xyxy for d in seen if d.label == "Human face" and d.score >= SURE]
        people = [d.xyxy for d in seen if d.label in PLAIN_IDS and d.xyxy not in sure]
        yield Picture(photo.name, image, boxes(sure), boxes(people))


def scenes(settings: SecondLookSettings, backgrounds: list[Image.Image]) -> Iterator[Picture]:
    """Composed scenes of training faces, the same with every seed."""
    faces, _ = load_faces(settings.data / settings.faces).split(settings.val_share, settings.seed)
    composer = SceneComposer(faces, backgrounds, settings.scene_side, settings.seed)
    for number in range(settings.scenes):
        image, truth = composer.compose()
        yield Picture(f"scene_{number}", image, np.array([b for _, b in truth], float).reshape(-1, 4), np.zeros((0, 4)))


def train(settings: SecondLookSettings) -> Path:
    """Look at all pictures, fit, and write the second look into the classifier's file."""
    from rich.progress import track

    data = settings.data
    needed = [settings.face_boxes, settings.faces, *settings.photos, *settings.held_out]
    open_run(settings, [data / name for name in needed])
    finder = OnnxYolo(POCKET)
    finder.thresholds[:] = LEAST_SCORE
    reader, backgrounds = FeelingClassifier(settings.export), []

    def pictures() -> Iterator[Picture]:
        for picture in track(labelled_photos(settings), "looking", total=None):
            if not len(picture.faces) and not len(picture.doubtful) and len(backgrounds) < settings.scenes:
                small = picture.image.copy()
                small.thumbnail((2 * settings.scene_side,) * 2)
                backgrounds.append(small)
            yield picture
        yield from scenes(settings, backgrounds)

    second_look = fit(collect(finder, reader, pictures()), settings.most_false, settings.ridge)
    store(second_look, settings.export)
    return settings.export


main = settings_command("detection.emotion.verify", __doc__, SecondLookSettings, train)


if __name__ == "__main__":
    exit_with(main)
