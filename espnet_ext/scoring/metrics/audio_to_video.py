# SPDX-License-Identifier: Apache-2.0
"""Retrieval of a clip's pictures by its sound: top 1."""

from espnet_ext.scoring.pretraining import clip_metric

METRIC = clip_metric("audio_to_video", "Sound to picture", "picture, looked for by sound,")
