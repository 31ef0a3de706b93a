# SPDX-License-Identifier: Apache-2.0
"""Filterbanks and cepstra, and their store on disk."""
