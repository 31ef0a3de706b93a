# SPDX-License-Identifier: Apache-2.0
"""Hybrid triphone alignment without Kaldi: GMM-HMM, decision tree, BLSTM; torch and numpy."""
