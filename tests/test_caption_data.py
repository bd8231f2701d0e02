"""Caption files are recognised, cleaned, split by photo and read one photo at a time; mistakes are one line."""

import csv

import pytest
from PIL import Image

from common.errors import UserError
from language.caption import data
from language.caption.data import Cleaning, PhotoRows, Row, Source, clean, gather, read_rows, split_rows
from tests.caption_toys import COLOURS, caption_rows, colour_photos

ENDS = 1  # the end token of `Letters`


class Letters:
    """A tokenizer whose tokens are letters and whose padding is its end, as GPT-2's is in practice."""

    eos_token_id = pad_token_id = ENDS

    def __call__(self, texts, add_special_tokens):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def write_csv(file, *rows):
    with file.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows(rows)
    return file


@pytest.fixture
def photos(tmp_path):
    colour_photos(tmp_path / "photos")
    (tmp_path / "photos/img").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/img/one.jpg")
    return tmp_path / "photos"


def gathered(tmp_path, photos, rows, **rules):
    file = write_csv(tmp_path / "c.csv", ["image", "caption"], *rows)
    return gather([Source(csv=file, photos=photos)], Cleaning(**rules))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["image", "caption"], ["red.png", "a, b"]], [("red.png", "a, b")]),  # Flickr8k
        ([["", "Image File", "Caption"], ["0", "img/one", "hi 💙"]], [("img/one.jpg", "hi 💙")]),  # Instagram
        (
            [["split", "image_id", "file_name", "cap1", "cap2", "cap10"], ["val", "7", "red.png", "one", " ", "ten"]],
            [("red.png", "one"), ("red.png", "ten")],
        ),  # COCO, a blank caption
        ([["image", "caption"], ["red.png", ""], ["", "lost"]], [("red.png", "")]),  # blank cells
    ],
)
def test_formats_are_known_by_their_header(tmp_path, photos, rows, expected):
    found = read_rows(Source(csv=write_csv(tmp_path / "c.csv", *rows), photos=photos))
    assert [(row.image, row.caption) for row in found] == [(str(photos / name), text) for name, text in expected]
    assert len(read_rows(Source(csv=tmp_path / "c.csv", photos=photos, rows=1))) <= len(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"picture,text\na,b\n", "has the columns picture, text; allowed are `image,caption`, `Image File,Caption`"),
        (b"", "has the columns (none)"),  # an empty file
        (b"image,caption\nred.png,\xb0\xa1\n", "is not UTF-8 (byte"),  # cp949
        (b"image,caption\nnone.png,words here\n", "no photo with a caption is left: 1 photo missing (first looked for"),
        (b"image,caption\nred.png,\n", "no photo with a caption is left: 1 empty"),
        (None, "cannot read the captions"),  # no file
    ],
)
def test_unusable_files_are_one_line(tmp_path, photos, content, message):
    if content is not None:
        (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        gather([Source(csv=tmp_path / "c.csv", photos=photos)], Cleaning())
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="the photo folder .* does not exist"):
        read_rows(Source(csv=tmp_path / "c.csv", photos=tmp_path / "none"))


@pytest.mark.parametrize(
    ("caption", "rules", "expected"),
    [
        ("A dog , running .", {}, ("A dog, running.", [], None)),  # Flickr8k's spaces
        ("see https://a.b/c?d now", {}, ("see now", ["link removed"], None)),
        ("by @some.one at WWW.shop.com", {}, ("by at", ["link removed", "handle removed"], None)),
        ("mail me@home.org", {}, ("mail me@home.org", [], None)),  # no handle
        ("sun 💙👩‍👧", {}, ("sun 💙👩‍👧", [], None)),  # kept, joined ones too
        ("sun 💙👩‍👧", {"emoji": "remove"}, ("sun", ["emoji removed"], None)),
        ("sun 💙", {"emoji": "drop"}, ("sun 💙", [], "has emoji")),
        ("💜 ", {}, ("💜", [], "no words")),  # what the original's model learned to say
        (" \n", {}, ("", [], "empty")),
        ("@you", {}, ("", ["handle removed"], "no words")),  # empty once it is clean
        ("one two", {"min_words": 3}, ("one two", [], "too short")),
        ("one two", {"max_words": 1}, ("one two", [], "too long")),
        ("A Dog", {"lower_case": True}, ("a dog", [], None)),
        ("강아지가 뛰어요", {}, ("강아지가 뛰어요", [], None)),  # another script
    ],
)
def test_cleaning_by_stated_rules(caption, rules, expected):
    assert clean(caption, Cleaning(**rules)) == expected


