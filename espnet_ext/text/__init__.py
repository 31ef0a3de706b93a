# SPDX-License-Identifier: Apache-2.0
"""Text encoders, tokenizers and normalisation of transcripts."""
