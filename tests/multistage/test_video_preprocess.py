# SPDX-License-Identifier: Apache-2.0
"""Clips through ESPnet's own data set and loader: one byte a pixel, the same draws everywhere."""

import math

import numpy as np
import pytest
import torch
from clips import numbers, write_array, write_clip
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import DataError
from espnet_ext.multistage.crop import RATIOS, Box, centre_box, cut, random_box, random_resized_crop
from espnet_ext.multistage.preprocess import VideoCollate, VideoPreprocess

SIZES = {"frames": 4, "stride": 2, "size": 16}


@given(
    height=st.integers(8, 90), width=st.integers(8, 90), low=st.floats(0.1, 1), seed=st.integers(0)
)
def test_boxes_lie_in_the_picture_and_have_the_share_asked_for(height, width, low, seed):
    box = random_box(height, width, (low, 1.0), np.random.default_rng(seed))
    assert 0 <= box.top <= height - box.height and 0 <= box.left <= width - box.width
    if box != centre_box(height, width):
        rounding = (box.height + 1) * (box.width + 1)  # each side is rounded by half a pixel
        assert rounding >= low * height * width
        least, most = RATIOS
        assert (box.width + 0.5) / max(box.height - 0.5, 0.5) >= least
        assert (box.width - 0.5) / (box.height + 0.5) <= most


def test_a_cut_is_the_part_itself_or_its_mean():
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    same = cut(frames, Box(2, 5, 16, 16), 16)
    assert same.dtype == torch.uint8 and np.array_equal(same.numpy(), frames[:, 2:18, 5:21])
    flat = np.full((2, 40, 60, 3), 77, np.uint8)
    assert (cut(flat, Box(0, 10, 40, 40), 8) == 77).all()
    stripes = np.zeros((1, 32, 32, 3), np.uint8)
    stripes[:, :, ::2] = 200  # without smoothing, every fourth column would be all or nothing
    assert ((cut(stripes, Box(0, 0, 32, 32), 8).float() - 100).abs() < 30).all()


def test_crop_and_flip_are_the_same_for_all_frames_of_a_clip():
    one = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    frames, flips, seen = np.stack([one] * 3), 0, set()
    for seed in range(60):
        out = random_resized_crop(frames, 24, flip=True, rng=np.random.default_rng(seed))
        assert (out == out[0]).all()
        plain = random_resized_crop(frames, 24, flip=False, rng=np.random.default_rng(seed))
        flips += bool((out == plain.flip(2)).all())
        assert (out == plain).all() or (out == plain.flip(2)).all()
        seen.add(out.numpy().tobytes())
    assert 18 < flips < 42 and len(seen) > 20
    middle = random_resized_crop(frames, 24, rng=None)
    assert np.array_equal(middle[0].numpy(), one[:, 4:28])


def stock(utt, data):
    return {"speech": data["speech"] + np.random.rand()}


def test_other_streams_draws_do_not_depend_on_the_clip(tmp_path):
    out = []
    for frames in (8, 60):
        path = write_array(tmp_path / f"{frames}.npy", frames)
        make = VideoPreprocess(stock, **SIZES, start="random", train=True)
        np.random.seed(5)
        out.append(make("u", {"speech": np.zeros(1), "video": str(path)})["speech"])
    assert out[0] == out[1]


def test_validation_draws_nothing_and_statistics_read_no_video(tmp_path):
    path = str(write_array(tmp_path / "a.npy"))
    make = VideoPreprocess(None, **SIZES, start="random")
    state = np.random.get_state()[1].copy()
    first, second = (make("u", {"video": path})["video"]["clip"] for _ in range(2))
    assert torch.equal(first, second) and numbers(first.numpy()) == [0, 2, 4, 6]
    assert (np.random.get_state()[1] == state).all()
    make = VideoPreprocess(None, **SIZES, decode=False)
    assert make("u", {"speech": 1, "video": "nowhere.mp4"}) == {"speech": 1}


