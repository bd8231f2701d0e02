"""Pairs come in from every kind of file, mistakes are named, and splits do not leak."""

import json

import pytest

from common.errors import UserError
from language.comment import corpus
from language.comment.pairs import element_set, leaks, read_keys, read_pairs, split_pairs
from language.records import Pair, write_pairs

PAIRS = [Pair("당황, 모자", "깜짝이야! 😆"), Pair("", "좋은 하루예요"), Pair("hat", "Nice hat 😊", "en", "casual")]


def test_every_format_holds_the_same_pairs(tmp_path):
    from datasets import Dataset

    assert write_pairs(tmp_path / "pairs.jsonl", PAIRS) == 3
    rows = [[p.elements, p.comment, p.lang, p.style] for p in PAIRS]
    table = "elements,comment,lang,style\n" + "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows)
    (tmp_path / "pairs.csv").write_text(table, "utf-8-sig")
    Dataset.from_list(
        [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()]
    ).save_to_disk(str(tmp_path / "saved"))
    for name in ("pairs.jsonl", "pairs.csv", "saved"):
        assert list(read_pairs(tmp_path / name).values()) == PAIRS, name
    (tmp_path / "original.json").write_text(json.dumps({"7": ["공포, 모자", " 깜짝이야! "]}), "utf-8")
    assert read_pairs(tmp_path / "original.json") == {"7": Pair("공포, 모자", "깜짝이야!")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"elements": "a", "comment": "b"}\n{"elements": "a"}\n', "row 1: needs elements and comment"),
        ("p.jsonl", '{"elements": "a", "coment": "b"}\n', "found: elements, coment"),
        ("p.jsonl", '{"elements": "a", "comment": "b", "mood": "c"}\n', "unknown columns mood"),
        ("p.jsonl", '{"elements": "a", "comment": " "}\n', "the comment is blank"),
        ("p.jsonl", '{"elements": 3, "comment": "b"}\n', "every cell must be text"),
        ("p.jsonl", "nonsense\n", "holds no pairs"),
        ("p.csv", "elements,comments\na,b\n", "found: elements, comments"),
        ("p.csv", "elements,comment\n모자,\n", "row 0: the comment is blank"),
        ("p.csv", "elements,comment\n모자,좋네요\n".encode("cp949"), "not UTF-8"),
        ("p.json", '{"0": ["a", "b"], "0": ["c", "d"]}', "keys stand twice: 0"),
        ("p.json", '{"0": ["a"]}', "row 0 is not [elements, comment]"),
        ("p.json", "[1]", "must be {key: [elements, comment]}"),
        ("none.jsonl", None, "cannot read the pairs"),
    ],
)
def test_mistakes_are_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_pairs(tmp_path / name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_dataset_and_missing_keys(tmp_path):
    with pytest.raises(UserError, match="holds no dataset"):
        read_pairs(tmp_path)
    with pytest.raises(UserError, match="cannot read the keys"):
        read_keys(tmp_path / "keys.txt")


def test_held_out_sets_never_stand_in_training():
    pairs = [p for lang in corpus.LANGUAGES for p in corpus.build(1000, 1, lang)]
    split = split_pairs(pairs, 0.1, seed=0)
    assert len(split.train) + len(split.held_out) == 2000 and split.held_out
    assert leaks(split.train, split.held_out)["sets_seen"] == 0
    assert frozenset() in {element_set(p) for p in split.train}  # the empty list is always learned
    assert {p.lang for p in split.held_out} == {"ko", "en"}


def test_a_random_split_leaks_and_the_report_says_so():
    """83 % of the original's test lists stood in training."""
    pairs = [Pair("기쁨, 모자" if i % 4 else f"모자, {i}", f"댓글 {i % 150}") for i in range(400)]
    split = split_pairs(pairs, 0.2, seed=1, by="random")
    assert len(split.held_out) == 80
    report = leaks(split.train, split.held_out)
    assert (
        0.6 < report["sets_seen"] < 0.9 and report["comments_seen"] > 0.8 and report["pairs_seen"] < report["sets_seen"]
    )
    assert leaks([Pair("모자", "가")], [Pair("hat", "나", "en"), Pair("안경", "가")]) == {
        "sets_seen": 0.5,  # the same thing in another language
        "comments_seen": 0.5,
        "pairs_seen": 0,
    }


def test_the_split_hash_names_the_split():
    pairs = corpus.build(300, 2)
    one, again, other = (split_pairs(pairs, 0.1, seed) for seed in (0, 0, 1))
    assert one == again and one.hash != other.hash and len(one.hash) == 12
