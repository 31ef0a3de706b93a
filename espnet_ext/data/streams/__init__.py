# SPDX-License-Identifier: Apache-2.0
"""Types of data streams: one file each, named in recipe.yaml.

A type says how a value of its table is read, how long it is (for the size of batches), what is
wrong with it (for the doctor) and what becomes of it in ``dump/`` (for format). A type of your own
is ``type: package.module:object`` in recipe.yaml, an instance or a subclass of
:class:`~espnet_ext.data.streams.base.StreamType`; nothing else needs to know it.
"""

from functools import cache

from espnet_ext.data.streams.base import StreamType
from espnet_ext.errors import UsageError, nearest
from espnet_ext.plugin import load_object

_HERE = "espnet_ext.data.streams"
STREAMS = {
    "sound": f"{_HERE}.sound:Sound",
    "shar": f"{_HERE}.shar:Shar",
    "text": f"{_HERE}.text:Text",
    "npy": f"{_HERE}.npy:Npy",
    "kaldi_ark": f"{_HERE}.kaldi:KaldiArk",
    "text_int": f"{_HERE}.numbers:TextInt",
    "csv_int": f"{_HERE}.numbers:CsvInt",
    "text_float": f"{_HERE}.numbers:TextFloat",
    "csv_float": f"{_HERE}.numbers:CsvFloat",
    "video": f"{_HERE}.video:Video",
}
BY_VALUE = ("video",)  # ESPnet gets the value itself, as a text, and a preprocessor reads it
BY_US = ("shar",)  # short names that ESPnet does not know: StreamType.read reads them
AUDIO = "wav.scp"
OWN_READER = "stream:"  # before a type that ESPnet is to read by StreamType.read
SOUNDS = ("sound", "shar")  # types that are audio
USUAL = {AUDIO: "sound", "text": "text"}  # streams of a set, by file


@cache
def find_stream(name: str) -> StreamType:
    """Return the type of a stream by its short name or as ``module:object``.

    Raises:
        UsageError: There is no such type.
    """
    if name not in STREAMS and ":" not in name:
        how = f"{nearest(name, STREAMS)} or module:object"
        raise UsageError(f"there is no type of stream '{name}'", "streams.type", how)
    found = load_object(STREAMS.get(name, name), "streams.type")
    if isinstance(found, type) and issubclass(found, StreamType):
        found = found()
    if not isinstance(found, StreamType):
        how = "give an instance or a subclass of espnet_ext.data.streams.base:StreamType"
        raise UsageError(f"'{name}' is not a type of stream", "streams.type", how)
    return found
