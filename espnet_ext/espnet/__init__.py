# SPDX-License-Identifier: Apache-2.0
"""The only adapter to ESPnet: fast import, Task and Trainer bases, stock verifier.

Importing this package imports neither espnet2 nor torch; its modules do what they need.
"""
