# SPDX-License-Identifier: Apache-2.0
"""Recipes as data: stages, their runner, checks of the machine, executors and run records."""
