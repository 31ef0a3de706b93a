# SPDX-License-Identifier: Apache-2.0
"""The code of the stages: each module has ``plan(ctx)`` and ``run(ctx, plan)``."""
