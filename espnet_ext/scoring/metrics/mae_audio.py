# SPDX-License-Identifier: Apache-2.0
"""Masked auto-encoding of the sound of clips, against the mean predictor."""

from espnet_ext.scoring.pretraining import error_metric

METRIC = error_metric("mae_audio", "MAE of the sound", "the sound")
