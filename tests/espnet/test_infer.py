# SPDX-License-Identifier: Apache-2.0
"""Greedy CTC: batching changes nothing, counts add up, and it is the stock model's best path."""

import pytest
import soundfile
import torch

from espnet_ext.errors import DataError
from espnet_ext.espnet import infer, train


@pytest.fixture(scope="module")
def model(tiny_argv, tmp_path_factory):
    out = tmp_path_factory.mktemp("infer") / "exp"
    train.run("asr", [*tiny_argv, "--output_dir", str(out), "--max_epoch", "2"])
    return out / "config.yaml", out / "valid.acc.ave.pth"


@pytest.fixture(scope="module")
def wavs(tiny_data):
    lines = (tiny_data / "train/wav.scp").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_text_does_not_depend_on_the_batch(model, wavs):
    one = infer.decode_greedy(*model, wavs, batch_s=0.1)
    many = infer.decode_greedy(*model, wavs, batch_s=60.0)
    assert one.texts == many.texts and one.texts.keys() == wavs.keys()
    assert one.audio_s == pytest.approx(many.audio_s)


def test_it_is_the_best_path_of_the_stock_model(model, wavs):
    recognise = infer.GreedyCTC(*model)
    # Bias the model away from blank: an untrained one would recognise nothing at all.
    recognise.model.ctc.ctc_lo.bias.data[0] -= 5.0
    speech, _ = soundfile.read(next(iter(wavs.values())), dtype="float32")
    text = recognise([speech])[0]
    with torch.inference_mode():
        out, _ = recognise.model.encode(torch.tensor(speech)[None], torch.tensor([len(speech)]))
        best = recognise.model.ctc.log_softmax(out)[0].argmax(-1).tolist()
    path = [b for b, before in zip(best, [None, *best], strict=False) if b != before]
    assert text == "".join(recognise.token_list[i] for i in path if i != 0) != ""


def test_batches_hold_every_utterance_once_and_at_most_so_many_seconds(wavs):
    batches = list(infer._batches(wavs, 1.6))
    assert sorted(u for b in batches for u, _ in b) == sorted(wavs)
    for batch in batches:
        longest = max(soundfile.info(p).duration for _, p in batch)
        assert len(batch) == 1 or longest * len(batch) <= 1.6


def test_another_sampling_rate_is_refused_with_the_utterance(model, tmp_path):
    soundfile.write(tmp_path / "x.wav", [0.0] * 8000, 8000)
    with pytest.raises(DataError, match="utt1"):
        infer.decode_greedy(*model, {"utt1": str(tmp_path / "x.wav")}, 10.0)


def test_beam_search_is_espnets_own_and_parts_merge(model, wavs):
    items = list(wavs.items())[:3]
    options = {"beam_size": 2, "ctc_weight": 0.5, "maxlenratio": -3}
    config, file = map(str, model)
    whole = infer.decode_beam(config, file, options, "cpu", items)
    parts = infer.merge(infer.decode_beam(config, file, options, "cpu", [i]) for i in items)
    assert whole.texts == parts.texts and whole.rtf > 0
