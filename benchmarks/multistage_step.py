# SPDX-License-Identifier: Apache-2.0
"""Time a step of stage 1 (MAE) that leaves hidden tokens out against one that sees all tokens.

step      forward and backward on a batch of noise, in turn: with ``mask_ratio`` 0.6, once as it
          is trained (only hidden tokens are predicted and scored) and once predicting all, and with
          0, where all are predicted; then the medians of the ratios (goal: 0.6 at most).
parts     the same, of each part by itself: what the sound's encoder takes, the pictures', and the
          decoder with the loss.
transfer  a batch of clips to the device and there to normalised patches: as bytes, and as floats
          that were made of them before.

    OMP_NUM_THREADS=1 python benchmarks/multistage_step.py [--size small|medium|paper]
        [--device cuda]

Times are those of the process on a CPU, of the wall clock on a GPU. A measurement, not a test: it
ends with 0 whatever the figures are.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from espnet_ext.espnet import fastimport
from espnet_ext.multistage.audio_visual import AudioVisual, Lengths
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
    "medium": (
        {"output_size": 128, "attention_heads": 4, "linear_units": 512, "num_blocks": 4,
         "cnn_module_kernel": 15},
        {"frames": 16, "size": 64, "patch": [2, 8, 8], "width": 128, "blocks": 4, "heads": 4,
         "decoder_width": 96, "decoder_blocks": 2, "decoder_heads": 4},
        8, 600,
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


# Name, share of hidden tokens, what is predicted.
STEPS = (
    ("60 % hidden", 0.6, "masked"),
    ("60 % hidden, all predicted", 0.6, "all"),
    ("all seen", 0.0, "all"),
)


def steps(size: str, device: torch.device, repeat: int) -> None:
    """Print the times of the steps and of their parts."""
    sizes, section, batch, frames = SIZES[size]
    audio = encoder(sizes).to(device)
    calls: dict[str, list[Callable[[], None]]] = {}
    for _, ratio, scored in STEPS:
        conf = resolve({**section, "mask_ratio": ratio, "mae_loss_on": scored})
        model = AudioVisual(conf, FEATURES, sizes["output_size"]).to(device)
        feats = torch.randn(batch, frames, FEATURES, device=device)
        lengths = torch.full((batch,), frames, device=device)
        shape = (batch, conf.frames, conf.size, conf.size, 3)
        video = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        made = {"step": lambda m=model, x=(feats, lengths, video): m(audio, *x)[0]}
        made |= parts(model, audio, feats, lengths, video)
        for name, call in made.items():
            calls.setdefault(name, []).append(lambda c=call: c().backward())
    for name, variants in calls.items():
        for call in variants:  # first calls are slower
            call()
        rounds = [[timed(call, device) for call in variants] for _ in range(repeat)]
        for i, (what, *_) in enumerate(STEPS):
            ms = 1e3 * statistics.median(r[i] for r in rounds)
            ratio = statistics.median(r[i] / r[-1] for r in rounds)
            print(f"{name} {size}: {what} {ms:.1f} ms, ratio {ratio:.2f}")


def parts(
    model: AudioVisual,
    audio: torch.nn.Module,
    feats: torch.Tensor,
    lengths: torch.Tensor,
    video: torch.Tensor,
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the parts of a step, each of which ends in a number."""
    pixels = model.video_patches.targets(video)
    spans = Lengths(lengths, lengths)
    seen = {
        name: m._replace(encoded=m.encoded.detach())
        for name, m in model._see(audio, feats, lengths, pixels).items()
    }
    return {
        "sound": lambda: model._see_audio(audio, feats, lengths).encoded.sum(),
        "pictures": lambda: model._see_video(model.video_patches.targets(video)).encoded.sum(),
        "decoder and loss": lambda: sum(model._mae(seen, spans, {})),
    }


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
