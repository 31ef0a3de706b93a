# SPDX-License-Identifier: Apache-2.0
"""Both stages and all losses of ML-LMCL on a GPU that is none."""

import pytest
import torch
from pretend_cuda import PretendCuda, cuda_autocast, to_cuda
from torch._subclasses import FakeTensorMode

from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.distillation_loss import TEACHER_KINDS, distillation_loss
from espnet_ext.ml_lmcl.mutual_loss import KINDS, mutual_loss
from espnet_ext.ml_lmcl.network import ClassifyNetwork
from espnet_ext.ml_lmcl.nt_xent_loss import nt_xent_loss
from espnet_ext.ml_lmcl.options import resolve
from espnet_ext.ml_lmcl.polarization_loss import DISTANCES, PAIRS, polarization_loss
from espnet_ext.ml_lmcl.supcon_loss import supervised_contrastive_loss
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.ml_lmcl.token_masking import mask_tokens
from espnet_ext.text.tokenizer import read_about

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu has the real one")
CLASSES = {"topic": 3, "act": 2}
UTTS = [f"u{i}" for i in range(6)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_loss_under_fake_tensors(dtype):
    with FakeTensorMode():
        a, b = torch.randn(2, 4, 3, device="cuda", dtype=dtype)
        labels = torch.tensor([0, 1, 1, -1], device="cuda")
        soft = torch.rand(4, 3, device="cuda", dtype=dtype)
        values = [nt_xent_loss(a, b), supervised_contrastive_loss(a, labels, soft=soft)]
        values += [mutual_loss(a, b, kind) for kind in KINDS]
        values += [distillation_loss(a, b, 5.0, kind) for kind in TEACHER_KINDS]
        values += [polarization_loss(a, b, distance=d, pairs=p) for d in DISTANCES for p in PAIRS]
        assert all(v.is_cuda and v.dtype == torch.float32 for v in values)
        ids = torch.randint(0, 9, (4, 5), device="cuda")
        assert all(x.is_cuda for x in mask_tokens(ids, ids > 2, 3, 9))


def texts():
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([9, 8, 7, 5, 4, 3])
    return {k: (torch.randint(6, 40, (6, 9), generator=draw), lengths) for k in ("manual", "asr")}


def on_device():
    return {k: tuple(x.to("cuda") for x in v) for k, v in texts().items()}


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_stages_stay_on_their_device(text_corpus, precision, amp):
    folder = str(text_corpus.root / "dump/text_encoder")
    conf, about = resolve({"precision": precision}), read_about(folder)
    first = ContrastiveNetwork(conf, folder, about).train()
    second = ClassifyNetwork(conf, folder, CLASSES, about.pad_id).train()
    widths = {f"{n}.{h}": c for n in range(len(conf.views)) for h, c in CLASSES.items()}
    store = TeacherStore(UTTS, widths)
    store.put(UTTS[:3], {name: torch.randn(3, width) for name, width in widths.items()})
    with PretendCuda() as mode, cuda_autocast(amp):
        total, terms = to_cuda(first).loss(on_device())
        assert all(v.is_cuda for v in (total, *terms.values()))
        labels = torch.tensor([[0, 1], [2, 0], [1, 0], [0, 0], [2, -1], [1, 1]]).to("cuda")
        network = to_cuda(second)
        views = network.views(on_device())
        mode.waits.clear()
        total, terms = network.loss(views, labels, 0.5, store, UTTS)
        assert total.dtype == torch.float32 and bool(total.isfinite())
        assert all(v.is_cuda for v in terms.values())
        assert {z.dtype for _, of in views for z in of.values()} == {torch.float32}
        # The teachers come from the host; it does not ask the device for labels.
        assert not mode.waits["ml_lmcl/teacher.py"]
