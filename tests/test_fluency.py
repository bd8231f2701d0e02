"""A small model's slips are told from good comments."""

import json
from pathlib import Path

import pytest

from language.comment import CommentWriter, corpus
from language.comment.card import POCKET
from language.comment.fluency import (
    load_sequences,
    new_sequences,
    save_sequences,
    sequences,
    stutters,
    wrong_article,
    wrong_particle,
)
from language.comment.whole import of_another_thing
from language.records import ElementList
from language.render import render_target

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
        written = corpus.build(2000, lang=lang)
        assert sum(stutters(pair.comment) for pair in written) / len(written) < 0.02
        assert not any(wrong_article(pair.comment) for pair in written)


def test_names_stand_for_each_other_and_sentences_have_ends():
    elements = ElementList.parse("우주 정거장", "ko")
    assert sequences("우주 정거장까지 왔네요! 좋죠 😊", elements) == [
        "| _ 까지 왔네요",
        "_ 까지 왔네요 |",
        "까지 왔네요 | 좋죠",
        "왔네요 | 좋죠 |",
    ]
    english = ElementList.parse("Hat", "en")
    assert sequences("Two hats, one Smile 😊", english) == ["| two _ one", "two _ one smile", "_ one smile |"]
    assert sequences("Wow 😊", english) == ["| wow |"] and sequences("", english) == ["|"]


def test_what_was_taught_is_known_and_nothing_else(tmp_path):
    save_sequences([(ElementList.parse("모자"), "모자가 멋져요! 😊")], tmp_path)
    known = load_sequences(tmp_path)
    count = lambda text, names: new_sequences(text, ElementList.parse(names, "ko"), known)
    assert known.size == 2 and list(known) == sorted(known)
    assert count("우산이 멋져요 🥰", "우산") == 2  # another particle
    assert count("나무가 멋져요 🥰", "나무") == 0  # another thing, said alike
    assert count("모자가 아주 멋져요! 😊", "모자") == 3


@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_the_corpus_says_what_the_writers_were_taught(model):
    known = load_sequences(POCKET[model])
    for lang in corpus.LANGUAGES:
        pairs = corpus.build(1000, lang=lang)
        few = [new_sequences(p.comment, ElementList.parse(p.elements, lang), known) == 0 for p in pairs]
        assert sum(few) / len(few) > 0.93  # the rest was held out, or written since


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
        assert new_sequences(text, elements, load_sequences(model)) > 0


def test_what_the_model_mixes_up_is_not_said(monkeypatch):
    writer = CommentWriter("t5", "en")
    monkeypatch.setattr(writer, "sequences", load_sequences(POCKET["t5"])[:1])
    comment = writer.write("Tree", seed=1)[0]
    assert comment.source == "whole comment"


def test_a_writer_of_other_pairs_may_say_anything(tmp_path):
    assert new_sequences("Zzz zzz zzz", ElementList.parse("Tree", "en"), load_sequences(tmp_path)) == 0


@pytest.mark.parametrize("model", ["t5", "gpt2"])
def test_the_end_is_among_the_next_tokens(model):
    """CTranslate2 leaves it out of alternatives, and a second emoji followed every emoji in the middle."""
    writer = CommentWriter(model)
    ended = 0
    for pair in corpus.build(20, seed=8):
        elements = ElementList.parse(pair.elements, "ko")
        told = writer.decoder.tokens(render_target(elements, pair.comment))
        [options] = writer.decoder.next_tokens(writer.source_tokens(elements), [told], 8)
        ended += options[0][0][-1] == writer.decoder.eos
    assert ended >= 18


def test_what_was_taught_stands_beside_each_embedded_writer():
    for folder in POCKET.values():
        assert (folder / "sequences.bin").is_file() and json.loads((folder / "writer.json").read_text("utf-8"))
        assert sum(file.stat().st_size for file in Path(folder).iterdir()) <= 12_000_000


def test_a_particle_fits_the_name_before_it():
    elements = ElementList.parse("간식, 모자, 연필")
    for text in ("간식으로 채워요", "모자로 가려요", "연필로 써요", "간식이 좋아요", "모자가 좋아요", "모자랑 놀아요"):
        assert not wrong_particle(text, elements), text
    for text in (
        "간식로 채워요",
        "모자으로 가려요",
        "연필으로 써요",
        "간식가 좋아요",
        "모자이 좋아요",
        "간식를 나눠요",
    ):
        assert wrong_particle(text, elements), text
    assert not wrong_particle("That hat is fun", ElementList.parse("hat", "en"))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("칫솔", "저는 칫솔이 나오는 경기라면 규칙도 모르면서 목청껏 응원부터 해요 📣"),  # a frame for sports gear
        ("bell tower", "The bell tower has a way of making me lower my voice, even in front of a photo 🤫"),
    ],
)
def test_what_was_written_for_another_thing_is_told(names, text):
    elements = ElementList.parse(names, "ko" if names == "칫솔" else "en")
    assert of_another_thing(text, elements, "polite")


def test_no_line_is_taken_from_its_own_thing():
    for lang in corpus.LANGUAGES:
        said = [pair for n, pair in enumerate(corpus.every_line(lang, "polite")) if n % 40 == 0]
        assert len(said) > 500 and not any(of_another_thing(text, elements, "polite") for elements, text in said)
