# SPDX-License-Identifier: Apache-2.0
"""The site of docs/: ``make docs``. It needs no network, neither to be built nor to be read."""

import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from espnet_ext import __version__  # noqa: E402

project, author, release = "espnet_ext", "espnet_ext contributors", __version__
project_copyright = "espnet_ext contributors, Apache-2.0"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_theme = "alabaster"
html_theme_options = {"page_width": "78rem", "description": "Speech methods as ESPnet2 recipes"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
toc_object_entries = False  # the sidebar would list every function

# Importing these takes half a minute on a slow machine and adds nothing to a page.
autodoc_mock_imports = ["espnet", "espnet2", "torchaudio", "transformers"]
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
default_role = "code"
# Pieces behind the documented ones; whoever needs them reads the source.
_INNER = (
    r".*_conf\..*",
    r".*\.options\..*",
    r".*\.tiers\..*",
    r".*scoring\.(?:scored|budget_ratio|pairs)\..*",
)
# Types of other packages have their own sites, and this one has no network.
nitpick_ignore_regex = [(r"py:.*", r"(?!espnet_ext\b).*"), *((r"py:.*", x) for x in _INNER)]
_LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\(([^()\s#:]+)(?:#[^()\s]*)?\)")


def _inside(text: str, folder: Path) -> str:
    """Turn links to files of the repository into plain names: the site holds docs/ only."""

    def name(m: re.Match) -> str:
        if (folder / m[2]).resolve().is_relative_to(ROOT / "docs"):
            return m[0]
        return m[1] if m[1].startswith("`") else f"`{m[1]}`"

    return _LINK.sub(name, text)


def _read(app: object, name: str, source: list[str]) -> None:
    source[0] = _inside(source[0], (ROOT / "docs" / name).parent)


def _include(app: object, path: Path, parent: str, source: list[str]) -> None:
    source[0] = _inside(source[0], (ROOT / "docs" / path).resolve().parent)


def _math(writer: object, node: nodes.Element) -> None:
    """Write an equation as MathML, which browsers show without a script."""
    block = isinstance(node, nodes.math_block)
    writer.body.append(convert(node.astext(), display="block" if block else "inline"))
    raise nodes.SkipNode


def setup(app: object) -> None:
    """Register what is above with Sphinx."""
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
    app.connect("source-read", _read)
    app.connect("include-read", _include)
