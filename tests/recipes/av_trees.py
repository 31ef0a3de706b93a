# SPDX-License-Identifier: Apache-2.0
"""Small LRS3, VoxCeleb2, Kinetics-600 and GRID in the corpora's layouts, of real video files."""

import shutil
from pathlib import Path

from clips import write_clip

SECONDS, FPS = 1.0, 25
GOOD = {"frames": round(SECONDS * FPS), "fps": FPS, "sound_s": SECONDS}


class Maker:
    """Writes equal clips: the first is encoded, the others are copies of it."""

    def __init__(self, folder: Path):
        self.folder, self.first = folder, {}

    def __call__(self, name: str, **change) -> Path:
        """Write ``folder/name``; ``change`` is what differs from a good clip."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        key = (path.suffix, tuple(sorted(change.items())))
        if key in self.first:
            shutil.copyfile(self.first[key], path)
        else:
            self.first[key] = write_clip(path, **{**GOOD, **change})
        return path


def make_lrs3(parent: Path) -> Path:
    """Five talks; one clip without sound, one with a short picture, one cut off, one text alone."""
    root = parent / "LRS3"
    clip = Maker(root)
    for part, talks in {
        "pretrain": {"0aBcDeFgHiJ": ["00001", "00002"], "-k_LmNoPqRs": ["00001"]},
        "trainval": {"0aBcDeFgHiJ": ["50001"], "TuVwXyZ0123": ["50001", "50002", "50003"],
                     "456789abcde": ["50001"]},
        "test": {"fghijklmnop": ["00001"]},
    }.items():  # fmt: skip
        for talk, numbers in talks.items():
            for number in numbers:
                clip(f"{part}/{talk}/{number}.mp4")
                words = f"Text:  WE'RE {{LG}} {talk[:1].upper()} D\xc9J\xc0\nConf:  5\n"
                path = root / part / talk / f"{number}.txt"
                path.write_text(words + "\nWORD START END ASDSCORE\nWE'RE 0.1 0.2 3.4\n", "latin-1")
    clip("trainval/TuVwXyZ0123/50002.mp4", sound_s=None)
    clip("trainval/TuVwXyZ0123/50003.mp4", frames=10)
    whole = (root / "pretrain/-k_LmNoPqRs/00001.mp4").read_bytes()
    (root / "pretrain/0aBcDeFgHiJ/00002.mp4").write_bytes(whole[: len(whole) // 3])
    (root / "trainval/456789abcde/50009.txt").write_text("Text:  NO CLIP\n")
    return root


def make_voxceleb2(parent: Path) -> Path:
    """Three speakers; one clip whose sound is in the audio archive, one without any."""
    root = parent / "VoxCeleb2"
    clip = Maker(root / "dev")
    for name in ("id00012/-2s0bLNkE4A/00001", "id00012/-2s0bLNkE4A/00002",
                 "id00015/0fijmz4vTVU/00001", "id00016/1abcdefghij/00001"):  # fmt: skip
        clip(f"mp4/{name}.mp4")
    clip("mp4/id00015/0fijmz4vTVU/00002.mp4", sound_s=None)
    clip("mp4/id00015/0fijmz4vTVU/00003.mp4", sound_s=None)
    sound = clip("aac/id00015/0fijmz4vTVU/00002.mp4", sound_s=1.2)
    sound.rename(sound.with_suffix(".m4a"))
    clip("mp4/lost+found/0fijmz4vTVU/00009.mp4")
    return root


def make_kinetics600(parent: Path) -> Path:
    """Training clips in folders of classes, validation clips flat, a list with one that is gone."""
    root = parent / "k600"
    clip = Maker(root)
    clip("train/abseiling/-0AbCdEfGhI_000010_000020.mp4")
    clip("train/playing piano/zzzzzzzzzz1_000000_000010.mp4")
    clip("train/playing piano/zzzzzzzzzz1_000000_000010.mkv")  # the same clip again
    clip("train/playing piano/zzzzzzzzzz2_000000_000010.mp4", sound_s=None)
    clip("train/playing piano/valvideo001_000050_000060.mp4")
    clip("train/playing piano/trailer.mp4")
    clip("val/valvideo001_000001_000011.mp4")
    (root / "annotations").mkdir()
    (root / "annotations/train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,-0AbCdEfGhI,10,20,train\n"
        '"playing, loudly",gonegone001,5,15,train\n'
    )
    return root


def make_grid(parent: Path) -> Path:
    """Two speakers, one with alignments and each clip in two qualities, one without alignments."""
    root = parent / "GRID"
    clip = Maker(root)
    names = ("bbaf2n", "lwiz9s", "pgby5a", "srwa1p", "bgat8n")
    for name in names:
        clip(f"s1/video/mpg_6000/{name}.mp4", **LENGTH)
        clip(f"s1/video/mpg_vcd/{name}.mp4", **LENGTH)
        clip(f"s20/{name}.mp4", **LENGTH)
        words = WORDS[name].split()
        times = [f"{1000 * i} {1000 * (i + 1)} {w}" for i, w in enumerate(["sil", *words, "sil"])]
        path = root / "s1/align" / f"{name}.align"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(times) + "\n")
    return root


def make_grid_release(parent: Path) -> Path:
    """Three speakers as the corpus gives them, MPEG-1 files of 75 pictures and 2.98 s of sound.

    Of each speaker, one clip has 74 pictures. One clip has no sound, one too little of it, and one
    ends a second before its alignment.
    """
    root = parent / "GRID"
    clip = Maker(root)
    for speaker in ("s1", "s2", "s34"):
        for name in WORDS:
            clip(f"{speaker}/video/mpg_6000/{name}.mpg", **RELEASED)
            times = [f"{9300 * i} {9300 * (i + 1)} {w}" for i, w in enumerate(
                ["sil", *WORDS[name].split(), "sil"])]  # fmt: skip
            path = root / speaker / "align" / f"{name}.align"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(times) + "\n")
    folder = "video/mpg_6000"
    for speaker, name in (("s1", "lwiz9s"), ("s2", "lwiz9s"), ("s34", "lwiz9s")):
        clip(f"{speaker}/{folder}/{name}.mpg", **{**RELEASED, "frames": 74})
    clip(f"s1/{folder}/pgby5a.mpg", **{**RELEASED, "sound_s": None})
    clip(f"s2/{folder}/pgby5a.mpg", **{**RELEASED, "sound_s": 2.1})
    clip(f"s34/{folder}/pgby5a.mpg", **{**RELEASED, "frames": 50, "sound_s": 2.0})
    return root


LENGTH = {"frames": 75, "sound_s": 3.0}  # as in the corpus
RELEASED = {"frames": 75, "sound_s": 2.97, "codec": "mpeg1video", "sound_codec": "mp2",
            "rate": 44100}  # fmt: skip
WORDS = {
    "bbaf2n": "bin blue at f two now",
    "lwiz9s": "lay white in z nine soon",
    "pgby5a": "place green by y five again",
    "srwa1p": "set red with a one please",
    "bgat8n": "bin green at t eight now",
}
