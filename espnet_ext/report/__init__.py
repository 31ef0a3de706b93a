# SPDX-License-Identifier: Apache-2.0
"""One HTML page of experiments: scores, curves, worst utterances to hear and see, costs."""
