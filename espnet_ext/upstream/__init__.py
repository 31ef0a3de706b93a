# SPDX-License-Identifier: Apache-2.0
"""Sending a recipe to ESPnet: a branch-ready tree in a git worktree of a checkout of ESPnet."""
