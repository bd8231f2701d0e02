"""A small model's slips are told from good comments."""

import json
from pathlib import Path

import pytest

from language.comment import CommentWriter, corpus
from language.comment.card import POCKET
from language.comment.fluency import MOST_NEW, load_threes, new_threes, save_threes, stutters, threes, wrong_article
from language.records import ElementList, Pair

KINDEST = "At two in the morning the convenience store is the kindest place in town 🌙"


@pytest.mark.parametrize(
    "text",
    [
        "Let the van van forget the lights 💙",
        "May the scarf be quiet quiet and calm. 🧡",
        "The tree spreads out wide, the tree spreads out wide 🌳",
        "Half the wardrobe is a wardrobe, and a wardrobe has a wardrobe 🧥",
        "선풍기 바람 바람 기분이 좋아요 💖",
    ],
)
def test_a_comment_that_cannot_get_away_from_a_word_stutters(text):
    assert stutters(text)


@pytest.mark.parametrize(
    "text", [KINDEST, "고양이가 자리 잡은 곳이 제일 좋은 명당이잖아요! 이런 게 소확행이죠! 👏", "Oh, no"]
)
def test_a_good_comment_does_not(text):
    assert not stutters(text)


@pytest.mark.parametrize(
    "text", ["A armadillo, it's heavy enough. 🔥", "What an hat! 😊", "Half an year, a hour, a honest try 🌿"]
)
def test_an_article_that_does_not_agree_is_told(text):
    assert wrong_article(text)


@pytest.mark.parametrize(
    "text", ["An hour with a ukulele and a European unicycle 🎉", "An SUV, a UFO and a one-off 🚗", "모자가 멋져요! 😊"]
)
def test_an_article_that_agrees_is_not(text):
    assert not wrong_article(text)


def test_our_corpus_hardly_stutters():
    for lang in corpus.LANGUAGES:
        written = corpus.written(lang)
        assert sum(stutters(pair.comment) for pair in written) / len(written) < 0.02
        assert not any(wrong_article(pair.comment) for pair in written)


def test_names_stand_for_each_other_and_sentences_have_ends():
    elements = ElementList.parse("우주 정거장", "ko")
    assert threes("우주 정거장까지 왔네요! 좋죠 😊", elements) == [
        "| _ 까지",
        "_ 까지 왔네요",
        "까지 왔네요 |",
        "왔네요 | 좋죠",
        "| 좋죠 |",
    ]
    english = ElementList.parse("Hat", "en")
    assert threes("Two hats, one Smile 😊", english) == ["| two _", "two _ one", "_ one smile", "one smile |"]
    assert threes("", english) == []


def test_what_was_taught_is_known_and_nothing_else(tmp_path):
    save_threes([Pair("모자", "모자가 멋져요! 😊", "ko", "polite")], tmp_path)
    known = load_threes(tmp_path)
    count = lambda text, names: new_threes(text, ElementList.parse(names, "ko"), known)
    assert known.size == 3 and list(known) == sorted(known)
    assert count("우산이 멋져요 🥰", "우산") == 3  # another particle
    assert count("나무가 멋져요 🥰", "나무") == 0  # another thing, said alike
    assert count("모자가 아주 멋져요! 😊", "모자") == 3


@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_the_corpus_says_what_the_writers_were_taught(model):
    known = load_threes(POCKET[model])
    for lang in corpus.LANGUAGES:
        pairs = corpus.written(lang)
        few = [new_threes(p.comment, ElementList.parse(p.elements, lang), known) <= MOST_NEW for p in pairs]
        assert sum(few) / len(few) > 0.95  # the rest was held out


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Count me in, I'm not on the land vehicle has to go hand and the keys! 🤗", "land vehicle"),
        ("Absolutely not prepared, than me pillow 🌪️", "pillow"),
        ("타이어도 달릴 준비를 마쳤네! 껍질 건 하나도 안 바쁘네! 💫", "타이어"),
    ],
)
def test_sentences_mixed_up_at_their_seam_are_told(text, names):
    lang = "ko" if text[0] == "타" else "en"
    elements = ElementList.parse(names, lang)
    for model in POCKET.values():
        assert new_threes(text, elements, load_threes(model)) > MOST_NEW


def test_what_the_model_mixes_up_is_not_said(monkeypatch):
    writer = CommentWriter("t5", "en")
    monkeypatch.setattr(writer, "threes", load_threes(POCKET["t5"])[:1])
    comment = writer.write("Tree", seed=1)[0]
    assert comment.source == "phrase bank"


def test_a_writer_of_other_pairs_may_say_anything(tmp_path):
    assert new_threes("Zzz zzz zzz", ElementList.parse("Tree", "en"), load_threes(tmp_path)) == 0


@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_the_end_is_among_the_next_tokens(model):
    """CTranslate2 leaves it out of alternatives, and a second emoji followed every emoji in the middle."""
    writer = CommentWriter(model)
    source = writer._source(ElementList.parse("분노, 재킷", "ko"))
    text = "재킷:속에 쌓아 두면 병나요, 다 털어 내세요. 🙏 바람이 차니 재킷 잘 여미고 다니세요."
    [options] = writer.decoder.next_tokens(source, [writer.decoder.tokens(text)], 8)
    assert options[0][0][-1] == writer.decoder.eos


def test_what_was_taught_stands_beside_each_embedded_writer():
    for folder in POCKET.values():
        assert (folder / "threes.bin").is_file() and json.loads((folder / "writer.json").read_text("utf-8"))
        assert sum(file.stat().st_size for file in Path(folder).iterdir()) <= 12_000_000
