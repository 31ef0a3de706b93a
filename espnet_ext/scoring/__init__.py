# SPDX-License-Identifier: Apache-2.0
"""Scores, their significance, and the results page made from run records.

This package needs numpy only: no torch, no ESPnet. ``wer`` counts errors of words, ``intent`` of
classified utterances, ``significance`` says how much of a difference is chance, ``record`` reads
what a run left behind, ``comparison`` holds two groups of runs against each other, ``results``
writes RESULTS.md, ``sweep_plot`` and ``intent_plots`` draw.
"""
