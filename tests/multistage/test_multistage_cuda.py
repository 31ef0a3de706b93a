# SPDX-License-Identifier: Apache-2.0
"""Stage 1 in mixed precision and on a GPU that is none: bytes until the device, no way back."""

import pytest
import torch
from pretend_cuda import PretendCuda, cuda_autocast, to_cuda
from small_conformer import FEATURES, WIDTH, SmallConformer, conf

from espnet_ext.multistage.audio_visual import AudioVisual

ON_PRETENDED = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu has the real one")
OPTIONS = {
    "mae": {},
    "zero": {"mask_mode": "zero", "mae_loss_on": "all"},
    "frame": {"mask_at": "frame", "modalities": "audio"},
    "clr": {"objective": "clr", "clr_tokens": "centred", "video_sampling": "uniform"},
    "both": {"objective": "mae+clr", "pairing": "shuffled"},
    "one_pass": {"objective": "mae+clr", "clr_on_masked": True, "cross_modal": True},
}


def batch():
    g = torch.Generator().manual_seed(0)
    feats = torch.randn(3, 67, FEATURES, generator=g)
    video = torch.randint(0, 256, (3, 4, 8, 8, 3), generator=g, dtype=torch.uint8)
    return feats, torch.tensor([67, 41, 50]), video


def parts(**options):
    torch.manual_seed(0)
    return AudioVisual(conf(**options), FEATURES, WIDTH), SmallConformer()


@ON_PRETENDED
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize("case", OPTIONS)
def test_a_step_stays_on_its_device(case, amp):
    model, encoder = parts(**OPTIONS[case])
    with PretendCuda() as mode, cuda_autocast(amp):
        feats, lengths, video = (x.to("cuda") for x in batch())
        assert video.dtype == torch.uint8
        loss, stats = to_cuda(model)(to_cuda(encoder), feats, lengths, video)
        assert loss.dtype == torch.float32 and bool(loss.isfinite())
        assert loss.is_cuda and all(v.is_cuda for v in stats.values())
    # Sizes of the masks and of the subsampling; nothing by clip or by token.
    of_a_file = {name: n for name, n in mode.waits.items() if "test_" not in name}
    assert set(of_a_file) <= {"multistage/masking.py", "multistage/audio_parts.py"}
    assert sum(of_a_file.values()) <= 10


@pytest.mark.parametrize("case", OPTIONS)
def test_mixed_precision_learns_in_the_same_direction(case):
    """Gradients of bfloat16 are those of single precision, but for the rounding of products."""
    found = []
    for enabled in (False, True):
        model, encoder = parts(**OPTIONS[case])
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, _ = model.eval()(encoder.eval(), *batch())
        loss.backward()
        of = [*encoder.parameters(), *model.parameters()]
        assert loss.dtype == torch.float32
        gradients = [p.grad.flatten() for p in of if p.grad is not None]
        found.append((loss.detach(), torch.cat(gradients)))
    (loss, gradient), (rounded, other) = found
    torch.testing.assert_close(rounded, loss, rtol=0.02, atol=0.02)
    assert torch.cosine_similarity(gradient, other, dim=0) > 0.99