def test_large_pictures_are_made_smaller_only_as_far_as_crops_allow(tmp_path):
    make = VideoPreprocess(None, **SIZES, train=True, scale=(0.25, 1.0))
    assert make.short_side == math.ceil(16 / 0.5)
    path = str(write_clip(tmp_path / "big.mp4", 8, size=(320, 240)))
    assert make("u", {"video": path})["video"]["clip"].shape == (4, 16, 16, 3)


def test_batches_stay_uint8_and_count_repeated_frames(tmp_path):
    items = []
    for utt, frames in (("long", 30), ("short", 5)):
        path = str(write_array(tmp_path / f"{utt}.npy", frames))
        make = VideoPreprocess(None, **SIZES)
        items.append((utt, make(utt, {"speech": np.zeros(3), "video": path})))

    def collate(rows):
        speech = np.stack([d["speech"] for _, d in rows])
        return [u for u, _ in rows], {"speech": torch.from_numpy(speech)}

    ids, batch = VideoCollate(collate)(items)
    assert ids == ["long", "short"] and batch["video"].dtype == torch.uint8
    assert batch["video"].shape == (2, 4, 16, 16, 3) and batch["speech"].shape == (2, 3)
    assert batch["video_repeated"].tolist() == [0, 1]
    assert "video" not in VideoCollate(collate)([("u", {"speech": np.zeros(3)})])[1]


@pytest.fixture
def table(tmp_path):
    """wav.scp and video.scp of six utterances."""
    import soundfile

    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", np.full(1600 + i, 0.1), 16000)
        write_array(tmp_path / f"{i}.npy", 20 + i)
    rows = {
        kind: "".join(f"u{i} {tmp_path}/{i}.{kind}\n" for i in range(6)) for kind in ("wav", "npy")
    }
    (tmp_path / "wav.scp").write_text(rows["wav"])
    (tmp_path / "video.scp").write_text(rows["npy"])
    return tmp_path


def loader(folder, workers, start="random"):
    from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
    from espnet2.train.collate_fn import CommonCollateFn
    from espnet2.train.dataset import ESPnetDataset

    from espnet_ext.espnet.iterators import PersistentIterFactory
    from espnet_ext.recipe.steps.streams import loader as kind

    data = ESPnetDataset(
        [(f"{folder}/wav.scp", "speech", "sound"), (f"{folder}/video.scp", "video", kind("video"))],
        preprocess=VideoPreprocess(None, **SIZES, start=start, train=True),
    )
    collate = VideoCollate(CommonCollateFn(float_pad_value=0.0, int_pad_value=-1))
    batches = [["u0", "u1"], ["u2", "u3"], ["u4", "u5"]]
    factory = SequenceIterFactory(data, batches, seed=7, num_workers=workers, collate_fn=collate)
    return PersistentIterFactory(factory)


def test_workers_and_a_resumed_training_draw_the_same_clips(table):
    epochs = {}
    for workers in (0, 2):
        factory = loader(table, workers)
        for epoch in (1, 2):
            epochs[workers, epoch] = [b["video"] for _, b in factory.build_iter(epoch)]
    for epoch in (1, 2):
        assert all(map(torch.equal, epochs[0, epoch], epochs[2, epoch]))
    resumed = [b["video"] for _, b in loader(table, 0).build_iter(2)]
    assert all(map(torch.equal, resumed, epochs[0, 2]))
    assert not all(map(torch.equal, epochs[0, 1], epochs[0, 2]))
    assert epochs[0, 1][0].dtype == torch.uint8 and len(epochs[0, 1]) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_clip_that_breaks_while_training_is_named(table, workers):
    (table / "3.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="utterance 'u3': its video cannot be read") as e:
        list(loader(table, workers).build_iter(1))
    assert str(e.value).count("3.npy") == 1 and "Traceback" not in str(e.value)
