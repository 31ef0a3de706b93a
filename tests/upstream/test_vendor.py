# SPDX-License-Identifier: Apache-2.0
"""The vendored method: stands alone, and computes what this package computes."""

import importlib
import sys

import pytest

torch = pytest.importorskip("torch")

from espnet_ext.upstream.templating import template  # noqa: E402
from espnet_ext.upstream.vendor import File, Piece, VendorError, vendored  # noqa: E402
from espnet_ext.upstream.weak_align_files import method_files  # noqa: E402
from espnet_ext.weak_align import geometry, labels, loss  # noqa: E402

BASE = "vendored_weak_align"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The vendored modules, imported from a folder of their own."""
    folder = tmp_path_factory.mktemp("vendored")
    (folder / BASE).mkdir()
    for name, text in method_files(BASE).items():
        (folder / BASE / name).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{BASE}.{name}")
    sys.path.remove(str(folder))


def test_nothing_of_this_package_is_imported(package):
    for name, text in method_files(BASE).items():
        assert "espnet_ext" not in text, name
    for name in ("loss", "labels", "taps"):
        assert package(name).__file__.endswith(f"{BASE}/{name}.py")


@pytest.mark.parametrize("normalise", loss.NORMALISE)
@pytest.mark.parametrize("form", loss.FORMS)
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_ours(package, form, normalise, soft):
    logits = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    classes, weights = torch.randint(-1, 5, (3, 7)), None
    if soft:
        classes = torch.randint(-1, 5, (3, 7, 2))
        weights = (classes >= 0) / (classes >= 0).sum(-1, keepdim=True).clamp(min=1)
    tokens = torch.tensor([2, 4, 9])
    args = (logits, classes, 0.3, form, weights, normalise, tokens)
    values = [module.smoothed_ce(*args) for module in (loss, package("loss"))]
    grads = [torch.autograd.grad(v, logits)[0] for v in values]
    assert torch.equal(*values)
    assert torch.equal(*grads)


@pytest.mark.parametrize("rule", labels.RULES)
def test_the_labels_are_ours(package, rule):
    classes, lengths = torch.randint(-1, 9, (2, 40)), torch.tensor([40, 31])
    found = []
    for module in (labels, package("labels")):
        grids = module.FrameGrid(0.01, 0.005), module.FrameGrid(0.04, 0.03)
        found.append(module.resample(classes, lengths, 10, torch.tensor([10, 7]), *grids, rule))
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def test_the_times_are_ours(package):
    convolutions = [torch.nn.Conv2d(1, 2, 3, 2), torch.nn.Conv2d(2, 2, 5, 3, 1)]
    ours = geometry.Geometry(geometry.conv_steps(convolutions))
    theirs = package("taps").Geometry(package("taps").conv_steps(convolutions))
    assert (ours.stride, ours.offset) == (theirs.stride, theirs.offset)
    assert [ours.length(n) for n in range(60)] == [theirs.length(n) for n in range(60)]


def test_an_import_that_is_not_vendored_is_an_error():
    alone = File("taps", (Piece("espnet_ext.weak_align.taps"),))
    with pytest.raises(VendorError, match="is not vendored"):
        vendored([alone], BASE, {})
    with pytest.raises(VendorError, match="there is no smooth_ce"):
        vendored([File("loss", (Piece("espnet_ext.weak_align.loss", ("smooth_ce",)),))], BASE, {})


def test_a_template_without_a_value_is_an_error():
    with pytest.raises(Exception, match="@BASE@"):
        template("weak_align/task.py", {})
