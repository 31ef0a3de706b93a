# SPDX-License-Identifier: Apache-2.0
"""The page as text: one file, nothing is loaded from elsewhere, every text is escaped.

The policy in the page's head lets a browser run only the one script and style of the template, by
their hashes: a transcript that holds markup stays text, and no address outside is asked.
"""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

TEMPLATES = "templates"


def render(variables: dict[str, Any]) -> str:
    """Return the page.

    Args:
        variables: See :func:`espnet_ext.report.page.collect`.
    """
    env = Environment(
        loader=PackageLoader("espnet_ext.report", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_source(env, name) for name in ("page.css", "page.js"))
    policy = "; ".join((
        "default-src 'none'", f"script-src {_hash(script)}", f"style-src {_hash(style)}",
        "img-src data:", "media-src data:", "base-uri 'none'", "form-action 'none'",
    ))  # fmt: skip
    page = env.get_template("page.html.j2")
    return page.render(style=style, script=script, policy=policy, **variables)


def _source(env: Environment, name: str) -> str:
    return env.loader.get_source(env, name)[0]


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
