# SPDX-License-Identifier: Apache-2.0
"""The embedded corpus: commands spoken by espeak-ng, with exact phone and word times.

``python -m espnet_ext.data.synth OUT_DIR`` makes it; :mod:`espnet_ext.data.synth.corpus` is the
same from Python. Nothing is imported here, so that asking for the package costs nothing.
"""
