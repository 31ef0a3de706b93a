# SPDX-License-Identifier: Apache-2.0
"""Recognising files: batching changes nothing, and nothing is too short, too long or too deep."""

import numpy as np
import pytest
import soundfile
import torch

from espnet_ext.errors import DataError, EspnetExtError, UsageError
from espnet_ext.espnet import decode as module
from espnet_ext.espnet import recognise, train
from espnet_ext.espnet.recognise import Beam, Greedy, cut, load_recogniser, shortest_samples

RATE = 16000
BEAM = {"beam_size": 2, "ctc_weight": 0.5, "maxlenratio": -3}
INTERCTC = [
    *("--encoder_conf", "interctc_layer_idx=[1]"),
    *("--encoder_conf", "num_blocks=2"),
    *("--encoder_conf", "interctc_use_conditioning=true"),
    *("--model_conf", "interctc_weight=0.5"),
]


@pytest.fixture(scope="module")
def model(tiny_argv, tmp_path_factory):
    out = tmp_path_factory.mktemp("decode") / "exp"
    train.run("asr", [*tiny_argv, "--output_dir", str(out), "--max_epoch", "2"])
    return out / "config.yaml", out / "valid.acc.ave.pth"


@pytest.fixture(scope="module")
def interctc(tiny_argv, tmp_path_factory):
    """A model whose encoder returns a tuple, as intermediate layers speak too."""
    out = tmp_path_factory.mktemp("interctc") / "exp"
    train.run("asr", [*tiny_argv, *INTERCTC, "--output_dir", str(out), "--max_epoch", "1"])
    return out / "config.yaml", out / "1epoch.pth"


@pytest.fixture(scope="module")
def greedy(model):
    recogniser = Greedy(*model)
    # Bias the model away from blank: an untrained one would recognise nothing at all.
    recogniser.model.ctc.ctc_lo.bias.data[0] -= 5.0
    return recogniser


@pytest.fixture(scope="module")
def wavs(tiny_data):
    lines = (tiny_data / "train/wav.scp").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines]


def decode(model, wavs, beam=None, batch_s=60.0, longest_s=120.0):
    return module.decode(*model, beam, batch_s, "cpu", longest_s, wavs)


