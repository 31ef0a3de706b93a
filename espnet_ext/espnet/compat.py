# SPDX-License-Identifier: Apache-2.0
"""Smooth edges of ESPnet: what its imports print, and a package that lacks wheels."""

import importlib.util
import io
import logging
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from espnet_ext.espnet import fastimport


@contextmanager
def quiet_import() -> Iterator[None]:
    """Swallow what ESPnet's modules print when they are imported: which options are not installed.

    Errors are raised as ever.
    """
    # Else a warning would open a handler to the terminal for all logging.
    logging.getLogger().addHandler(logging.NullHandler())
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def prepare_espnet() -> None:
    """Make ESPnet import fast and complete in this process; call it before espnet2 is imported."""
    fastimport.enable()
    provide_editdistance()


def provide_editdistance() -> None:
    """Give ESPnet's validation an ``editdistance`` where it is not installed.

    ESPnet's error calculator (``report_cer``, ``report_wer``, on by default) uses
    ``editdistance.eval``, whose package has no wheel for Python 3.13; rapidfuzz computes the
    same Levenshtein distance.
    """
    if "editdistance" in sys.modules or importlib.util.find_spec("editdistance"):
        return
    from rapidfuzz.distance import Levenshtein

    module = types.ModuleType("editdistance", "rapidfuzz under the name that ESPnet imports")
    module.eval = module.distance = Levenshtein.distance
    sys.modules["editdistance"] = module
