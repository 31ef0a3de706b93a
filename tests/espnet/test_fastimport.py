# SPDX-License-Identifier: Apache-2.0
"""Lazy modules behave as plain ones, and the fast import is switched on and off as documented."""

import importlib
import logging
import pickle
import sys
import threading

import pytest
import typeguard

from espnet_ext.espnet import fastimport
from espnet_ext.espnet.deferred import DeferringFinder
from espnet_ext.espnet.fastimport import LazyFinder, _calls


@pytest.fixture
def lazy_package(tmp_path, monkeypatch):
    """A package ``lazypkg`` that counts how often it runs, served lazily."""
    package = tmp_path / "lazypkg"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import sys\nsys.lazypkg_runs += 1\nclass Box: pass\ndef double(x): return 2 * x\n"
    )
    (package / "part.py").write_text("import sys\nruns = sys.lazypkg_runs\n")
    monkeypatch.setattr(sys, "lazypkg_runs", 0, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    finder = LazyFinder({"lazypkg": {"double": _calls("double")}, "lazypkg_absent": {}})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    yield package
    for name in [name for name in sys.modules if name.startswith("lazypkg")]:
        del sys.modules[name]


def test_import_does_not_run(lazy_package):
    import lazypkg
    import lazypkg as again
    from lazypkg import double

    assert again is lazypkg and sys.lazypkg_runs == 0
    assert double.__module__ == "lazypkg"


def test_stand_in_loads_once_and_calls(lazy_package):
    import lazypkg
    from lazypkg import double

    assert double(4) == 8 and lazypkg.double(5) == 10 and double(1) == 2
    assert sys.lazypkg_runs == 1
    assert "__getattr__" not in vars(lazypkg) and lazypkg.double is not double


@pytest.mark.parametrize(
    "use",
    [
        "from lazypkg import Box",
        "from lazypkg import *; Box",
        "import lazypkg; lazypkg.Box",
        "import lazypkg.part; assert lazypkg.part.runs == 1",
        "import lazypkg; assert 'Box' in dir(lazypkg)",
    ],
)
def test_uses_load(lazy_package, use):
    exec(use, {})
    assert sys.lazypkg_runs == 1


def test_unknown_name_is_an_attribute_error(lazy_package):
    import lazypkg

    with pytest.raises(AttributeError, match="'lazypkg' has no attribute 'no_such'"):
        _ = lazypkg.no_such


def test_own_getattr_is_kept(lazy_package):
    (lazy_package / "__init__.py").write_text("def __getattr__(name):\n    return name.upper()\n")
    import lazypkg

    assert (lazypkg.abc, lazypkg.xyz) == ("ABC", "XYZ")


def test_classes_are_real_and_pickle(lazy_package):
    import lazypkg

    assert type(pickle.loads(pickle.dumps(lazypkg.Box()))) is lazypkg.Box


def test_reload_runs_again(lazy_package):
    import lazypkg

    assert lazypkg.Box and sys.lazypkg_runs == 1
    importlib.reload(lazypkg)
    assert sys.lazypkg_runs == 2


def test_errors_show_at_each_use_until_repaired(lazy_package):
    source = (lazy_package / "__init__.py").read_text()
    (lazy_package / "__init__.py").write_text("half = 1\nimport lazypkg_needs_this\n")
    import lazypkg

    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="lazypkg_needs_this"):
            lazypkg.double(1)
    assert "half" not in vars(lazypkg)
    (lazy_package / "__init__.py").write_text(source)
    assert lazypkg.double(1) == 2


def test_stand_ins_are_out_of_sight_of_the_module_itself(lazy_package):
    (lazy_package / "__init__.py").write_text("import lazypkg\nlazypkg.double\n")
    import lazypkg

    with pytest.raises(AttributeError, match="no attribute 'double'"):
        lazypkg.double(1)


def test_absent_module_fails_at_import(lazy_package):
    with pytest.raises(ModuleNotFoundError, match="lazypkg_absent"):
        import lazypkg_absent  # noqa: F401


def test_threads_load_once(lazy_package):
    with open(lazy_package / "__init__.py", "a") as f:
        f.write("import time\ntime.sleep(0.05)\nlate = 7\n")
    import lazypkg

    seen = []
    threads = [threading.Thread(target=lambda: seen.append(lazypkg.late)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [7] * 8 and sys.lazypkg_runs == 1


@pytest.fixture
def clean(monkeypatch):
    """A process in which nothing was enabled, put back afterwards."""
    ours = (LazyFinder, DeferringFinder)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, ours)])
    real = typeguard.typechecked
    monkeypatch.setattr(typeguard, "typechecked", getattr(real, "__wrapped__", real))
    monkeypatch.delitem(sys.modules, "espnet2.tasks.abs_task", raising=False)
    for name in ("ESPNET_EXT_FAST_IMPORT", "ESPNET_EXT_TYPECHECK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def finders() -> int:
    ours = [type(f) for f in sys.meta_path if isinstance(f, LazyFinder | DeferringFinder)]
    assert ours in ([], [LazyFinder, DeferringFinder])
    return len(ours) // 2


def test_enable_twice_is_once(clean):
    assert fastimport.enable() and fastimport.enable()
    assert finders() == 1


def test_switched_off_changes_nothing(clean):
    clean.setenv("ESPNET_EXT_FAST_IMPORT", "0")
    before = list(sys.meta_path), typeguard.typechecked
    assert not fastimport.enable()
    assert (list(sys.meta_path), typeguard.typechecked) == before


def test_too_late_is_told(clean, caplog):
    clean.setitem(sys.modules, "espnet2.tasks.abs_task", sys)
    with caplog.at_level(logging.DEBUG, logger=fastimport.__name__):
        assert not fastimport.enable()
    assert finders() == 0 and "too late" in caplog.text


def half(x: int) -> int:
    return x // 2


def test_typechecks_skipped_for_espnet2_only(clean):
    assert fastimport.enable()
    clean.setattr(half, "__module__", "espnet2.some.module", raising=False)
    assert typeguard.typechecked(half) is half
    assert typeguard.typechecked(forward_ref_policy=None)(half) is half
    clean.setattr(half, "__module__", __name__)
    checked = typeguard.typechecked(half)
    with pytest.raises(typeguard.TypeCheckError):
        checked("4")


def test_typechecks_can_be_kept(clean):
    clean.setenv("ESPNET_EXT_TYPECHECK", "1")
    before = typeguard.typechecked
    assert fastimport.enable()
    assert typeguard.typechecked is before and finders() == 1
