# SPDX-License-Identifier: Apache-2.0
"""Links of every Markdown page of the repository lead somewhere: files, headings, pictures."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.M | re.S)
LINK = re.compile(r"\]\(<?([^()\s<>]*(?:\([^()]*\))?[^()\s<>]*)>?(?:\s+\"[^\"]*\")?\)")
ARXIV = re.compile(r"\b(2\d{3}\.\d{5})\b")


def pages() -> list[Path]:
    """Return the Markdown pages that git knows or will know."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in found.split("\0") if name and (path := ROOT / name).is_file()]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    found: dict[str, int] = {}
    for title in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", FENCED.sub("", text), re.M):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {s if n == 0 else f"{s}-{n}" for s, last in found.items() for n in range(last + 1)}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    text, out = page.read_text(encoding="utf-8"), []
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and ROOT in target.parents
        if there and anchor and target.suffix == ".md":
            there = anchor in anchors(target.read_text(encoding="utf-8"))
        out += [] if there else [link]
    return out


def test_links_lead_somewhere():
    assert {str(p.relative_to(ROOT)): b for p in pages() if (b := broken(p))} == {}


def test_broken_ones_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("test_links.ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text(
        "# One `x`\n\n# One x\n[a](b.md) [b](#one-x-1) [c](#two) ![d](a.md#one-x) [e](../out.md)\n"
        "```\n[f](none.md)\n```\n`[g](none.md)` [h](https://example.org/none)\n"
    )
    assert broken(page) == ["b.md", "#two", "../out.md"]


def test_every_paper_of_the_readme_can_be_cited_and_no_other():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cff["cff-version"] == "1.2.0" and cff["license"] == "Apache-2.0"
    for entry in (cff, *cff["references"]):
        assert entry["title"] and entry["authors"] and entry["type"]
    cited = [i["value"].removeprefix("arXiv:") for r in cff["references"] for i in r["identifiers"]]
    assert [r["url"] for r in cff["references"]] == [f"https://arxiv.org/abs/{i}" for i in cited]
    assert set(cited) == set(ARXIV.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    version = re.search(r'__version__ = "(.+?)"', (ROOT / "espnet_ext/__init__.py").read_text())
    assert cff["version"] == version.group(1)
