"""Any photo file opens upright, or says in one line why not; trainers never read what is checked."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from detection.photos import PhotoError, find_photos, open_photo, training_photos, upright
from tests.conftest import PHOTOS

ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def save_oriented(photo: Image.Image, orientation: int, path) -> None:
    """Store `photo` turned so that the EXIF orientation turns it upright again."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo.transpose(ORIENTATIONS[orientation]) if orientation > 1 else photo
    stored.save(path, exif=exif, quality=100, subsampling=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_opens_upright(tmp_path, orientation):
    cat = Image.open(PHOTOS / "cat.jpg")
    save_oriented(cat, orientation, tmp_path / "cat.jpg")
    image, size = open_photo(tmp_path / "cat.jpg")
    assert image.size == size == cat.size
    assert np.abs(np.asarray(image, int) - np.asarray(cat, int)).mean() < 3


def test_large_photos_are_decoded_smaller_but_report_their_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4032, 3024), "teal").save(tmp_path / "phone.jpg", exif=exif)
    image, size = open_photo(tmp_path / "phone.jpg")
    assert size == (3024, 4032)
    assert max(image.size) == 2016


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_any_mode_becomes_rgb(mode):
    image = Image.new("RGB", (8, 6), (200, 100, 50))
    image = (
        Image.fromarray(np.full((6, 8), 40000, np.uint16))
        if mode == "I;16"
        else image.convert("L").convert(mode)
        if mode in ("I", "F", "LA")
        else image.convert(mode)
    )
    out = upright(image)
    assert out.mode == "RGB" and out.size == (8, 6)


def test_sixteen_bit_grey_keeps_its_contrast(tmp_path):
    ramp = np.linspace(0, 65535, 256 * 16).astype(np.uint16).reshape(16, 256)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    values = np.asarray(open_photo(tmp_path / "grey.png")[0])[..., 0]
    assert values.min() < 5 and values.max() > 250 and len(np.unique(values)) > 200  # not clipped to white


def test_transparency_becomes_white():
    assert upright(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.info["transparency"] = 0
    assert upright(palette).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_give_their_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    r, g, b = open_photo(tmp_path / f"a.{suffix}")[0].getpixel((5, 5))
    assert r > 200 and g < 50 and b < 50


def huge_png(path) -> None:
    """A PNG whose header says 20,000 x 20,000; the pixels are never reached."""
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def bad_files(folder) -> dict[str, str]:
    """Broken files and the error type each gives."""
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "empty.jpg").touch()
    (folder / "cut.jpg").write_bytes((PHOTOS / "cat.jpg").read_bytes()[:9000])
    huge_png(folder / "huge.png")
    (folder / "folder.jpg").mkdir()
    return {
        "missing.jpg": "not_found",
        "text.jpg": "not_an_image",
        "empty.jpg": "empty_file",
        "cut.jpg": "damaged",
        "huge.png": "too_large",
        "folder.jpg": "not_a_file",
    }


def test_bad_files_say_what_is_wrong(tmp_path):
    for name, kind in bad_files(tmp_path).items():
        with pytest.raises(PhotoError) as error:
            open_photo(tmp_path / name)
        assert error.value.kind == kind, name
        assert name in str(error.value) and "\n" not in str(error.value)


def test_heic_without_its_extra_says_how_to_get_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(PhotoError, match="pip install pillow-heif") as error:
        open_photo(tmp_path / "a.heic")
    assert error.value.kind == "needs_extra"


def test_heic_opens_with_its_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.open(PHOTOS / "cat.jpg").save(tmp_path / "cat.heic")
    image, size = open_photo(tmp_path / "cat.heic")
    assert size == (451, 300) and image.mode == "RGB"


def test_paths_are_files_folders_and_globs(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "하위 폴더/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p[len(str(tmp_path)) + 1 :] for p in find_photos(str(tmp_path))] == ["a.PNG", "b.jpg", "하위 폴더/c.webp"]
    assert find_photos(f"{tmp_path}/*.jpg") == [f"{tmp_path}/b.jpg"]
    assert find_photos(f"{tmp_path}/none-*.jpg") == [f"{tmp_path}/none-*.jpg"]  # opening it says that it is missing
    assert find_photos("missing.jpg") == ["missing.jpg"]
    (tmp_path / "x[1].jpg").touch()
    assert find_photos(f"{tmp_path}/x[1].jpg") == [f"{tmp_path}/x[1].jpg"]  # a file whose name looks like a glob


def test_held_out_photos_are_never_training_photos(tmp_path):
    folder = tmp_path / "coco" / "images"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "2.jpg", "21.jpg", "3.jpg"):
        (folder / name).touch()
    (tmp_path / "held.txt").write_text("1.jpg\ncoco/images/3.jpg\nother/images/2.jpg\n")
    assert [p.name for p in training_photos([folder], [tmp_path / "held.txt"])] == ["2.jpg", "21.jpg"]


@pytest.mark.parametrize(("config", "key"), [("objects", "photos"), ("emotion", "backgrounds")])
def test_the_shipped_configs_read_nothing_that_is_checked(shared, config, key):
    import yaml

    settings = yaml.safe_load((PHOTOS.parents[1] / f"configs/{config}/pocket.yaml").read_text())
    data = shared / "data"
    lists = [data / name for name in settings["held_out"]]
    photos = training_photos([data / name for name in settings[key]], lists)
    if config == "emotion":
        photos += training_photos([(data / settings["face_boxes"]).parent / "images"], lists)
        assert "valid" not in settings["faces"]
    assert len(photos) > 1000 and not any("coco128" in str(p) for p in photos)
    held = {
        line
        for name in ("photos_holdout", "face_boxes_holdout", "no_people")
        for line in (data / f"splits/{name}.txt").read_text().split()
    }
    for photo in photos:
        assert photo.name not in held and photo.relative_to(data).as_posix() not in held


def test_a_patched_opener_does_not_leak_its_import_error(tmp_path, monkeypatch):
    """Ultralytics replaces Image.open by one that imports another HEIF plugin for what Pillow cannot read."""

    def patched(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", patched)
    (tmp_path / "text.jpg").write_text("this is no picture")
    with pytest.raises(PhotoError) as error:
        open_photo(tmp_path / "text.jpg")
    assert error.value.kind == "not_an_image"


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tif", "heic"])
def test_bytes_are_opened_by_their_content(suffix):
    import io

    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    out = io.BytesIO()
    names = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}
    Image.open(PHOTOS / "cat.jpg").save(out, names.get(suffix, suffix.upper()))
    assert open_photo(out.getvalue())[1] == (451, 300)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty_file"),
        (b"no photo", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),  # would start Ghostscript
        (b"P6\n8000 8000\n255\n", "not_an_image"),  # a format no camera writes
        (b"\0\0\0\x18ftypheic" + bytes(40), "not_an_image"),
        ((PHOTOS / "cat.jpg").read_bytes()[:9000], "damaged"),
    ],
)
def test_bytes_that_are_no_photo(data, kind):
    with pytest.raises(PhotoError) as caught:
        open_photo(data)
    assert caught.value.kind == kind and str(caught.value).startswith("the photo ")


def test_threads_do_not_undo_each_others_limit():
    """Pillow's limit is one for all threads; whoever opens puts back what was there."""
    from concurrent.futures import ThreadPoolExecutor

    data, limit = (PHOTOS / "cat.jpg").read_bytes(), Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        assert {size for _, size in pool.map(open_photo, [data] * 200)} == {(451, 300)}
    assert limit == Image.MAX_IMAGE_PIXELS