def noise(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def test_text_does_not_depend_on_the_batch(model, wavs):
    one, many = decode(model, wavs, batch_s=0.1), decode(model, wavs)
    assert one.texts == many.texts and one.texts.keys() == dict(wavs).keys()
    assert one.audio_s == pytest.approx(many.audio_s)
    assert one.too_short == one.long == []


def test_it_is_the_best_path_of_the_stock_model(greedy, wavs):
    speech, _ = soundfile.read(wavs[0][1], dtype="float32")
    text = greedy([speech])[0][0][0]
    with torch.inference_mode():
        out, _ = greedy.model.encode(torch.tensor(speech)[None], torch.tensor([len(speech)]))
        best = greedy.model.ctc.log_softmax(out)[0].argmax(-1).tolist()
    path = [b for b, before in zip(best, [None, *best], strict=False) if b != before]
    assert text == "".join(greedy.token_list[i] for i in path if i != 0) != ""


def test_batches_hold_every_item_once_and_at_most_so_much():
    lengths = [0.5, 0.9, 0.2, 3.0, 0.7, 0.7, 0.1]
    batches = list(module.by_length([(x, x) for x in lengths], 1.6))
    assert sorted(x for b in batches for x in b) == sorted(lengths)
    assert batches[0] == [3.0] and max(map(len, batches)) > 1
    assert all(len(b) == 1 or max(b) * len(b) <= 1.6 for b in batches)


def test_another_sampling_rate_is_refused_with_the_utterance(model, tmp_path):
    soundfile.write(tmp_path / "x.wav", [0.0] * 8000, 8000)
    with pytest.raises(DataError, match=r"8000 Hz(.|\n)*utt1: .*x\.wav"):
        decode(model, [("utt1", str(tmp_path / "x.wav"))])
    with pytest.raises(DataError, match="utt2"):
        decode(model, [("utt2", str(tmp_path / "none.wav"))])


def test_beam_search_is_espnets_own_and_parts_merge(model, wavs):
    whole = decode(model, wavs[:3], BEAM)
    parts = module.merge(decode(model, [wav], BEAM) for wav in wavs[:3])
    assert whole.texts == parts.texts and whole.rtf > 0


@pytest.mark.parametrize("beam", [None, BEAM])
@pytest.mark.parametrize("alone", [True, False])
def test_too_short_audio_has_an_empty_hypothesis_and_is_named(model, wavs, tmp_path, beam, alone):
    """ESPnet's encoder raises for 40 ms, its front end for 10 ms; in a batch it may not."""
    short = []
    for utt, seconds in (("ms40", 0.04), ("ms10", 0.01), ("none", 1 / RATE)):
        soundfile.write(tmp_path / f"{utt}.wav", noise(seconds), RATE)
        short.append((utt, str(tmp_path / f"{utt}.wav")))
    more = [] if alone else wavs[:2]
    result = decode(model, [*short, *more], beam)
    assert sorted(result.too_short) == ["ms10", "ms40", "none"]
    assert result.texts == {**dict.fromkeys(dict(short), ""), **decode(model, more, beam).texts}


def test_the_shortest_audio_is_just_not_refused(greedy):
    n = greedy.shortest
    assert 0.04 * RATE < n < 0.12 * RATE
    assert greedy([noise(1)[: n - 1]]) == [[]]
    assert len(greedy([noise(1)[:n]])[0]) == 1


def test_a_model_that_refuses_everything_says_why(greedy):
    class Deaf(torch.nn.Linear):
        def encode(self, speech, lengths):
            raise RuntimeError("no such layer")

    with pytest.raises(EspnetExtError, match="no such layer"):
        shortest_samples(Deaf(1, 1), RATE)


def test_models_with_intermediate_ctc(interctc, wavs):
    assert isinstance(Greedy(*interctc).model.encode(torch.zeros(1, RATE), torch.tensor([RATE]))[0],
                      tuple)  # fmt: skip
    for beam in (None, BEAM):
        assert decode(interctc, wavs[:2], beam).texts.keys() == dict(wavs[:2]).keys()


def test_long_audio_is_cut_at_its_pauses():
    speech = noise(10)
    pauses = (2.4, 5.6, 8.5)
    for at in pauses:
        speech[round((at - 0.15) * RATE) : round((at + 0.15) * RATE)] *= 0.01
    pieces = cut(speech, RATE, 4 * RATE)
    assert np.array_equal(np.concatenate(pieces), speech)
    ends = np.cumsum([len(p) for p in pieces])[:-1] / RATE
    assert ends == pytest.approx(pauses, abs=0.06)
    assert len(cut(speech, RATE, 10 * RATE)) == 1


@pytest.mark.parametrize("kind", ["even", "silent"])
def test_audio_without_a_pause_is_cut_all_the_same(kind):
    speech = np.zeros(5000, np.float32) if kind == "silent" else noise(5000 / RATE)
    pieces = cut(speech, 1000, 700)
    assert sum(map(len, pieces)) == 5000 and max(map(len, pieces)) <= 700


def test_minutes_are_recognised_piece_by_piece(greedy, monkeypatch):
    longest = []
    encode = greedy.model.encode
    monkeypatch.setattr(greedy, "longest", 5 * RATE)
    monkeypatch.setattr(
        greedy.model, "encode", lambda x, n: (longest.append(tuple(x.shape)), encode(x, n))[1]
    )
    [[(text, score)]] = greedy([noise(200)])
    assert len(longest) >= 40 and score is None
    assert all(n == 1 and samples <= 5 * RATE for n, samples in longest)
    assert text.count(" ") == len(longest) - 1  # the model hears something in all noise


def test_pieces_are_joined_and_named(model, wavs, tmp_path):
    audio = np.concatenate([soundfile.read(path, dtype="float32")[0] for _, path in wavs[:3]])
    soundfile.write(tmp_path / "long.wav", audio, RATE)
    result = decode(model, [("long", str(tmp_path / "long.wav")), wavs[0]], None, longest_s=1.0)
    assert result.long == ["long"] and result.too_short == []
    beam = Beam(*model, BEAM, longest_s=1.0)
    [[(text, score)]] = beam([audio])
    pieces = [beam([p])[0][0] for p in cut(audio, RATE, RATE) if len(p) >= beam.shortest]
    assert text == " ".join(t for t, _ in pieces if t)
    assert score == pytest.approx(sum(s for _, s in pieces))


def test_misuse(model):
    with pytest.raises(UsageError, match="beem_size"):
        load_recogniser(*model, {"beem_size": 3})
    with pytest.raises(UsageError, match="one hypothesis"):
        load_recogniser(*model, nbest=2)
    with pytest.raises(UsageError, match="longest_s"):
        load_recogniser(*model, longest_s=0.0)


def test_no_hypothesis_is_an_empty_text():
    assert recognise.best_text([]) == "" and recognise.best_text([("a b", None)]) == "a b"
