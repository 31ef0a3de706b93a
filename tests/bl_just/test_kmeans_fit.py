# SPDX-License-Identifier: Apache-2.0
"""k-means classes in a training: fitted once, and the same when it is taken up again."""

import pytest
import torch

from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet_ext.bl_just.kmeans_loss import NearestCentre  # noqa: E402
from espnet_ext.bl_just.trainer import BLJustTrainer  # noqa: E402

TASK = "espnet_ext.bl_just.task:BLJustTask"


def run(argv, out, *conf):
    options = [x for option in conf for x in ("--bl_just", option)]
    train.run(TASK, [*argv, "--keep_nbest_models", "99", *options, "--output_dir", str(out)])
    return out


def weights(out, epoch):
    return checkpoint.load(out / f"{epoch}epoch.pth")


def test_k_means_is_fitted_once_to_the_chosen_utterances(bl_argv, tmp_path, monkeypatch):
    """A training that is taken up again has the same centres, and ends as one in one go."""
    seen, fit = [], NearestCentre.fit
    monkeypatch.setattr(
        NearestCentre, "fit", lambda self, x: (seen.append(len(x)), fit(self, x))[1]
    )
    conf = ["unsup_loss=kmeans", "kmeans={mask_length_s: 0.16, codes: 4, utterances: 5}"]
    whole = run(bl_argv, tmp_path / "whole", *conf)
    centres = weights(whole, 1)["unsup.quantiser.centres"]
    assert len(seen) == 1 and 5 * 20 <= seen[0] <= 5 * 35  # utterances of 0.8 to 1.4 s
    assert torch.equal(weights(whole, 3)["unsup.quantiser.centres"], centres)
    assert len(centres.unique(dim=0)) == 4

    parts, train_epoch = tmp_path / "parts", BLJustTrainer.train_one_epoch.__func__

    def stopped(cls, model, iterator, optimizers, reporter, **rest):
        if reporter.get_epoch() == 2:
            raise KeyboardInterrupt
        return train_epoch(cls, model, iterator, optimizers, reporter, **rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BLJustTrainer, "train_one_epoch", classmethod(stopped))
        run(bl_argv, parts, *conf)
    run(bl_argv, parts, *conf)
    assert len(seen) == 2
    ends = [weights(out, 3) for out in (whole, parts)]
    assert all(torch.equal(x, ends[1][name]) for name, x in ends[0].items())
