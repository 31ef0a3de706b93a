# SPDX-License-Identifier: Apache-2.0
"""Gaussian mixtures of tied states: model, statistics, training."""
