# SPDX-License-Identifier: Apache-2.0
"""Scores of tagged text (see text.tagged): concepts, their values, and what is confused."""
