# SPDX-License-Identifier: Apache-2.0
"""Time a step of stage 1 (MAE) that leaves hidden tokens out against one that sees all tokens.

step      forward and backward on a batch of noise with ``mask_ratio`` 0.6 and with 0, in turn, and
          the median of the ratios over pairs (goal: 0.6 at most). Both predict and score
          all tokens.
transfer  a batch of clips to the device and there to normalised patches: as bytes, and as floats
          that were made of them before.

    OMP_NUM_THREADS=1 python benchmarks/multistage_step.py [--size small|paper] [--device cuda]

Times are those of the process on a CPU, of the wall clock on a GPU. A measurement, not a test: it
ends with 0 whatever the figures are.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from espnet_ext.espnet import fastimport
from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.options import resolve
from espnet_ext.multistage.video_patches import VideoPatches

FEATURES = 80
# Sizes of the encoder, of the section `multistage`, batch and frames of speech.
SIZES = {
    "small": (
        {"output_size": 64, "attention_heads": 4, "linear_units": 128, "num_blocks": 3,
         "cnn_module_kernel": 15},
        {"frames": 16, "size": 32, "patch": [2, 8, 8], "width": 64, "blocks": 2, "heads": 4,
         "decoder_width": 64, "decoder_blocks": 1, "decoder_heads": 4},
        16, 400,
    ),
    "paper": (
        {"output_size": 256, "attention_heads": 4, "linear_units": 2048, "num_blocks": 16,
         "cnn_module_kernel": 31},
        {}, 2, 1000,
    ),
}  # fmt: skip


def encoder(sizes: dict) -> torch.nn.Module:
    """Return ESPnet's Conformer with absolute positions."""
    fastimport.enable()
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

    return ConformerEncoder(
        FEATURES, rel_pos_type="latest", pos_enc_layer_type="abs_pos",
        selfattention_layer_type="selfattn", macaron_style=True, **sizes,
    )  # fmt: skip


def timed(function: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that a call takes."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def steps(size: str, device: torch.device, repeat: int) -> None:
    """Print the times of both steps."""
    sizes, section, batch, frames = SIZES[size]
    audio = encoder(sizes).to(device)
    calls = []
    for ratio in (0.6, 0.0):
        conf = resolve({**section, "mask_ratio": ratio, "mae_loss_on": "all"})
        model = AudioVisual(conf, FEATURES, sizes["output_size"]).to(device)
        feats = torch.randn(batch, frames, FEATURES, device=device)
        lengths = torch.full((batch,), frames, device=device)
        shape = (batch, conf.frames, conf.size, conf.size, 3)
        video = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        calls.append(lambda m=model, x=(feats, lengths, video): m(audio, *x)[0].backward())
    for call in calls:  # first calls are slower
        call()
    pairs = [[timed(call, device) for call in calls] for _ in range(repeat)]
    masked, whole = (statistics.median(p[i] for p in pairs) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"step {size}: 60 % hidden {masked:.3f} s, all seen {whole:.3f} s, ratio {ratio:.2f}")


def transfer(size: str, device: torch.device, repeat: int) -> None:
    """Print the times of bytes and of floats."""
    conf, batch = resolve(SIZES[size][1]), SIZES[size][2]
    patches = VideoPatches(conf.frames, conf.size, tuple(conf.patch), conf.width).to(device)
    shape = (batch, conf.frames, conf.size, conf.size, 3)
    video = torch.randint(0, 256, shape, dtype=torch.uint8)
    for name, clips in (("uint8", video), ("float32", video.float() / 255)):

        def load(clips: torch.Tensor = clips) -> None:
            patches.targets(clips.to(device))

        ms = 1e3 * statistics.median(timed(load, device) for _ in range(repeat))
        megabytes = clips.numel() * clips.element_size() / 1e6
        print(f"transfer {size}: {name} {megabytes:.1f} MB, {ms:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    device = torch.device(args.device)
    transfer(args.size, device, args.repeat)
    steps(args.size, device, args.repeat)


if __name__ == "__main__":
    main()
