# SPDX-License-Identifier: Apache-2.0
"""``python -m espnet_ext.recipe`` in a recipe's folder; see run.sh."""

import sys

if __name__ == "__main__":
    try:
        from espnet_ext.recipe.runner import main
    except KeyboardInterrupt:  # main tells of one that comes later
        sys.exit(130)
    sys.exit(main())
