# SPDX-License-Identifier: Apache-2.0
"""Stages of a dual-task recipe: what recipe.yaml names as ``code`` of a section."""
