# SPDX-License-Identifier: Apache-2.0
"""Lexicons, pronunciations, phone sets."""
