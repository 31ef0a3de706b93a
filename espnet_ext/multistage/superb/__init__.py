# SPDX-License-Identifier: Apache-2.0
"""SUPERB: light heads on the layers of a frozen encoder, four tasks, one protocol."""
