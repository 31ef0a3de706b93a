# SPDX-License-Identifier: Apache-2.0
"""The drawing of the architecture shows the rooms that there are."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from espnet_ext.recipe.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]


def test_the_drawing_has_every_room_and_every_stage():
    drawing = ET.parse(ROOT / "docs/architecture.svg")
    texts = list(drawing.iter("{http://www.w3.org/2000/svg}text"))
    rooms = {t.text for t in texts if t.get("class") == "room"}
    assert rooms == {p.parent.name for p in ROOT.glob("espnet_ext/*/__init__.py")}
    shown = ", ".join(t.text for t in texts)
    assert [s for s in STAGES if f"{s.number} {s.name}" not in shown] == []


def test_the_page_of_recipes_lists_the_stages():
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d+) \| (\w+) \|", page, re.M)
    assert shown == [(str(s.number), s.name) for s in STAGES]
