# SPDX-License-Identifier: Apache-2.0
"""Stages of the multi-stage recipes that differ from the standard ones."""