def test_what_is_dropped_is_counted(tmp_path, photos):
    (photos / "broken.png").write_bytes(b"no picture")
    rows = [["red.png", "a red wall"], ["red.png", "a red wall"], ["red.png", "💙"], ["blue.png", "see www.a.b now"]]
    found = gathered(tmp_path, photos, [*rows, ["gone.png", "a"], ["gone.png", "b"], ["broken.png", "c"]])
    assert [row.caption for row in found.rows] == ["a red wall", "see now"]  # a repeated row stands once
    assert found.dropped == {"no words": 1, "photo missing": 2, "photo unreadable": 1}
    assert found.changed == {"link removed": 1}
    assert (found.missing, found.unreadable) == ([str(photos / "gone.png")], [str(photos / "broken.png")])


def test_the_split_is_by_photo_and_known_again(photos):
    rows = [Row(row["image"], row["caption"]) for row in caption_rows(sorted(photos.glob("*.png")))]
    first, again, other = (split_rows(rows, 0.4, seed) for seed in (3, 3, 4))
    assert {row.image for row in first.train}.isdisjoint({row.image for row in first.held_out})
    assert len(first.train) + len(first.held_out) == len(rows) and len({row.image for row in first.held_out}) == 2
    assert first == again and first.hash != other.hash
    assert data.leaks(first.train, first.held_out)["photos_seen"] == 0
    assert data.leaks(rows, first.held_out) == {"photos_seen": 1, "captions_seen": 1}
    for share in (0.01, 0.99):
        with pytest.raises(UserError, match="leaves one side of the split empty"):
            split_rows(rows, share, 0)


def test_photos_are_opened_when_they_are_asked_for(photos, tmp_path):
    """The original held all pixels in memory."""
    opened = []
    rows = [Row(str(photos / f"{colour}.png"), colour) for colour in COLOURS]
    look = lambda image: opened.append(image) or {"pixel_values": image}
    some = PhotoRows(rows, Letters(), 128, look, tmp_path / "broken.txt")
    assert len(some) == 6 and opened == []
    assert some[2]["pixel_values"] == opened[0] == rows[2].image and len(opened) == 1


def test_a_photo_that_breaks_off_is_named_once_and_passed_over(photos, tmp_path):
    whole = (photos / "img/one.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    rows = [Row(str(photos / name), "abc") for name in ("cut.jpg", "red.png")]

    def look(image):
        return {"pixel_values": data.open_rgb(image).size}

    some = PhotoRows(rows, Letters(), 128, look, tmp_path / "broken.txt")
    assert some[0]["pixel_values"] == some[0]["pixel_values"] == (48, 48)
    assert len((tmp_path / "broken.txt").read_text().splitlines()) == 1
    with pytest.raises(UserError, match="no photo can be read"):
        PhotoRows(rows[:1], Letters(), 128, look, tmp_path / "broken.txt")[0]


def test_padding_is_masked_and_the_end_never_is(tmp_path):
    """With pad = end, the original learned from padding; masking by token would mask the end, too."""
    import torch

    rows = [Row("a", "ab"), Row("b", "abcdef"), Row("c", "a" * 20)]
    some = PhotoRows(rows, Letters(), 8, lambda image: {"pixel_values": torch.zeros(3, 2, 2)}, tmp_path / "broken.txt")
    batch = data.collate([some[0], some[1]])
    assert batch["labels"].tolist()[0] == [97, 98, ENDS, -100, -100, -100, -100]
    assert batch["labels"][1, -1] == ENDS and batch["pixel_values"].shape == (2, 3, 2, 2)
    assert data.collate([some[0]])["labels"].shape == (1, 3)  # as long as its batch needs
    assert some[2]["labels"] == [97] * 8  # cut: it does not teach to end here


def test_augmentation_mirrors_no_photo_whose_caption_says_left(tmp_path):
    from transformers import ViTImageProcessor

    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 32, 64))
    image.save(tmp_path / "half.png")
    file = str(tmp_path / "half.png")
    rows = [Row(file, "a man on the Left"), Row("other", "what is leftover")]
    assert data.with_side(rows) == {file}
    processor = ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False)
    for sided, ways in ((data.with_side(rows), 1), (set(), 2)):
        look = data.looker(processor, True, sided)
        found = [look(file)["pixel_values"] for _ in range(20)]
        assert len({bool(pixels[:, :, 0].mean() > pixels[:, :, -1].mean()) for pixels in found}) == ways
        assert all(pixels.shape == (3, 32, 32) for pixels in found)
    plain = data.looker(processor, False)
    assert (plain(file)["pixel_values"] == plain(file)["pixel_values"]).all()


def test_the_shared_sets_are_read(shared):
    sources = [
        Source(csv=shared / f"data/{name}/captions.csv", photos=shared / f"data/{name}/images")
        for name in ("flickr_captions", "coco_captions")
    ]
    found = gather(sources, Cleaning())
    assert len(found.photos) == 1235 and found.missing == found.unreadable == [] and len(found.rows) > 6000
