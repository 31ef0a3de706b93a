# SPDX-License-Identifier: Apache-2.0
"""``utt SHARD.tar:1234:5678``: audio inside tar files, as lhotse's Shar has it.

The table is the index: ``espnet-ext data --from-cuts SHARDS data/train`` makes it, format checks
all audio and leaves it in the shards. Audio that must change (cut, resampled, averaged, speed
copies) is written to files as ever; both kinds may stand in one table.
"""

import io

import numpy as np
import soundfile as sf

from espnet_ext.data.streams.sound import Sound
from espnet_ext.data.tar_member import parse_member, read_member
from espnet_ext.errors import DataError


class Shar(Sound):
    """Audio in shards or files; the length is counted in samples."""

    loader = ""
    in_shards = True

    def read(self, value: str) -> np.ndarray:
        """Return samples as ESPnet's own reader does; what is in them was checked by format."""
        member = parse_member(value)
        source = io.BytesIO(read_member(member)) if member else value
        try:
            return sf.read(source, dtype="float32")[0]
        except (sf.SoundFileError, RuntimeError, OSError) as e:
            how = "make it again, then ./run.sh --stage format"
            raise DataError(f"not readable as audio ({e})", value, how) from None
