# SPDX-License-Identifier: Apache-2.0
"""One process imports fast, one plainly: same numbers, and what was delayed works when used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch._dynamo.eval_frame",
    "torch._inductor",
    "espnet2.gan_tts.jets.jets",
    "scipy.stats",
    "scipy.signal._signaltools",
    "sympy",
    "numba",
    "librosa.core",
    "matplotlib",
    "nltk",
    "transformers",
)

# Runs in two processes, plain and fast, and writes what it finds to argv[1].
STEP = """
import hashlib, json, os, pickle, sys
import numpy as np, torch
from espnet2.tasks.asr import ASRTask
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.legacy.nets.pytorch_backend.nets_utils import make_pad_mask

after_import = sorted(m for m in HEAVY if m in sys.modules)
args = ASRTask.get_parser().parse_args([
    "--output_dir", "unused", "--token_list", TOKENS, "--encoder", "conformer",
    "--encoder_conf", "output_size=8", "--encoder_conf", "linear_units=8",
    "--encoder_conf", "num_blocks=1", "--encoder_conf", "attention_heads=2",
    "--decoder", "transformer", "--decoder_conf", "num_blocks=1",
    "--decoder_conf", "attention_heads=2", "--decoder_conf", "linear_units=8",
    "--frontend_conf", "n_fft=256", "--frontend_conf", "hop_length=128",
    "--frontend_conf", "n_mels=20", "--frontend_conf", "fs=8000",
    "--model_conf", "ctc_weight=0.3", "--model_conf", "report_cer=false",
    "--model_conf", "report_wer=false", "--specaug", "specaug",
    "--specaug_conf", "apply_time_warp=false", "--specaug_conf", "time_mask_width_range=5",
])
torch.manual_seed(3); np.random.seed(3)
model = ASRTask.build_model(args)
rng = np.random.default_rng(5)
data = [(str(n), {"speech": rng.standard_normal(8000 + 900 * n).astype("f4"),
                  "text": np.array([2, 3, 2, 4][: n + 2])}) for n in range(2)]
collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)
_, batch = collate(data)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
digest = hashlib.sha256()
for _ in range(2):
    optimizer.zero_grad()
    loss, _, _ = model(**batch)
    loss.backward()
    optimizer.step()
    digest.update(loss.detach().numpy().tobytes())
    for name, p in model.named_parameters():
        digest.update(name.encode() + p.detach().numpy().tobytes())
        digest.update(b"" if p.grad is None else p.grad.numpy().tobytes())
found = {
    "g2p_after_step": os.path.exists("downloaded"),
    "after_import": after_import,
    "after_step": sorted(m for m in HEAVY if m in sys.modules),
    "digest": digest.hexdigest(),
    "loss": float(loss.detach()),
}
"""

# What is delayed must work, and be the real thing, when it is used after all.
FAST_ONLY = """
from torch.utils.data import DataLoader
loader = DataLoader(data, 2, collate_fn=collate, num_workers=1, multiprocessing_context="fork")
found["worker"] = all(torch.equal(batch[k], v) for _, b in loader for k, v in b.items())
with open(PICKLE, "wb") as f:
    pickle.dump((model.eval(), collate, data, make_pad_mask), f)

def masked(x, lengths):
    return (x * 2).masked_fill(make_pad_mask(lengths), 0.0) + 1

x, lengths = torch.randn(2, 5), torch.tensor([5, 3])
eager = masked(x, lengths)
found["dynamo_before_compile"] = "torch._dynamo.eval_frame" in sys.modules
compiled = torch.compile(masked, backend="eager")
found["compile"] = torch.equal(compiled(x, lengths), eager)
import torch._dynamo
explained = torch._dynamo.explain(masked)(x, lengths)
found["disabled_breaks_graph"] = explained.graph_break_count
found["graphs"] = explained.graph_count
loss, _, _ = model.train()(**batch); loss.backward(); optimizer.step()

from espnet2.text.phoneme_tokenizer import G2p_en
found["g2p"] = G2p_en()("a b"), os.path.exists("downloaded")

import scipy.signal
found["filter"] = scipy.signal.lfilter([1.0], [1.0, -0.5], [1.0, 0.0]).tolist()

from espnet2.train import trainer
attention = trainer.calculate_all_attentions(model.eval(), batch)
found["attention"] = sorted({len(a) for a in attention.values()})
import espnet2.layers.create_adapter_fn as adapter
layer = "Wav2Vec2EncoderLayerStableLayerNorm"
found["deferred"] = ["transformers" in sys.modules, adapter.is_transformers_available]
found["deferred"] += [isinstance(model, vars(adapter)[layer]), "transformers" in sys.modules]
from transformers.models.wav2vec2 import modeling_wav2vec2
found["deferred"] += [vars(adapter)[layer] is vars(modeling_wav2vec2)[layer]]

