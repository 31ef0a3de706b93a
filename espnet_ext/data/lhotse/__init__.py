# SPDX-License-Identifier: Apache-2.0
"""lhotse's manifests of cuts, to and from Kaldi-style folders, and its Shar shards.

Manifests are JSON lines and shards are tar files, so lhotse itself is not needed.
"""
