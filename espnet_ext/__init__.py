# SPDX-License-Identifier: Apache-2.0
"""espnet_ext: published speech methods as recipes on stock ESPnet2. Importing this stays light."""

__version__ = "0.1.0"
