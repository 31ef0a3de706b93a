# SPDX-License-Identifier: Apache-2.0
"""Tokens, numbers, vectors and matrices as Kaldi writes them, binary or text.

A binary file starts with ``\\0B``. In it a token ends with a space, a number has a byte with its
size in front (negative: unsigned), and a vector of integers has one such byte for all of them.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from espnet_ext.errors import DataError

BINARY = b"\0B"
READ_ERRORS = (EOFError, zlib.error, OSError)
MAX_SIZE = 1 << 28  # a larger vector is a corrupt size field, not data
_GZIP = b"\x1f\x8b"
_FLOATS = {4: "<f4", 8: "<f8"}


@contextmanager
def open_stream(path: Path | str) -> Iterator[io.BufferedReader]:
    """Open a plain or gzipped file for reading bytes; the content decides, not the name."""
    if not Path(path).is_file():
        raise DataError(f"{Path(path).name} is missing", path)
    with open(path, "rb") as raw:
        if raw.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=raw) as unzipped, io.BufferedReader(unzipped) as stream:
                yield stream
        else:
            yield raw


class TokenReader:
    """Reads what Kaldi wrote, from a stream that stands at its first byte.

    Args:
        stream: Bytes with or without the binary mark.
        where: File name for errors.
    """

    def __init__(self, stream: io.BufferedReader, where: Path | str):
        self._stream, self.where, self._offset = stream, where, 0
        self._waiting: list[str] = []  # text only: tokens of the line, last first
        self._ahead: str | None = None
        try:
            self.binary = stream.peek(2)[:2] == BINARY
        except READ_ERRORS as e:
            raise self.error(f"cannot be read ({e})") from None
        if self.binary:
            self._bytes(2)

    def error(self, what: str) -> DataError:
        """Return an error that names the file and the place in it."""
        return DataError(
            what, f"{self.where}, about byte {self._offset}", "copy the file again from its source"
        )

    def _bytes(self, n: int) -> bytes:
        if not 0 <= n <= 8 * MAX_SIZE:
            raise self.error(f"not a Kaldi file: a size of {n}")
        try:
            got = self._stream.read(n)
        except READ_ERRORS as e:
            raise self.error(f"truncated or damaged ({e})") from None
        self._offset += len(got)
        if len(got) != n:
            raise self.error("truncated: the file ends in the middle of a value")
        return got

    def _text_token(self) -> str | None:
        while not self._waiting:
            try:
                line = self._stream.readline()
                tokens = line.decode("utf-8").split()
            except UnicodeDecodeError:
                raise self.error("neither Kaldi binary nor UTF-8 text") from None
            except READ_ERRORS as e:
                raise self.error(f"truncated or damaged ({e})") from None
            if not line:
                return None
            self._offset += len(line)
            self._waiting = tokens[::-1]
        return self._waiting.pop()

    def _binary_token(self) -> str | None:
        got = bytearray()
        while True:
            try:
                byte = self._stream.read(1)
            except READ_ERRORS as e:
                raise self.error(f"truncated or damaged ({e})") from None
            self._offset += len(byte)
            if byte.isspace() and not got:
                continue
            if not byte or byte.isspace():
                break
            got += byte
            if len(got) > 100:
                raise self.error("not a Kaldi file: no token where one must be")
        return got.decode("latin-1") if got else None

    def peek_token(self) -> str | None:
        """Return the next token without taking it; None at the end of the file."""
        if self._ahead is None:
            self._ahead = self._binary_token() if self.binary else self._text_token()
        return self._ahead

    def token(self) -> str:
        """Return the next token."""
        token, self._ahead = self.peek_token(), None
        if token is None:
            raise self.error("truncated: the file ends where more must follow")
        return token

    def expect(self, *tokens: str) -> str:
        """Return the next token, which must be one of ``tokens``."""
        got = self.token()
        if got not in tokens:
            raise self.error(f"expected {' or '.join(tokens)}, found {got!r}")
        return got

    def integer(self) -> int:
        """Return the next integer."""
        if self.binary:
            size = int.from_bytes(self._bytes(1), "little", signed=True)
            if abs(size) not in (1, 2, 4, 8):
                raise self.error("expected an integer")
            return int.from_bytes(self._bytes(abs(size)), "little", signed=size > 0)
        try:
            return int(token := self.token())
        except ValueError:
            raise self.error(f"expected an integer, found {token!r}") from None

    def real(self) -> float:
        """Return the next real number, single or double precision."""
        if self.binary:
            size = self._bytes(1)[0]
            if size not in _FLOATS:
                raise self.error("expected a real number")
            return float(np.frombuffer(self._bytes(size), _FLOATS[size])[0])
        return self._number(self.token())

    def integers(self) -> list[int]:
        """Return the next vector of integers."""
        if not self.binary:
            return [int(self._number(t)) for t in self._bracketed()]
        if self._bytes(1) != b"\x04":
            raise self.error("expected a vector of 32-bit integers")
        return np.frombuffer(self._bytes(4 * self._raw_size()), "<i4").tolist()

    def reals(self) -> np.ndarray:
        """Return the next vector ``(n,)`` of real numbers."""
        if not self.binary:
            return np.asarray([self._number(t) for t in self._bracketed()], np.float32)
        kind = self.expect("FV", "DV")
        return self._array(self.integer(), kind)

    def matrix_rows(self) -> int:
        """Skip the next matrix and return its number of rows (text: of numbers)."""
        if not self.binary:
            return len(self._bracketed())
        kind = self.expect("FM", "DM")
        rows, cols = self.integer(), self.integer()
        self._array(rows * cols, kind)
        return rows

    def _array(self, n: int, kind: str) -> np.ndarray:
        dtype = np.dtype(_FLOATS[4 if kind[0] == "F" else 8])
        return np.frombuffer(self._bytes(n * dtype.itemsize), dtype)

    def _raw_size(self) -> int:
        return int.from_bytes(self._bytes(4), "little", signed=True)

    def _bracketed(self) -> list[str]:
        self.expect("[")
        got = []
        while (token := self.token()) != "]":
            got.append(token)
        return got

    def _number(self, token: str) -> float:
        try:
            return float(token)
        except ValueError:
            raise self.error(f"expected a number, found {token!r}") from None
