# SPDX-License-Identifier: Apache-2.0
"""Audio-visual pre-training, translation mid-training, ASR fine-tuning (arXiv 2403.19822)."""
