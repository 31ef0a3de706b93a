# SPDX-License-Identifier: Apache-2.0
"""Lines of text files keep their numbers, whatever is left out, and errors name them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.data.lines import table_lines, utf8_lines
from espnet_ext.errors import DataError

PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters=" \t"))


@given(lines=st.lists(PLAIN), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
def test_numbers_are_those_of_the_file(tmp_path_factory, lines, end, bom):
    path = tmp_path_factory.mktemp("lines") / "list.txt"
    text = "".join(line + end for line in lines)
    if text.startswith("\ufeff"):  # the text's own would be taken for the file's
        bom = True
    path.write_bytes(("\ufeff" * bom + text).encode())
    every = list(enumerate(lines, 1))
    assert list(utf8_lines(path, blank=True)) == [(n, line.strip()) for n, line in every]
    assert list(utf8_lines(path)) == [(n, line.strip()) for n, line in every if line.strip()]
    assert list(table_lines(path)) == [(n, line) for n, line in every if line.strip()]


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        (b"a\n\nb\xe9\n", utf8_lines, "not UTF-8.*list.txt:3"),
        (b"a\tb\n\nb\xe9\n", table_lines, "not UTF-8.*list.txt:3"),
        (b"a\tb\nc\td\x00\n", table_lines, r"control character '\\x00'.*list.txt:2"),
        (b"a\tb\rc\td\n", table_lines, r"control character '\\r'.*list.txt:1"),
        (None, utf8_lines, "list.txt is missing"),
        (None, table_lines, "list.txt is missing"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, read, message):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as e:
        list(read(path))
    assert re.search(message, str(e.value), re.DOTALL), str(e.value)
