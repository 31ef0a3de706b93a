# SPDX-License-Identifier: Apache-2.0
"""Annotated turns of XML corpora: a safe parser that knows lines, and turns cut into utterances.

Files come from users, so entities are refused and nothing outside the file is read.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from espnet_ext.errors import DataError
from espnet_ext.text.tagged import CLOSE

SYNC, TURN = "sync", "turn"
WORDS, NORMALISED = "words", "normalised"
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["']""")
_MARKS = re.compile("[<>]")


@dataclass
class Node:
    """An element; ``content`` holds texts and elements in their order."""

    tag: str
    attributes: dict[str, str]
    line: int
    content: list["Node | str"] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def children(self, tag: str) -> list["Node"]:
        """Return the elements directly below that have this name."""
        return [node for node in self.content if isinstance(node, Node) and node.tag == tag]

    def all(self, tag: str) -> Iterator["Node"]:
        """Yield the elements of this name at any depth, in order."""
        for node in self.content:
            if isinstance(node, Node):
                if node.tag == tag:
                    yield node
                yield from node.all(tag)

    def text(self) -> str:
        """Return all text below, elements replaced by a space."""
        parts = (node if isinstance(node, str) else node.text() for node in self.content)
        return " ".join(" ".join(parts).split())


def decode(data: bytes) -> str:
    """Return the text of an XML file: its declared encoding, else UTF-8, else ISO-8859-1."""
    declared = _DECLARED.match(data.removeprefix(b"\xef\xbb\xbf"))
    for encoding in (declared[1].decode() if declared else "utf-8", "utf-8"):
        try:
            return data.decode("utf-8-sig" if encoding.lower() == "utf-8" else encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("iso-8859-1")


def parse(path: Path, repair: Callable[[str], str] = str) -> Node:
    """Parse a file.

    Args:
        path: Of the file.
        repair: Called with the text before it is parsed.

    Returns:
        The root element.

    Raises:
        DataError: It is missing, not well-formed, or declares entities.
    """
    if not path.is_file():
        raise DataError("the annotation is missing", path, "complete the copy of the corpus")
    top = Node("", {}, 0)
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        node = Node(tag, attributes, parser.CurrentLineNumber)
        stack[-1].content.append(node)
        stack.append(node)

    def entity(name: str, *_: object) -> None:
        how = "write the character itself; a document type without entities may stay"
        raise DataError(f"the file declares the entity '{name}'",
                        f"{path}:{parser.CurrentLineNumber}", how)  # fmt: skip

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = lambda text: stack[-1].content.append(text)
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(repair(decode(path.read_bytes())), True)
    except expat.ExpatError as e:
        what = f"not well-formed XML: {expat.ErrorString(e.code)}"
        raise DataError(what, f"{path}:{e.lineno}", "copy the file again, or correct it") from None
    return top.content[0]


def seconds(node: Node, name: str, where: str) -> float:
    """Return an attribute as a time.

    Raises:
        DataError: It is missing or no number.
    """
    try:
        value = float(node.get(name))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        what = f"{name} of <{node.tag}> is '{node.get(name)}', not a time in seconds"
        raise DataError(what, where, "correct it")
    return value


class Open(NamedTuple):
    """A concept begins; its tag is written before the first word. ``null`` or empty: none."""

    concept: str
    value: str = ""


class Close(NamedTuple):
    """The concept ends."""


class Sync(NamedTuple):
    """A time mark."""

    time_s: float


class Cut(NamedTuple):
    """An utterance: ``[start_s, end_s)``, its words, and the words with tags."""

    start_s: float
    end_s: float
    text: str
    tagged: str


Event = Open | Close | Sync | str


class Cutter:
    """Turns the events of a turn into utterances.

    ``sync``: a time mark after speech ends an utterance; within a concept it waits for its
    end, and is void if words follow it there. Time before the first word is cut off at the last
    mark. ``turn``: the whole turn.

    Args:
        segmentation: ``sync`` or ``turn``.
        value: What stands in a unit: ``words`` as they are said, or the ``normalised`` value.
        normalise: Applied to each stretch of text.
    """

    def __init__(self, segmentation: str, value: str, normalise: Callable[[str], str]):
        self.segmentation, self.value, self.normalise = segmentation, value, normalise
        self.unclosed = 0  # concepts that no end mark closes

    def __call__(self, events: Iterable[Event], start_s: float, end_s: float) -> list[Cut]:
        """Return the utterances of the turn ``[start_s, end_s)``; without words there is none."""
        self._begin(start_s, end_s)
        self._turn_end_s, self._done = end_s, []
        self._concept, self._is_open = Open(""), False
        self._waiting: float | None = None
        for event in events:
            if isinstance(event, str):
                self._words(event)
            elif isinstance(event, Sync):
                self._sync(event.time_s)
            else:
                if isinstance(event, Open) and self._is_open:
                    self.unclosed += 1
                self._close()
                if isinstance(event, Open):
                    self._concept = event
        self.unclosed += self._is_open
        self._close()
        self._finish(self._end_s)
        return self._done

    def _begin(self, start_s: float, end_s: float) -> None:
        self._start_s, self._end_s = start_s, end_s
        self._text: list[str] = []
        self._tagged: list[str] = []

    def _words(self, text: str) -> None:
        words = _MARKS.sub(" ", self.normalise(text)).split()
        if not words:
            return
        if not self._is_open and (name := concept_name(self._concept.concept)):
            self._tagged.append(f"<{name}>")
            self._is_open = True
            if self.value == NORMALISED:
                self._tagged += _MARKS.sub(" ", self._concept.value).split()
        self._text += words
        if not (self._is_open and self.value == NORMALISED):
            self._tagged += words
        self._end_s, self._waiting = self._turn_end_s, None

    def _sync(self, time_s: float) -> None:
        if self.segmentation == TURN:
            return
        if not self._text:
            self._start_s = time_s
        elif self._is_open:
            self._waiting = time_s
        else:
            self._finish(time_s)

    def _close(self) -> None:
        if self._is_open:
            self._tagged.append(CLOSE)
        self._concept, self._is_open = Open(""), False
        if self._waiting is not None:
            self._finish(self._waiting)

    def _finish(self, end_s: float) -> None:
        """End the utterance; the next one begins."""
        if self._text:
            texts = " ".join(self._text), " ".join(self._tagged)
            self._done.append(Cut(self._start_s, end_s, *texts))
        self._waiting = None
        self._begin(end_s, self._turn_end_s)


def concept_name(concept: str) -> str:
    """Return the name as one word without brackets; empty for no concept."""
    name = "_".join(_MARKS.sub(" ", concept).split())
    return "" if name == "null" else name


def transcriber_events(turn: Node, where: Callable[[Node], str],
                       rename: Callable[[str], str] = str) -> Iterator[Event]:  # fmt: skip
    """Yield the events of a Transcriber turn with SemDebut(concept, valeur) and SemFin marks."""
    for node in turn.content:
        if isinstance(node, str):
            yield node
        elif node.tag == "SemDebut":
            yield Open(rename(node.get("concept")), node.get("valeur"))
        elif node.tag == "SemFin":
            yield Close()
        elif node.tag == "Sync":
            yield Sync(seconds(node, "time", where(node)))
        else:
            yield node.text()
