# SPDX-License-Identifier: Apache-2.0
"""What ESPnet imports at run time and no wheel brings on every supported Python."""

import importlib.util
import sys
import types


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
