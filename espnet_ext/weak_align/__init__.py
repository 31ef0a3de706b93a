# SPDX-License-Identifier: Apache-2.0
"""Weak alignment supervision of an end-to-end ASR encoder (arXiv 2311.14835, 2402.15594)."""
