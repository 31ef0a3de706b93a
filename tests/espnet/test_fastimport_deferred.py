# SPDX-License-Identifier: Apache-2.0
"""Names from transformers are imported at their first use, and only espnet2 meets stand-ins."""

import ast
import copy
import importlib
import importlib.util
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ext.espnet.deferred import TAKERS, Deferred, DeferringFinder

ROOT = Path(__file__).resolve().parents[2]
AUTO = """
class AutoModel:
    made = 0
    @classmethod
    def from_pretrained(cls, tag):
        return tag.upper()
class AutoTokenizer(AutoModel): pass
"""
TAKER = """
try:
    from transformers import AutoModel, AutoTokenizer as Tokens
    from transformers.file_utils import ModelOutput
    available = True
except ImportError:
    available = False

def read(tag):
    return AutoModel.from_pretrained(tag)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder with a package ``transformers`` and a module ``taker`` whose names are deferred."""
    package = tmp_path / "transformers"
    (package / "models" / "auto").mkdir(parents=True)
    (package / "__init__.py").write_text("from transformers.models.auto.modeling_auto import *\n")
    (package / "models" / "auto" / "modeling_auto.py").write_text(AUTO)
    (package / "file_utils.py").write_text("class ModelOutput(dict): pass\n")
    (tmp_path / "taker.py").write_text(TAKER)

    def ours():
        return [m for m in sys.modules if m.partition(".")[0] in ("transformers", "taker")]

    before = {name: sys.modules.pop(name) for name in ours()}
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [DeferringFinder({"taker"}), *sys.meta_path])
    yield tmp_path
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


def test_import_is_deferred_until_a_name_is_used(fake):
    import taker

    assert taker.available and "transformers" not in sys.modules
    assert {type(vars(taker)[name]) for name in ("AutoModel", "Tokens", "ModelOutput")} == {
        Deferred
    }
    assert taker.read("a") == "A"
    import transformers

    assert taker.AutoModel is transformers.AutoModel
    assert type(taker.Tokens) is Deferred and "transformers.file_utils" not in sys.modules
    assert taker.Tokens.made == 0 and taker.Tokens is transformers.AutoTokenizer


def test_other_modules_get_the_real_classes(fake):
    import taker
    from transformers import AutoModel

    assert type(AutoModel) is type and type(taker.AutoModel) is Deferred


@pytest.mark.parametrize(
    "use",
    [
        lambda stand_in, real: type(stand_in()) is real,
        lambda stand_in, real: stand_in.__name__ == "AutoModel",
        lambda stand_in, real: isinstance(real(), stand_in) and not isinstance(1, stand_in),
        lambda stand_in, real: isinstance(real(), (int, stand_in)),
        lambda stand_in, real: issubclass(real, stand_in) and not issubclass(int, stand_in),
        lambda stand_in, real: bases_of_sub(stand_in) == (real, object),
        lambda stand_in, real: (stand_in | None, None | stand_in) == (real | None, None | real),
        lambda stand_in, real: stand_in == real and real == stand_in and stand_in != 1,
        lambda stand_in, real: {real: 5}[stand_in] == 5,
        lambda stand_in, real: repr(stand_in) == repr(real),
        lambda stand_in, real: pickle.loads(pickle.dumps(stand_in)) is real,
        lambda stand_in, real: b"espnet" not in pickle.dumps(stand_in),
        lambda stand_in, real: copy.copy(stand_in) is real and copy.deepcopy(stand_in) is real,
    ],
)
def test_acts_as_the_real_class(fake, use):
    import taker

    stand_in = taker.AutoModel
    assert "transformers" not in sys.modules
    from transformers import AutoModel

    assert type(stand_in) is Deferred and use(stand_in, AutoModel)
    assert taker.AutoModel is AutoModel


def bases_of_sub(base):
    class Sub(base):
        pass

    return Sub.__mro__[1:]


def test_can_be_patched(fake, monkeypatch):
    import taker

    with monkeypatch.context() as patch:
        patch.setattr(taker.AutoModel, "from_pretrained", lambda tag: tag + "!")
        assert taker.read("a") == "a!"
    assert taker.read("a") == "A"


def test_a_name_set_anew_is_left_alone(fake):
    import taker

    stand_in, taker.AutoModel = taker.AutoModel, "mine"
    assert stand_in.made == 0 and taker.AutoModel == "mine"


