# SPDX-License-Identifier: Apache-2.0
"""The benchmark of video loading runs; no time is asserted."""

import sys
from pathlib import Path

import torch
from clips import write_clip

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_tables_of_clips_waiting_and_bytes(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    import video_loading

    monkeypatch.setattr(video_loading, "BATCH", 2)
    write_clip(tmp_path / "a.mp4", 70)
    threads = torch.get_num_threads()
    try:
        video_loading.main(["--quick", "--step-s", "0.01", "--videos", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
        sys.modules.pop("video_loading")
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split(":")[0] for line in lines if line[0] != " "]
    assert heads == ["clip", "waiting", "bytes"] and len(lines) == 3 + 3 + 3 * 3 + 2
    size = {row.split()[0]: float(row.split()[1]) for row in lines[-2:]}
    assert abs(size["float32"] / size["uint8"] - 4) < 0.05
