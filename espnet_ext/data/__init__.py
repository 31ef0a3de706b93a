# SPDX-License-Identifier: Apache-2.0
"""Kaldi-style data directories: fetch, read, check, fix, format."""
