# SPDX-License-Identifier: Apache-2.0
"""BLSTM on tied states."""
