# SPDX-License-Identifier: Apache-2.0
"""Scores, their significance, and the results page made from run records.

No torch and no ESPnet here. ``metrics`` has one file for each metric, ``score`` applies them to a
decoded set, ``intent`` tells more of classified utterances, ``significance`` says how much of a
difference is chance, ``record`` reads what a run left behind, ``comparison`` compares two groups of
runs, ``results`` writes RESULTS.md, ``plot``, ``sweep_plot`` and ``intent_plots`` draw.
"""
