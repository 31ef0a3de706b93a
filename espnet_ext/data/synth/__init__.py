# SPDX-License-Identifier: Apache-2.0
"""The embedded corpora: requests spoken by espeak-ng, with exact phone and word times.

``python -m espnet_ext.data.synth OUT_DIR`` makes one; :mod:`espnet_ext.data.synth.corpus` is the
same from Python. :mod:`espnet_ext.data.synth.parallel` makes one of several languages that say the
same things, with concepts and split by meaning. Nothing is imported here, so that asking for the
package costs nothing.
"""