def test_absent_package_is_as_ever(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    import taker

    assert not taker.available and "AutoModel" not in vars(taker)


def test_uninstalled_package_is_as_ever(fake, monkeypatch):
    (fake / "transformers").rename(fake / "other")
    monkeypatch.setattr(sys, "path", [str(fake)])
    import taker

    assert not taker.available and "AutoModel" not in vars(taker)


@pytest.mark.parametrize("lacking", ["module", "name"])
def test_what_the_package_lacks_fails_at_import(fake, lacking):
    path = fake / "transformers" / "file_utils.py"
    path.unlink() if lacking == "module" else path.write_text("class ModelOutputs: pass\n")
    import taker

    assert not taker.available and "ModelOutput" not in vars(taker)


def test_imported_package_gives_real_classes_at_once(fake):
    import taker
    import transformers

    importlib.reload(taker)
    assert taker.AutoModel is transformers.AutoModel


def test_errors_show_at_each_use_until_repaired(fake):
    (fake / "transformers" / "__init__.py").write_text("raise ImportError('too old')\n")
    import taker

    for _ in range(2):
        with pytest.raises(ImportError, match="too old"):
            taker.read("a")
    (fake / "transformers" / "__init__.py").write_text("AutoTokenizer = 1\n")
    with pytest.raises(ImportError, match="cannot import name 'AutoModel' from 'transformers'"):
        taker.read("a")
    assert taker.available and type(taker.AutoModel) is Deferred


def test_only_top_level_lines_from_the_package_are_cut(fake):
    (fake / "taker.py").write_text(
        "from copy import copy\nfrom transformers import AutoModel\n"
        "def f():\n    from transformers import AutoTokenizer\n    return AutoTokenizer\n"
    )
    import taker

    assert taker.copy is copy.copy and type(taker.AutoModel) is Deferred
    assert taker.f() is sys.modules["transformers"].AutoTokenizer


def test_run_as_a_program_is_plain(fake):
    assert type(runpy.run_module("taker")["AutoModel"]) is type


@pytest.mark.parametrize("module", sorted(TAKERS))
def test_espnet2_uses_the_names_in_functions_only(module):
    """Whoever adds a module to TAKERS, or a new espnet2, is held to what a stand-in can do."""
    root = Path(importlib.util.find_spec("espnet2").origin).parent
    tree = ast.parse(root.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text("utf-8"))
    lines = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers")
    ]
    names = {item.asname or item.name for node in lines for item in node.names}
    assert names
    bodies = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        for inner in ast.walk(statement)
    ]
    fit = set()
    for node in bodies:
        if isinstance(node, ast.Attribute):
            fit.add(node.value)
        elif isinstance(node, ast.Call):
            fit.add(node.func)
            if isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                fit.add(node.args[1])
    uses = {n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in names}
    assert uses and uses <= fit, [n.lineno for n in uses - fit]


REAL = """
import importlib, sys
from espnet_ext.espnet import deferred, fastimport
assert fastimport.enable()
import torch
for name in deferred.TAKERS:
    assert importlib.import_module(name).is_transformers_available, name
    assert "transformers" not in sys.modules, name
from espnet2.asr.decoder import hugging_face_transformers_decoder as decoder
from espnet2.layers import create_adapter_fn as adapter
from espnet2.asr.postencoder.hugging_face_transformers_postencoder import (
    HuggingFaceTransformersPostEncoder,
)
from transformers import AutoModelForCausalLM, BertConfig, BertModel
assert isinstance(AutoModelForCausalLM, type)
assert decoder.AutoModelForCausalLM.from_config
assert decoder.AutoModelForCausalLM is AutoModelForCausalLM
made = decoder.ModelOutput(last_hidden_state=torch.ones(1))
assert type(made) is decoder.ModelOutput and isinstance(decoder.ModelOutput, type)
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Config, Wav2Vec2EncoderLayerStableLayerNorm as Layer,
)
small = Wav2Vec2Config(hidden_size=4, num_attention_heads=2, intermediate_size=4)
grown = adapter.create_new_houlsby_module(Layer(small), 2)
assert grown.bottleneck == 2 and adapter.Wav2Vec2EncoderLayerStableLayerNorm is Layer
config = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
                    intermediate_size=4, max_position_embeddings=16)
BertModel(config).save_pretrained("tiny")
post = HuggingFaceTransformersPostEncoder(3, "tiny")
out, lengths = post(torch.randn(2, 5, 3), torch.tensor([5, 4]))
assert out.shape == (2, 5, 4), out.shape
"""


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_real_transformers_with_type_checks(tmp_path):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"ESPNET_EXT_FAST_IMPORT": "1", "ESPNET_EXT_TYPECHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", REAL],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
