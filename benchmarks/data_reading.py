# SPDX-License-Identifier: Apache-2.0
"""Reading of training audio from shards, files and Kaldi archives; memory of manifests.

speed    the same FLAC audio, as one file an utterance (as formatting writes it), as Shar shards and
         as a Kaldi archive of FLAC, through ESPnet's own data set, utterances in random order. The
         three take turns; each round gives ratios to the files, and the medians of all rounds are
         shown with the smallest and largest. ``warm``: CPU time, which other processes disturb
         least; ``bytes``: also, of what lies on disk without decoding it. ``cold``: time on the
         clock, the system was told to forget the files before (it may not obey on every disk; a
         network disk is what shards are made for). ``workers``: on the clock, through a data
         loader with 2 workers, in batches of 16. ``copy``: on the clock, a copy of all of it.
memory   ``data --from-cuts`` and ``--to-cuts`` (with an alignment) of manifests of 1, 10 and 100
         times the size, and 10,000 look-ups in their tables, each in a process of its own: its
         peak beyond what the imports take.

    OMP_NUM_THREADS=1 python benchmarks/data_reading.py [--utts 200] [--rounds 7] [--cuts 1000]

A measurement, not a test: it ends with 0 whatever the figures are.
"""

import argparse
import gzip
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.data.format_job import safe_name
from espnet_ext.data.lhotse.from_cuts import from_cuts
from espnet_ext.data.lookup import TableLookup
from espnet_ext.data.tables import write_table
from espnet_ext.data.tar_member import parse_member, read_member

RATE, SECONDS, PER_SHARD, BATCH, WORKERS = 16000, (2, 12), 100, 16, 2
KINDS = {"files": "sound", "shards": "stream:shar", "archive": "kaldi_ark"}
JOBS = {  # each a process, in a folder with cuts.jsonl.gz and data/
    "from-cuts": "from espnet_ext.data.lhotse.from_cuts import from_cuts\n"
    "from pathlib import Path\nbefore()\nfrom_cuts(Path('cuts.jsonl.gz'), Path('out'))",
    "to-cuts": "from espnet_ext.data.lhotse.to_cuts import to_cuts\n"
    "from pathlib import Path\nbefore()\n"
    "to_cuts(Path('data'), Path('back.jsonl.gz'), Path('data/alignment'))",
    "look-ups": "from espnet_ext.data.lookup import TableLookup\nimport random\nbefore()\n"
    "t = TableLookup('data/text')\n"
    "for _ in range(10000): t[f'utt{random.randrange(len(t)):09d}']",
}
PEAK = """
def mb(what):  # not getrusage: its peak survives exec, so the parent's would count
    lines = open("/proc/self/status").read().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(what)) / 1024
def before():
    global begin
    begin = mb("VmRSS")
{job}
print(mb("VmHWM") - begin)
"""


