# SPDX-License-Identifier: Apache-2.0
"""Decision tree over triphone contexts."""
