# SPDX-License-Identifier: Apache-2.0
"""Passes of the aligner: what each trains and aligns, and the work of one shard."""
