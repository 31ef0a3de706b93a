# SPDX-License-Identifier: Apache-2.0
"""Linear transforms of features: LDA, MLLT, fMLLR, and their statistics."""
