"""COCO's average precision, computed by pycocotools."""

import contextlib
import io


def average_precision(coco: dict, found: list[dict]) -> dict[str, dict]:
    """AP of every class that has a truth: {"Hat": {"AP50": 0.6, "AP50-95": 0.4, "curve": [101 values]}, …}.

    Args:
        coco: images, annotations (with area and iscrowd) and categories, as COCO's files hold them.
        found: detections as {"image_id", "category_id", "bbox": xywh, "score"}.

    Returns:
        per class name, in the order of category ids; `curve` is precision at IoU 0.5 and recall 0, 0.01, … 1.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    names = {c["id"]: c["name"] for c in coco["categories"]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found) if found else COCO(), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # IoU x recall x class x size x most detections
    result = {}
    for column, number in enumerate(evaluation.params.catIds):
        curves = precision[:, :, column, 0, -1]
        if (curves >= 0).all():  # -1: no truth of this class
            row = {"AP50": float(curves[0].mean()), "AP50-95": float(curves.mean())}
            result[names[number]] = row | {"curve": [round(float(v), 4) for v in curves[0]]}
    return result
