# SPDX-License-Identifier: Apache-2.0
"""Lines of text files keep their numbers, whatever is left out, and errors name them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.data.lines import table_rows, utf8_lines
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


@given(
    rows=st.lists(st.one_of(st.none(), st.tuples(PLAIN, PLAIN))),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_rows_of_a_table_keep_their_numbers(tmp_path_factory, rows, end):
    path = tmp_path_factory.mktemp("table") / "list.txt"
    cells = [row and [cell.replace("\t", " ") for cell in row] for row in rows]
    lines = ["a\tb", *("" if row is None else "\t".join(row) for row in cells)]
    path.write_bytes("".join(line + end for line in lines).encode())
    columns, found = table_rows(path, ["a"])
    assert columns == ["a", "b"]
    assert list(found) == [
        (n, {"a": row[0].strip(), "b": row[1].strip()})
        for n, row in enumerate(cells, 2)
        if row and "".join(row).strip()
    ]


def table(path):
    return table_rows(path, ["a"], ["b"])[1]


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        (b"a\n\nb\xe9\n", utf8_lines, "not UTF-8.*list.txt:3"),
        (b"a\tb\n\nb\xe9\n", table, "not UTF-8.*list.txt:3"),
        (b"a\tb\nc\td\x00\n", table, r"control character '\\x00'.*list.txt:2"),
        (b"a\tb\rc\td\n", table, r"control character '\\r'.*list.txt:1"),
        (b"a\tb\nc\n", table, "the line has 1 columns, the first line 2.*list.txt:2"),
        (b"b\tc\nc\td\n", table, "names no column a.*list.txt:1.*needs a, .*; b if there are any"),
        (b"", table, "names no column a.*list.txt:1"),
        (b"a\tb\ta\n", table, "the column a stands twice.*list.txt:1"),
        (None, utf8_lines, "list.txt is missing"),
        (None, table, "list.txt is missing"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, read, message):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as e:
        list(read(path))
    assert re.search(message, str(e.value), re.DOTALL), str(e.value)
