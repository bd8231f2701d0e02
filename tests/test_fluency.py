"""A small model's slips are told from good comments."""

import json
from pathlib import Path

import pytest

from language.comment import CommentWriter, corpus
from language.comment.card import POCKET
from language.comment.fluency import load_words, own_words, stutters, vocabulary
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


def test_our_corpus_hardly_stutters():
    for lang in corpus.LANGUAGES:
        written = corpus.written(lang)
        assert sum(stutters(pair.comment) for pair in written) / len(written) < 0.02


def test_words_are_told_from_the_names_in_the_list():
    elements = ElementList.parse("우주 정거장", "ko")
    assert own_words("우주 정거장까지 왔네요! 😊", elements) == {"까지", "왔네요"}
    english = ElementList.parse("Hat", "en")
    assert own_words("Two hats, one Smile 😊", english) == {"two", "one", "smile"}


def test_a_vocabulary_holds_what_pairs_say_once_and_sorted():
    pairs = [Pair("모자", "모자가 멋져요! 😊", "ko", "polite"), Pair("모자", "모자도 멋져요! 😊", "ko", "polite")]
    assert vocabulary(pairs) == ["가", "도", "멋져요"]


@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_the_writers_words_are_those_of_the_corpus(model):
    words = load_words(POCKET[model])
    for lang in corpus.LANGUAGES:
        pairs = corpus.written(lang)
        found = [not own_words(p.comment, ElementList.parse(p.elements, lang)) - words for p in pairs]
        assert sum(found) / len(found) > 0.95  # the rest was held out
    assert {"photogother", "loadues", "chooked"}.isdisjoint(words)


def test_what_the_model_makes_up_is_not_said(monkeypatch):
    writer = CommentWriter("t5", "en")
    monkeypatch.setattr(writer, "words", frozenset({"the", "and"}))
    comment = writer.write("Tree", seed=1)[0]
    assert comment.source == "phrase bank"


def test_a_writer_without_a_list_of_words_says_any(tmp_path):
    assert load_words(tmp_path) == frozenset()


@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_the_end_is_among_the_next_tokens(model):
    """CTranslate2 leaves it out of alternatives, and a second emoji followed every emoji in the middle."""
    writer = CommentWriter(model)
    source = writer._source(ElementList.parse("분노, 재킷", "ko"))
    text = "재킷:속에 쌓아 두면 병나요, 다 털어 내세요. 🙏 바람이 차니 재킷 잘 여미고 다니세요."
    [options] = writer.decoder.next_tokens(source, [writer.decoder.tokens(text)], 8)
    assert options[0][0][-1] == writer.decoder.eos


def test_the_list_of_words_stands_beside_each_embedded_writer():
    for folder in POCKET.values():
        assert (folder / "words.txt").is_file() and json.loads((folder / "writer.json").read_text("utf-8"))
        assert sum(file.stat().st_size for file in Path(folder).iterdir()) <= 12_000_000
