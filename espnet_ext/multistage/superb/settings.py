# SPDX-License-Identifier: Apache-2.0
"""How a head is trained: the values of SUPERB's protocol, each of them an option of the command.

Source: arXiv 2105.01051 and the configurations of its public code (s3prl). Clipping is as recalled.
"""

from dataclasses import dataclass
from typing import Annotated

from espnet_ext.settings import Limits

AtLeast1 = Annotated[int, Limits(at_least=1)]
AtLeast0 = Annotated[float, Limits(at_least=0)]
Above0 = Annotated[float, Limits(above=0)]


@dataclass(frozen=True)
class Settings:
    """Training of a head.

    Attributes:
        updates: Updates of Adam.
        batch: Utterances (chunks, for diarisation) in a batch.
        accumulate: Batches of an update.
        rate: Learning rate, constant.
        width: Of the projection, or cells of the LSTM.
        chunk_s: Training takes pieces of this length in seconds; 0: whole utterances.
        clip: Largest norm of the gradient.
        evaluations: How often the dev set is scored; the best head is kept.
    """

    updates: AtLeast1
    batch: AtLeast1
    rate: Above0
    accumulate: AtLeast1 = 1
    width: AtLeast1 = 256
    chunk_s: AtLeast0 = 0.0
    clip: Above0 = 1.0
    evaluations: AtLeast1 = 20


PROTOCOL = {
    "ks": Settings(updates=200_000, batch=32, rate=1e-4),
    "ic": Settings(updates=200_000, batch=32, rate=1e-4),
    "pr": Settings(updates=100_000, batch=16, rate=1e-2, accumulate=2),
    # Chunks of 2000 frames of 10 ms; their length in frames is that of the model's frame shift.
    "sd": Settings(updates=30_000, batch=8, rate=1e-4, accumulate=4, width=512, chunk_s=20.0),
}
