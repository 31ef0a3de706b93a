# SPDX-License-Identifier: Apache-2.0
"""ASR-like text from manual text: by speaking and recognising it, or by a confusion model."""
