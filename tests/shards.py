# SPDX-License-Identifier: Apache-2.0
"""Shar shards as lhotse writes them, made of a data folder without lhotse."""

import io
import json
import tarfile
from pathlib import Path

import soundfile

from espnet_ext.data.tables import read_table


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_shards(data: Path, out: Path, per_shard: int = 5) -> Path:
    """Write a folder of shards of all utterances of ``data`` (wav.scp, text, utt2spk if any)."""
    tables = {n: read_table(data / n) for n in ("text", "utt2spk") if (data / n).exists()}
    rows = list(read_table(data / "wav.scp").items())
    out.mkdir(parents=True, exist_ok=True)
    for i in range(0, len(rows), per_shard):
        shard = f"{i // per_shard:06d}"
        with (
            tarfile.open(out / f"recording.{shard}.tar", "w") as tar,
            open(out / f"cuts.{shard}.jsonl", "w", encoding="utf-8") as cuts,
        ):
            for utt, path in rows[i : i + per_shard]:
                length_s = soundfile.info(path).duration
                add(tar, f"{utt}{Path(path).suffix}", Path(path).read_bytes())
                add(tar, f"{utt}.json", b"{}")
                s = {"id": utt, "start": 0.0, "duration": length_s, "channel": 0}
                s |= {"text": tables["text"][utt]} if "text" in tables else {}
                s |= {"speaker": tables["utt2spk"][utt]} if "utt2spk" in tables else {}
                cut = {"id": utt, "start": 0, "duration": length_s, "channel": 0,
                       "supervisions": [s], "type": "MonoCut"}  # fmt: skip
                cuts.write(json.dumps(cut) + "\n")
    return out
