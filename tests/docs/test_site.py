# SPDX-License-Identifier: Apache-2.0
"""The site of docs/ is built without a warning, and its pages need no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as ``make docs`` does."""
    out = tmp_path_factory.mktemp("site")
    line = re.search(
        r"^docs:.*\n.*?(-m sphinx .*?) docs build/docs", (ROOT / "Makefile").read_text(), re.M
    )
    done = subprocess.run(
        [sys.executable, *line[1].split(), "docs", str(out)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_built_and_can_be_reached(site):
    built = {p.relative_to(site).with_suffix("") for p in site.rglob("*.html")}
    assert {
        p.relative_to(ROOT / "docs").with_suffix("") for p in (ROOT / "docs").rglob("*.md")
    } <= built


def test_pages_load_nothing_from_the_network(site):
    loads = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*\"")
    assert [m for p in site.rglob("*.html") for m in loads.findall(p.read_text())] == []


def test_the_first_page_shows_table_and_figure(site):
    text = (site / "index.html").read_text()
    assert (
        "Verdict" in text
        and "results.png" in text
        and "egs2/" not in re.sub(r"<code.*?</code>", "", text)
    )


def test_pages_link_to_one_another_and_not_to_what_the_site_lacks(site):
    page = (site / "add/corpus.html").read_text()
    assert 'href="../recipes.html"' in page
    links = (
        m for p in site.rglob("*.html") for m in re.findall(r'href="([^"#:]+\.md)"', p.read_text())
    )
    assert list(links) == []
