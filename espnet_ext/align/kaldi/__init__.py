# SPDX-License-Identifier: Apache-2.0
"""Kaldi's files, and the import of its alignments."""
