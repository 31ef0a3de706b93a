# SPDX-License-Identifier: Apache-2.0
"""``type: shar`` in recipe.yaml: what is trained on stays in shards, test sets become files."""

from pathlib import Path

import numpy as np
import soundfile as sf
from shards import write_shards

from espnet_ext.data.lhotse.from_cuts import from_cuts
from espnet_ext.data.tables import read_table, write_set
from espnet_ext.data.tar_member import parse_member
from espnet_ext.recipe import runner
from espnet_ext.recipe.steps.streams import loader, streams_of

FORMAT = ("--ngpu", "0", "--nj", "1", "--stage", "format", "--stop-stage", "format")


def make_set(name, seed):
    rows, rng = {}, np.random.default_rng(seed)
    for utt in (f"{name}-1", f"{name}-2"):
        wav = Path(f"raw/{utt}.wav").absolute()
        wav.parent.mkdir(exist_ok=True)
        sf.write(wav, rng.uniform(-0.5, 0.5, 16000), 16000)
        rows[utt] = (str(wav), "word", name)
    write_set(Path("raw") / name, rows)
    from_cuts(write_shards(Path("raw") / name, Path("shards") / name), Path("data") / name)


def test_a_recipe_formats_only_what_it_must(folder, capfd):
    for seed, name in enumerate(("train", "dev", "test")):
        make_set(name, seed)
    folder.write("conf/train.yaml", "{}\n")
    shar = {"name": "speech", "file": "wav.scp", "type": "shar"}
    text = {"name": "text", "file": "text", "type": "text"}
    folder.recipe(
        data={"train": "train", "valid": "dev", "test": ["test"]},
        format={"fs": 16000},
        finetune={"config": "conf/train.yaml", "streams": [shar, text]},
    )
    ctx = folder.context("format", nj=1)
    kinds = {name: streams_of(ctx, name)["wav.scp"] for name in ("train", "dev", "test")}
    assert kinds == {"train": "shar", "dev": "shar", "test": "sound"}
    assert loader("shar") == "stream:shar"  # what ESPnet's data options get
    assert runner.main([*FORMAT]) == 0
    made = {name: read_table(f"dump/{name}/wav.scp") for name in kinds}
    assert all(parse_member(x) for name in ("train", "dev") for x in made[name].values())
    assert all(Path(x).is_file() for x in made["test"].values())
    capfd.readouterr()
    assert runner.main([*FORMAT]) == 0 and "up to date" in capfd.readouterr().out
    # Other audio in the same shard: its set is formatted again.
    shard = Path(parse_member(made["train"]["train-1"]).path)
    data = bytearray(shard.read_bytes())
    data[600:700] = bytes(100)
    shard.write_bytes(data)
    assert runner.main([*FORMAT]) == 0 and "up to date" not in capfd.readouterr().out
