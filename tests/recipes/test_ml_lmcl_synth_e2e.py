# SPDX-License-Identifier: Apache-2.0
"""The synthetic intent recipe from speech to a scored classifier, tiny; what is kept is kept."""

import json
import runpy

import numpy as np
import pytest
import soundfile
from recipe_tree import ROOT

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
INTENTS = {
    "switch_on", "switch_off", "set_colour", "set_temperature", "set_timer", "set_alarm",
    "play_music", "weather", "book_travel", "book_hotel",
}  # fmt: skip
ASR = [
    "prepare.args=[--train-minutes, '0.5', --dev-utts, '3', --test-utts, '1']",
    "finetune.args.max_epoch=1",
    "finetune.args.encoder_conf={num_blocks: 1, output_size: 32, linear_units: 32}",
    "finetune.args.decoder_conf={linear_units: 32}",
]
PREPARE = ["--train-minutes", "1", "--valid-utts", "20", "--test-utts", "24", "--nj", "1"]
TINY = [
    f"--prepare.args={json.dumps([*PREPARE, '--asr', *ASR])}",
    "--tokens.args={vocab_size: 300, hidden_size: 16, layers: 1, heads: 2}",
    *(f"--{phase}.args.max_epoch=1" for phase in ("pretrain", "midtrain", "finetune")),
    "--format.args.unseen_labels=wrong",
    "--ngpu=0",
]


def test_noise_is_put_again_on_other_sentences_below_the_same_names(tmp_path):
    data = runpy.run_path(str(ROOT / "egs2/synth/ml_lmcl1/local/data.py"))
    source, noisy = tmp_path / "test", tmp_path / "noisy"
    source.mkdir()
    soundfile.write(source / "u.wav", np.full(1600, 0.1), 16000)
    (source / "wav.scp").write_text(f"u {source}/u.wav\n")
    made = []
    for text, sound in (("one", "a"), ("one", "a"), ("two", "a"), ("two", "b")):
        (source / "text").write_text(f"u {text}\n")
        data["add_noise"](source, noisy, sound, 1, (8.0, 25.0))
        made.append((noisy / "request").stat().st_ino)
        assert read_table(noisy / "text") == {"u": text}
    assert made[0] == made[1] and len({(noisy / "request").read_text()}) == 1
    assert made[1] != made[2] != made[3]


def test_from_speech_to_intents(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/ml_lmcl1", tmp_path)
    out = recipe.finish(*TINY)
    for name, count in (("valid", 20), ("test", 24)):
        manual, asr, label = (
            read_table(recipe.path / f"data/{name}/{f}")
            for f in ("text_manual", "text_asr", "label")
        )
        assert len(manual) == count and manual.keys() == asr.keys() == label.keys()
        assert set(label.values()) <= INTENTS
    assert "test: accuracy" in out and "input WER" in out
    record = json.loads((recipe.path / "results/ml_lmcl.json").read_text())
    assert set(record["sets"]) == {"valid", "test"} and record["recipe"] == "synth/ml_lmcl1"
    assert not (recipe.path / "exp/asr_model/results").exists()  # its record is not ours
    made = recipe.path / "exp/asr_model/exp/base/finetune/valid.acc.ave.pth"
    before, texts = made.stat().st_mtime_ns, (recipe.path / "data/test/text_asr").read_bytes()
    again = recipe.run(*TINY, "--stage", "1", "--stop-stage", "1", "--force")
    assert "stage 7/10 finetune: up to date" in again and "slu_audio is up to date" in again
    assert made.stat().st_mtime_ns == before
    assert (recipe.path / "data/test/text_asr").read_bytes() == texts
