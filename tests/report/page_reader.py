# SPDX-License-Identifier: Apache-2.0
"""What stands in a page, found by a parser of HTML."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "input", "link", "br", "img"}


class Row(list):
    """Texts of the cells; ``keys`` are what they are sorted by, by column."""

    def __init__(self):
        super().__init__()
        self.keys: dict[int, str] = {}


class Table:
    """Rows of a table's body, below the title before it."""

    def __init__(self, title: str, attributes: dict):
        self.title, self.attributes, self.rows = title, attributes, []


class PageReader(HTMLParser):
    """Collects tables, cards, curves and addresses."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text
        self.path: list[tuple[str, dict]] = []
        self.tables: dict[str, list[Table]] = {}
        self.cards: list[dict] = []
        self.lines: list[dict] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.dels: dict[str, list[str]] = {}
        self.inss: dict[str, list[str]] = {}
        self.texts: dict[str, str] = {}
        self.script = self.style = self.policy = self.notes = ""
        self._title = self._chart = ""
        self.feed(text)
        self.close()
        assert not self.path, self.path  # every element is closed

    @property
    def score_tables(self) -> list[Table]:
        return [t for t in self.tables.get("scores", []) if "runs" not in t.attributes["class"]]

    @property
    def run_tables(self) -> list[Table]:
        return [t for t in self.tables.get("scores", []) if "runs" in t.attributes["class"]]

    def card_text(self, name: str) -> str:
        return self.texts[name]

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.addresses += [a[k] for k in ("src", "href") if a.get(k)]
        self.handlers += [k for k in a if k.startswith("on") or k == "style"]
        if a.get("http-equiv") == "Content-Security-Policy":
            self.policy = a["content"]
        if tag == "table":
            self.tables.setdefault(self._section(), []).append(Table(self._title.strip(), a))
        if tag == "tr" and any(t == "tbody" for t, _ in self.path) and self._last:
            self._last.rows.append(Row())
        if tag in ("td", "th") and any(t == "tbody" for t, _ in self.path):
            row = self._last.rows[-1]
            row.append("")
            if "data-key" in a:
                row.keys[len(row) - 1] = a["data-key"]
        if tag == "article":
            self.cards.append(a)
        if tag == "h3":
            self._title = ""
        if tag == "figcaption":
            self._chart = ""
        if tag == "path" and "data-points" in a:
            self.lines.append({**a, "chart": self._chart})
        if tag in ("del", "ins") and self._card:
            (self.dels if tag == "del" else self.inss).setdefault(self._card, []).append("")
        if tag not in VOID:
            self.path.append((tag, a))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.path.pop()

    def handle_endtag(self, tag):
        assert self.path and self.path[-1][0] == tag, (tag, self.path[-1:], self.getpos())
        self.path.pop()

    def handle_data(self, data):
        tags = [t for t, _ in self.path]
        if "script" in tags:
            self.script += data
        elif "style" in tags:
            self.style += data
        if any("notes" in (a.get("class") or "") or "warn" in (a.get("class") or "")
               for _, a in self.path):  # fmt: skip
            self.notes += data
        if "h3" in tags:
            self._title += data
        if "figcaption" in tags:
            self._chart += data
        if "tbody" in tags and tags[-1] in ("td", "th", "strong") and self._last.rows[-1]:
            self._last.rows[-1][-1] = (self._last.rows[-1][-1] + data).strip()
        if self._card:
            self.texts[self._card] = self.texts.get(self._card, "") + data
            if tags[-1] in ("del", "ins"):
                (self.dels if tags[-1] == "del" else self.inss)[self._card][-1] += data

    @property
    def _card(self) -> str:
        return next((a["data-name"] for t, a in self.path if t == "article"), "")

    @property
    def _last(self) -> Table:
        return self.tables[self._section()][-1]

    def _section(self) -> str:
        return next((a.get("id", "") for t, a in self.path if t == "section"), "")


def read_page(path: Path) -> PageReader:
    """Read a page."""
    return PageReader(path.read_text(encoding="utf-8"))
