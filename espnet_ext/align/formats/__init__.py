# SPDX-License-Identifier: Apache-2.0
"""Alignment directories, CTM, TextGrid, frame targets: reading, writing, importing."""
