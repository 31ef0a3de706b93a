# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext publish``: a trained model as a folder of the Hugging Face hub."""