def audio(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield ``(utterance, FLAC)`` of soft noise, which costs to decode about what speech does."""
    rng = np.random.default_rng(0)
    for i in range(count):
        wave = np.cumsum(rng.standard_normal(int(RATE * rng.uniform(*SECONDS))))
        wave -= np.convolve(wave, np.ones(400) / 400, "same")
        data = io.BytesIO()
        soundfile.write(data, 0.3 * wave / np.abs(wave).max(), RATE, format="FLAC")
        yield f"utt{i:06d}", data.getvalue()


def write_all(count: int, root: Path) -> dict[str, Path]:
    """Write the audio in three ways; return their tables."""
    from omniio import kaldi

    files, listed, shards = {}, root / "listed", root / "shards"
    shards.mkdir()
    options = {"write_function": "soundfile", "write_kwargs": {"format": "FLAC"}}
    tar = cuts = None
    with kaldi.WriteHelper(f"ark,scp:{root}/a.ark,{listed}", **options) as archive:
        for i, (utt, data) in enumerate(audio(count)):
            if i % PER_SHARD == 0:
                for f in (tar, cuts):
                    if f:
                        f.close()
                name = f"{i // PER_SHARD:06d}"
                tar = tarfile.open(shards / f"recording.{name}.tar", "w")  # noqa: SIM115
                cuts = open(shards / f"cuts.{name}.jsonl", "w")  # noqa: SIM115
            path = root / "wav" / f"{safe_name(utt)}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            files[utt] = str(path)
            wave, rate = soundfile.read(path, dtype="int16")
            archive[utt] = (rate, wave)
            for ending, content in (("flac", data), ("json", b"{}")):
                info = tarfile.TarInfo(f"{utt}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            print(json.dumps(cut(utt, len(wave) / rate)), file=cuts)
    for f in (tar, cuts):
        f.close()
    write_table(root / "files.scp", files)
    begin = time.perf_counter()
    from_cuts(shards, root / "data")
    print(f"index of {count} utterances in shards: {time.perf_counter() - begin:.2f} s")
    return {
        "files": root / "files.scp", "shards": root / "data/wav.scp", "archive": listed,
    }  # fmt: skip


def cut(utt: str, length_s: float, path: str = "") -> dict:
    """Return a cut as lhotse writes it."""
    s = {"id": utt, "recording_id": utt, "start": 0.0, "duration": length_s, "channel": 0,
         "text": "some words of it", "speaker": utt[:7]}  # fmt: skip
    r = {"id": utt, "sources": [{"type": "file", "channels": [0], "source": path}],
         "sampling_rate": RATE, "num_samples": int(RATE * length_s), "duration": length_s,
         "channel_ids": [0]}  # fmt: skip
    return {"id": utt, "start": 0.0, "duration": length_s, "channel": 0, "supervisions": [s],
            "recording": r, "type": "MonoCut"}  # fmt: skip


def data_set(table: Path, kind: str):
    """Return ESPnet's data set of a table."""
    from espnet2.train.dataset import ESPnetDataset

    from espnet_ext.espnet.streams import register

    data = [(str(table), "speech", kind)]
    register(argparse.Namespace(train_data_path_and_name_and_type=data))
    return ESPnetDataset(data, preprocess=None)


def forget(root: Path) -> None:
    """Ask the system to drop the files' pages."""
    for path in root.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def all_of(data, names: list[str]) -> None:
    """Read utterances one by one."""
    for utt in names:
        data[utt]


def by_workers(data, names: list[str]) -> None:
    """Read utterances through a data loader."""
    from torch.utils.data import DataLoader

    loader = DataLoader(names, BATCH, num_workers=WORKERS, collate_fn=lambda b: all_of(data, b))
    for _ in loader:
        pass


def bytes_of(table: TableLookup, names: list[str]) -> None:
    """Read what is stored of utterances, without decoding."""
    for utt in names:
        member = parse_member(table[utt])
        _ = read_member(member) if member else Path(table[utt]).read_bytes()


def copying(root: Path, rounds: int) -> None:
    """Print how long copies take."""
    parts = {"files": root / "wav", "shards": root / "shards"}
    taken: dict[str, list[float]] = {kind: [] for kind in parts}
    for _ in range(rounds):
        for kind, folder in parts.items():
            begin = time.perf_counter()
            shutil.copytree(folder, root / "copy")
            taken[kind].append(time.perf_counter() - begin)
            shutil.rmtree(root / "copy")
    ratios = [a / b for a, b in zip(taken["files"], taken["shards"], strict=True)]
    counts = [sum(p.is_file() for p in folder.rglob("*")) for folder in parts.values()]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
    print(f"  copy     shards ({counts[1]} files for {counts[0]})   {spread}")


def reading(tables: dict[str, Path], root: Path, rounds: int) -> None:
    """Print utterances per second and the ratios to files."""
    sets = {kind: data_set(tables[kind], KINDS[kind]) for kind in KINDS}
    names = [line.split()[0] for line in tables["files"].read_text().splitlines()]
    rng = random.Random(0)
    os.sync()
    print(f"{'':22s}  utts/s  ratio to files: median (smallest, largest) of {rounds} rounds")
    stored = {kind: TableLookup(tables[kind]) for kind in ("files", "shards")}
    ways = {"warm": all_of, "cold": all_of, "workers": by_workers, "bytes": bytes_of}
    for way, read in ways.items():
        given = stored if way == "bytes" else sets
        clock = time.process_time if way in ("warm", "bytes") else time.perf_counter
        speeds: dict[str, list[float]] = {kind: [] for kind in given}
        for i in range(rounds):
            rng.shuffle(names)
            for kind in [*given][i % 3 :] + [*given][: i % 3]:
                if way == "cold":
                    forget(root)
                begin = clock()
                read(given[kind], names)
                speeds[kind].append(len(names) / (clock() - begin))
        for kind, values in speeds.items():
            ratios = [a / b for a, b in zip(values, speeds["files"], strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
            print(f"  {way:8s} {kind:11s} {statistics.median(values):7.0f}  {spread}")


def memory(cuts: int, root: Path) -> None:
    """Print the peak memory of each job on three sizes."""
    print("peak MB beyond imports, by cuts    " + "".join(f"{cuts * n:>12,}" for n in (1, 10, 100)))
    soundfile.write(root / "a.wav", np.zeros(RATE), RATE)
    peaks: dict[str, list[float]] = {job: [] for job in JOBS}
    for n in (1, 10, 100):
        folder = root / f"m{n}"
        folder.mkdir()
        names = [f"utt{i:09d}" for i in range(cuts * n)]
        data = folder / "data"
        (data / "alignment").mkdir(parents=True)
        write_table(data / "wav.scp", {f"r{i}": root / "a.wav" for i in range(100)})
        write_table(data / "segments", {u: f"r{i % 100} 0 0.5" for i, u in enumerate(names)})
        write_table(data / "text", dict.fromkeys(names, "some words of it"))
        write_table(data / "utt2spk", {u: u[:10] for u in names})
        words = "{0} 1 0.1 0.1 some\n{0} 1 0.2 0.1 words\n"
        (data / "alignment/words.ctm").write_text("".join(words.format(u) for u in names))
        random.Random(0).shuffle(names)
        with gzip.open(folder / "cuts.jsonl.gz", "wt", compresslevel=1) as f:
            f.writelines(json.dumps(cut(u, 1.0, str(root / "a.wav"))) + "\n" for u in names)
        for job, code in JOBS.items():
            command = [sys.executable, "-c", PEAK.format(job=code)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            peaks[job].append(float(done.stdout))
    for job, values in peaks.items():
        print(f"  {job:32s} " + "".join(f"{x:12.1f}" for x in values))


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--utts", type=int, default=200, help="utterances that are read")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--cuts", type=int, default=1000, help="cuts of the smallest manifest")
    a = p.parse_args(argv)
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    with tempfile.TemporaryDirectory() as folder:
        tables = write_all(a.utts, Path(folder))
        reading(tables, Path(folder), a.rounds)
        copying(Path(folder), a.rounds)
    with tempfile.TemporaryDirectory() as folder:
        memory(a.cuts, Path(folder))


if __name__ == "__main__":
    main()
