# SPDX-License-Identifier: Apache-2.0
"""Retrieval of a clip's sound by its pictures: top 1."""

from espnet_ext.scoring.pretraining import clip_metric

METRIC = clip_metric("video_to_audio", "Picture to sound", "sound, looked for by picture,")
