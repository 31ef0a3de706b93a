# SPDX-License-Identifier: Apache-2.0
"""Time the loading of clips: decoding one, and how long a training waits for its batches.

clip      one clip of 16 frames as training reads it (times of the frames, decoding, crop, flip),
          by kind of file: the folder's videos, the same pictures in H.264, and as an array;
          seconds of the process, which other processes do not disturb much.
waiting   batches through the training's own loader with 0, 1 and 2 workers, each followed by a
          step of ``--step-s`` seconds, in which the processor is idle as it is while a GPU works:
          the share of the time that the training waits for data. What it waits for the first
          batch (workers start) is left out.
bytes     one batch of 16 frames of 224 x 224 as uint8 and as float32: its size, and the time to
          copy it, which stands for the way to a device.

    OMP_NUM_THREADS=1 python benchmarks/video_loading.py [--videos FOLDER] [--step-s 0.5] [--quick]

Without a folder, clips of the size of GRID's (360 x 288, 75 frames) are written: coloured noise
that moves, which is harder to decode than a face. A measurement, not a test: it ends with 0
whatever the figures are. Video files need PyAV: pip install av.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from espnet_ext.data.video import probe, read_clip
from espnet_ext.espnet import fastimport
from espnet_ext.multistage.preprocess import VideoCollate, VideoPreprocess

SIZES = {"frames": 16, "stride": 4, "size": 224}
BATCH, WORKERS = 8, (0, 1, 2)
ENDINGS = (".mp4", ".mpg", ".mkv", ".avi", ".webm", ".mov")


def write(path: Path, frames: np.ndarray) -> Path:
    """Write frames ``(T, H, W, 3)`` as H.264 at 25 frames a second."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def moving_noise(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield clips ``(75, 288, 360, 3)`` of soft noise that shifts from frame to frame."""
    for _ in range(count):
        coarse = rng.integers(0, 256, (36 + 5, 45 + 5, 3)).repeat(8, 0).repeat(8, 1)
        shifts = np.cumsum(rng.integers(-1, 2, (75, 2)), axis=0).clip(-20, 20) + 20
        yield np.stack([coarse[y : y + 288, x : x + 360] for y, x in shifts]).astype(np.uint8)


def source_clips(folder: Path | None, count: int, work: Path) -> list[Path]:
    """Return the videos of a folder, or written ones."""
    if folder is not None:
        found = sorted(p for p in folder.rglob("*") if p.suffix in ENDINGS)[:count]
        if not found:
            raise SystemExit(f"no video files ({', '.join(ENDINGS)}) in {folder}")
        return found
    clips = moving_noise(count, np.random.default_rng(0))
    return [write(work / f"{i:03d}.mp4", clip) for i, clip in enumerate(clips)]


def other_kinds(sources: list[Path], work: Path) -> dict[str, list[Path]]:
    """Return the same clips by kind of file."""
    kinds: dict[str, list[Path]] = {f"as they are ({sources[0].suffix})": sources}
    kinds["H.264"], kinds["array"] = [], []
    for i, path in enumerate(sources):
        frames = read_clip(str(path), probe(str(path)).frames, 1).frames
        kinds["H.264"].append(write(work / f"again{i:03d}.mp4", frames))
        kinds["array"].append(work / f"{i:03d}.npy")
        np.save(kinds["array"][-1], frames)
    return kinds


def median_s(function: Callable, items: list) -> float:
    """Return the median seconds of ``function(item)``, of this process alone."""
    taken = []
    for item in items:
        begin = time.process_time()
        function(item)
        taken.append(time.process_time() - begin)
    return statistics.median(taken)


def clip_table(kinds: dict[str, list[Path]]) -> None:
    """Print the time of one clip by kind of file."""
    make = VideoPreprocess(None, **SIZES, train=True)
    print("clip: 16 frames x stride 4, crop 224 x 224        ms")
    for kind, paths in kinds.items():
        make("warm", {"video": str(paths[0])})
        ms = 1000 * median_s(lambda p: make("u", {"video": str(p)}), paths)
        print(f"  {kind:44s} {ms:7.1f}")


def loader(paths: list[Path], workers: int, work: Path):
    """Return the training's loader over batches of the clips."""
    from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
    from espnet2.train.dataset import ESPnetDataset

    from espnet_ext.espnet.iterators import PersistentIterFactory
    from espnet_ext.recipe.steps.streams import loader as kind

    names = [f"u{i:04d}" for i in range(len(paths))]
    rows = (f"{utt} {path.absolute()}\n" for utt, path in zip(names, paths, strict=True))
    (work / "video.scp").write_text("".join(rows))
    data = ESPnetDataset(
        [(str(work / "video.scp"), "video", kind("video"))],
        preprocess=VideoPreprocess(None, **SIZES, train=True),
    )
    batches = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
    collate = VideoCollate(lambda items: ([utt for utt, _ in items], {}))
    stock = SequenceIterFactory(data, batches, num_workers=workers, collate_fn=collate)
    return PersistentIterFactory(stock)


def waiting_table(kinds: dict[str, list[Path]], batches: int, step_s: float, work: Path) -> None:
    """Print the share of waiting by kind of file and number of workers."""
    print(f"waiting: batches of {BATCH} clips, a step of {step_s:g} s   workers  wait ms   share")
    for kind, paths in kinds.items():
        many = (paths * (batches * BATCH // len(paths) + 1))[: batches * BATCH]
        for workers in WORKERS:
            waits, begin = [], time.perf_counter()
            for _ in loader(many, workers, work).build_iter(1):
                waits.append(time.perf_counter() - begin)
                time.sleep(step_s)
                begin = time.perf_counter()
            wait = statistics.mean(waits[1:])
            print(f"  {kind:46s} {workers:7d} {1000 * wait:8.1f} {wait / (wait + step_s):7.1%}")


def bytes_table() -> None:
    """Print size and time of a copy of one batch by type."""
    size = SIZES["size"]
    batch = torch.randint(0, 256, (BATCH, SIZES["frames"], size, size, 3), dtype=torch.uint8)
    print(f"bytes: a batch of {BATCH} clips                        MB  copy ms")
    for name, x in (("uint8", batch), ("float32", batch.float())):
        there = torch.empty_like(x)
        ms = 1000 * median_s(there.copy_, [x] * 20)
        print(f"  {name:42s} {x.nbytes / 1e6:8.1f} {ms:8.2f}")


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder of video files")
    parser.add_argument("--step-s", type=float, default=0.5, help="seconds of a step")
    parser.add_argument("--quick", action="store_true", help="few clips and batches")
    args = parser.parse_args(argv)
    fastimport.enable()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sources = source_clips(args.videos, 4 if args.quick else 15, work)
        kinds = other_kinds(sources, work)
        clip_table(kinds)
        waiting_table(kinds, 4 if args.quick else 12, args.step_s, work)
    bytes_table()


if __name__ == "__main__":
    main()
