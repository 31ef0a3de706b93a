# SPDX-License-Identifier: Apache-2.0
"""What stage 1 has learnt: errors against naive sums, retrieval under equal conditions, metrics."""

import numpy as np
import pytest
import torch
from small_conformer import FEATURES, WIDTH, SmallConformer, conf

from espnet_ext.errors import DataError
from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.clip_retrieval import retrieve
from espnet_ext.multistage.measure import Clips, Errors, measure
from espnet_ext.multistage.stages.pretrain import told
from espnet_ext.scoring import metrics
from espnet_ext.scoring.pretraining import error_line, found_line


def test_errors_are_those_of_the_hidden_tokens():
    torch.manual_seed(0)
    target, predicted = torch.randn(5, 6, 4), torch.randn(5, 6, 4)
    hidden = torch.rand(5, 6) < 0.5
    errors = Errors()
    for part in (slice(0, 2), slice(2, 5)):  # two batches
        part_of = target[part], predicted[part], hidden[part], predicted[part]
        errors.add(*part_of, normalise=False)
    mean = target[hidden].mean(0)
    for i, h in enumerate(hidden):
        x, y = target[i, h], predicted[i, h]
        assert errors.predicted[i] == pytest.approx(float((x - y).square().mean(1).sum()), 1e-5)
        assert errors.constant()[i] == pytest.approx(float((x - mean).square().mean(1).sum()), 1e-5)
        own = (x - x.mean(1, keepdim=True)).square().mean(1).sum()
        assert errors.own_mean[i] == pytest.approx(float(own), 1e-5)


def test_a_model_that_does_not_look_at_what_it_sees_is_told_so():
    torch.manual_seed(0)
    target, predicted, other = (torch.randn(3, 6, 4) for _ in range(3))
    hidden = torch.rand(3, 6) < 0.7
    errors = Errors()
    errors.add(target, predicted, hidden, other, normalise=False)
    errors.add(target[:1], predicted[:1], hidden[:1], other[:1], normalise=False)  # no other clip
    deaf, own = ((target - y)[hidden].square().mean() for y in (other, predicted))
    assert errors.deafness() == pytest.approx(float(deaf / own), 1e-5)
    alone = Errors()
    alone.add(target[:1], predicted[:1], hidden[:1], other[:1], normalise=False)
    assert np.isnan(alone.deafness())
    none = Errors()  # as with mask_ratio 0
    none.add(target, predicted, torch.zeros_like(hidden), other, normalise=False)
    assert np.isnan(none.deafness())
    facts = {"model": 0.84, "mean_predictor": 1.0, "seen_of_another_clip": 0.85}
    assert "WARNING" in told({"mae_audio": facts, "short_videos": 0})[1]
    for better in (1.1, None):
        facts["seen_of_another_clip"] = better
        assert len(told({"mae_audio": facts, "short_videos": 0})) == 1


def test_an_encoder_that_forgets_the_sound_is_deaf():
    """Both modalities: the same predictions, whatever the clips show."""
    model = Model(modalities="both")
    g = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (3, 4, 8, 8, 3), generator=g).to(torch.uint8)
    clips = Clips(torch.randn(3, 50, FEATURES, generator=g), torch.tensor([50, 31, 44]), video)
    assert all(abs(e.deafness() - 1) > 1e-3 for e in measure(model, [clips]).errors.values())
    with torch.no_grad():
        model.audio_visual.audio_out[1].weight.zero_()
        model.audio_visual.video_encoder.norm.weight.zero_()
    for errors in measure(model, [clips]).errors.values():
        assert errors.deafness() == pytest.approx(1, abs=1e-9)


class Model:
    """What is measured, without ESPnet: the samples are the features."""

    def __init__(self, **changes):
        torch.manual_seed(1)
        self.encoder = SmallConformer().eval()
        self.audio_visual = AudioVisual(conf(**changes), FEATURES, WIDTH).eval()

    def features(self, speech, lengths):
        return speech, lengths

    def whole_frames(self, lengths):
        return None


