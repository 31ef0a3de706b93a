# SPDX-License-Identifier: Apache-2.0
"""Texts that are trained and scored as they are: marks at words, and characters of a test alone."""

import pytest

from espnet_ext.data.text_form import punctuated, unlearnt


@pytest.fixture
def table(tmp_path):
    def write(*texts):
        path = tmp_path / f"text{len(list(tmp_path.iterdir()))}"
        path.write_text("".join(f"u{i} {text}\n" for i, text in enumerate(texts)))
        return path

    return write


def test_punctuation_at_words_is_told_with_examples(table):
    (line,) = punctuated(
        table("Author of the trail, Philip, etc.", "«Oui», 'em it's well-known"), "s"
    )
    assert line.startswith("4 of 10 words of s have punctuation ('trail,', 'Philip,', 'etc.')")
    assert "remove it where local/ reads the corpus" in line


@pytest.mark.parametrize(
    "texts",
    [("it's 'em well-known", "U.S A.M"), ("<date> le deux mai > [noise] . <unk>",), (), ("",)],
)
def test_what_belongs_to_words_and_symbols_is_no_punctuation(table, texts):
    assert punctuated(table(*texts), "s") == []


def test_a_slip_of_one_transcript_is_not_told(table):
    assert punctuated(table(*["one two three four"] * 30, "five."), "s") == []


def test_a_test_in_another_case_is_told(table):
    (line,) = unlearnt([table("ONE TWO", "THE END")], table("one two", "the END"), "test")
    assert line.startswith("3 of 4 words of test have characters that no training text has (")
    assert line.endswith("; are they written in another case?")


def test_characters_are_those_of_all_training_sets_but_not_of_tags(table):
    train = [table("ab"), table("c <tag> d >")]
    assert unlearnt(train, table("a <other> bcd >"), "test") == []
    (line,) = unlearnt(train, table("ab ax1"), "test")
    assert line == "1 of 2 words of test have characters that no training text has (1 x)"


def test_without_training_texts_nothing_is_said(table, tmp_path):
    assert unlearnt([tmp_path / "none"], table("ab"), "test") == []