import espnet2.gan_tts.jets.alignments as alignments
import espnet2.main_funcs.calculate_all_attentions as real
found["alignments"] = [
    alignments.__file__.endswith("alignments.py"),
    real.AlignmentModule is alignments.AlignmentModule,
    issubclass(alignments.AlignmentModule, torch.nn.Module),
    tuple(alignments.AlignmentModule(4, 3)(
        torch.randn(1, 2, 4), torch.randn(1, 5, 3), torch.tensor([2]), torch.tensor([5])
    ).shape),
]
"""

PLAIN_ONLY = """
model2, collate2, data2, mask2 = pickle.load(open(PICKLE, "rb"))
found["unpickled"] = [
    type(model2).__name__, mask2 is make_pad_mask,
    all(torch.equal(batch[k], v) for k, v in collate2(data2)[1].items()),
]
"""


# Stands for the real package, whose import tries to download.
G2P = """
open("downloaded", "w").close()
class G2p:
    def __call__(self, text):
        return text.split()
"""

# Stands for Hugging Face transformers: the names which espnet2 takes from it at import.
TRANSFORMERS = {
    "__init__.py": "from transformers.models.auto.modeling_auto import *\n",
    "file_utils.py": "class ModelOutput(dict): pass\n",
    "models/auto/modeling_auto.py": "".join(
        f"class Auto{name}: pass\n"
        for name in ("Model", "ModelForCausalLM", "ModelForSeq2SeqLM", "Tokenizer", "Processor")
    ),
    "models/bart/modeling_bart.py": "class BartLearnedPositionalEmbedding: pass\n",
    "models/wav2vec2/modeling_wav2vec2.py": "class Wav2Vec2EncoderLayerStableLayerNorm: pass\n",
    "models/wav2vec2_conformer/modeling_wav2vec2_conformer.py": (
        "class Wav2Vec2ConformerConfig: pass\nclass Wav2Vec2ConformerEncoder: pass\n"
    ),
}


def run(program: str, tmp_path: Path, **env: str) -> dict:
    """Run a program in its own process, among stand-ins for packages; return what it found."""
    (tmp_path / "g2p_en.py").write_text(G2P)
    for name, text in TRANSFORMERS.items():
        path = tmp_path / "transformers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "downloaded").unlink(missing_ok=True)
    tokens, out = tmp_path / "tokens.txt", tmp_path / "found.json"
    tokens.write_text("<blank>\n<unk>\na\nb\nc\n<sos/eos>\n")
    head = f"HEAVY = {HEAVY!r}\nTOKENS = {str(tokens)!r}\nPICKLE = {str(tmp_path / 'p')!r}\n"
    tail = f"\njson.dump(found, open({str(out)!r}, 'w'))"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ESPNET_EXT_")}
    done = subprocess.run(
        [sys.executable, "-c", head + program + tail],
        env=clean | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


ENABLE = "from espnet_ext.espnet import fastimport\non = fastimport.enable()\n"


@pytest.fixture(scope="module")
def fast_and_plain(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("processes")
    light = "import sys\nassert on and 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    fast = run(ENABLE + light + STEP + FAST_ONLY, tmp_path)
    off = (
        "import sys, typeguard\nassert not on and typeguard.typechecked.__module__ == 'typeguard'\n"
    )
    plain = run(ENABLE + off + STEP + PLAIN_ONLY, tmp_path, ESPNET_EXT_FAST_IMPORT="0")
    return fast, plain


def test_heavy_modules_stay_out(fast_and_plain):
    fast, plain = fast_and_plain
    assert fast["after_import"] == []
    heavy = {"espnet2.gan_tts.jets.jets", "scipy.stats", "transformers"}
    assert heavy <= set(plain["after_import"])


def test_training_is_bit_identical(fast_and_plain):
    fast, plain = fast_and_plain
    assert fast["loss"] > 0
    assert fast["digest"] == plain["digest"]


def test_training_needs_no_dynamo(fast_and_plain):
    fast, _ = fast_and_plain
    assert "torch._dynamo.eval_frame" not in fast["after_step"]


def test_g2p_downloads_only_when_used(fast_and_plain):
    fast, plain = fast_and_plain
    assert plain["g2p_after_step"] and not fast["g2p_after_step"]
    assert fast["g2p"] == [["a", "b"], True]


def test_workers_and_pickles(fast_and_plain):
    fast, plain = fast_and_plain
    assert fast["worker"]
    assert plain["unpickled"] == ["ESPnetASRModel", True, True]


def test_compile_works_later(fast_and_plain):
    fast, _ = fast_and_plain
    assert not fast["dynamo_before_compile"]
    assert fast["compile"]
    assert fast["disabled_breaks_graph"] >= 1 and fast["graphs"] == 2


def test_transformers_is_imported_when_used(fast_and_plain):
    fast, _ = fast_and_plain
    assert "transformers" not in fast["after_step"]
    assert fast["deferred"] == [False, True, False, True, True]


def test_delayed_modules_are_real(fast_and_plain):
    fast, _ = fast_and_plain
    assert fast["filter"] == [1.0, 0.5]
    assert fast["attention"] == [2]
    assert fast["alignments"] == [True, True, True, [1, 5, 2]]
