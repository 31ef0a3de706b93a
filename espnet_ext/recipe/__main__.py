# SPDX-License-Identifier: Apache-2.0
"""``python -m espnet_ext.recipe`` in a recipe's folder; see run.sh."""

import sys

from espnet_ext.recipe.runner import main

if __name__ == "__main__":
    sys.exit(main())
