# SPDX-License-Identifier: Apache-2.0
"""No module imports itself by way of others, neither inside a function nor for type checking."""

from pathlib import Path

import networkx
from test_layers import PACKAGE, ROOT, imports


def circles(root: Path) -> list[set[str]]:
    """Return the groups of modules below ``root/espnet_ext`` that import one another.

    That importing a module runs the packages above it is no circle: they may import their parts.
    """
    files = {}
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    graph = networkx.DiGraph()
    for module, path in files.items():
        for name, _ in imports(path, module):
            while name and name not in files:  # the last part may be a function or a class
                name = name.rpartition(".")[0]
            if name and name != module and not module.startswith(f"{name}."):
                graph.add_edge(module, name)
    return [group for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def test_no_circle_in_the_package():
    assert [sorted(group) for group in circles(ROOT)] == []


def test_circles_are_found_through_functions_and_type_checking(tmp_path):
    sources = {
        "__init__.py": "",
        "a.py": "from espnet_ext import b\nfrom espnet_ext.x import d",
        "b.py": "def f():\n    from espnet_ext.c import thing",
        "c.py": "if TYPE_CHECKING:\n    from .a import name",
        "x/__init__.py": "from espnet_ext.x import d, e",
        "x/d.py": "from espnet_ext.x.e import f",
        "x/e.py": "import espnet_ext.x",
    }
    for name, content in sources.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert circles(tmp_path) == [{"espnet_ext.a", "espnet_ext.b", "espnet_ext.c"}]
