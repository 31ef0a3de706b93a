# SPDX-License-Identifier: Apache-2.0
"""Comparison of alignments, reports and pictures."""