@pytest.mark.parametrize(
    ("objective", "modalities"), [("mae", "audio"), ("mae", "both"), ("clr", "both"),
                                  ("mae+clr", "both")],
)  # fmt: skip
def test_each_objective_has_its_own_measurement(objective, modalities):
    model = Model(objective=objective, modalities=modalities)
    g = torch.Generator().manual_seed(0)
    batches = []
    for count in (2, 3):
        video = torch.randint(0, 256, (count, 4, 8, 8, 3), generator=g).to(torch.uint8)
        speech = torch.randn(count, 50, FEATURES, generator=g)
        batches.append(Clips(speech, torch.tensor([50, 31, 44][:count]), video, video.roll(1, 1)))
    found = measure(model, batches)
    named = ("audio", "video") if modalities == "both" else ("audio",)
    assert found.errors.keys() == (set(named) if "mae" in objective else set())
    assert all(len(e.tokens) == 5 for e in found.errors.values())
    if "clr" in objective:
        assert {k: v.shape for k, v in found.embeddings.items()} == dict.fromkeys(
            ("audio", "video", "late"), (5, 8)
        )
    if "mae" in objective:  # the same as the loss of the validation, of the same batch
        alone = measure(model, batches[1:]).errors["audio"]
        b = batches[1]
        with torch.no_grad():
            stats = model.audio_visual(model.encoder, b.speech, b.speech_lengths, b.video)[1]
        loss = sum(alone.predicted) / sum(alone.tokens)
        assert loss == pytest.approx(float(stats["mae_audio"]), rel=1e-5)
        constant = alone.constant().sum() / sum(alone.tokens)
        assert constant == pytest.approx(float(stats["mean_audio"]), rel=1e-5)


SPEAKERS, SECONDS = ["x", "x", "y", "y"], [2.0, 3.0, 2.0, 2.05]


def test_a_model_that_knows_the_speaker_alone_is_found_out():
    """Its retrieval is above chance of all clips, and not among those of one speaker."""
    skin = np.array([[1.0, 0.0], [1, 0], [0, 1], [0, 1]])
    found, in_time = retrieve(skin, skin, skin, SPEAKERS, SECONDS)
    for way in found.values():
        assert way.top1() == 0.5 and way.chance() == 0.25
        assert way.top1("speaker") == way.chance("speaker") == 0.5
        assert way.among["speaker_length"].tolist() == [1, 1, 2, 2]
    assert not in_time.any()


def test_pairs_are_found_and_late_pictures_are_not():
    audio = np.eye(4)
    found, in_time = retrieve(audio, 3 * np.eye(4), np.roll(np.eye(4), 1, 0), SPEAKERS, SECONDS)
    for way in found.values():
        assert way.top1() == 1 and way.late_top1() == 0
    assert in_time.all()
    # Queries are sounds in the one way and pictures in the other.
    one = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 0], [1, 0.1]])
    found, _ = retrieve(*one, one[1], ["x", "x"], [1, 1])
    assert found["audio_to_video"].nearest["all"].tolist() == [0, 1]
    assert found["video_to_audio"].nearest["all"].tolist() == [0, 0]


def test_metrics_read_what_the_stage_writes():
    lines = {
        "a": found_line(["a", "a", "a"], "b", True, [4, 2, 1]),
        "b": found_line(["a", "b", "b"], "b", False, [4, 2, 1]),
    }
    metric = metrics.find("audio_to_video")
    scored = metric.score_set({u: u for u in lines}, lines)
    assert metric.of_totals(scored.totals) == 50
    columns = {title: metric.column(title, scored.totals) for title in metric.columns}
    assert list(columns.values()) == [25, 100, 50, 100, 100, 50, 50]
    assert list(columns) == [
        "chance", "same speaker", "chance there", "and length", "chance there, too",
        "picture 0.5 s late", "nearer than late",
    ]  # fmt: skip
    metric = metrics.find("mae_video")
    lines = {"a": error_line(2.0, 4.0, 3.0), "b": error_line(1.0, 2.0, 2.0)}
    scored = metric.score_set({u: u for u in lines}, lines)
    assert metric.of_totals(scored.totals) == 50
    assert metric.column("own mean of each token", scored.totals) == pytest.approx(100 * 5 / 6)
    for wrong in ("", "a b", "1 2 -3"):
        with pytest.raises(DataError, match="no measurement"):
            metric.score_set({"a": "a"}, {"a": wrong})
