# SPDX-License-Identifier: Apache-2.0
"""Search graphs, Viterbi, and the segmentations it finds."""
