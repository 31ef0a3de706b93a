# SPDX-License-Identifier: Apache-2.0
"""Speech with exact phone and word times from espeak-ng (ctypes, library from a wheel).

espeak-ng keeps state between utterances (wave phase, noise, prosody), so the same call gives other
samples the second time, and ``espeak_Terminate`` does not clear it. Every utterance is therefore
spoken by a freshly loaded library (about 5 ms): equal calls give equal samples, whatever came
before, and nothing global is left behind.
"""

import _ctypes
import contextlib
import ctypes as C
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.data.synth.events import EVENT_PHONEME, Mark, Segment, marks_to_segments
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.installation import install

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, espeak_Synth returns at the end
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x1, 0x2, 0x8000
_CHARS_UTF8, _POS_CHARACTER = 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_IPA, _BETWEEN = 0x2, "_"  # of espeak_TextToPhonemes
# espeak-ng copies the path into char[160] and then appends file names of up to about 40 bytes.
_MAX_DATA_PATH_BYTES = 110
_LOCK = threading.Lock()


class _Id(C.Union):
    _fields_ = (("number", C.c_int), ("name", C.c_char_p), ("string", C.c_char * 8))


class _Event(C.Structure):
    _fields_ = (
        ("type", C.c_int),
        ("unique_identifier", C.c_uint),
        ("text_position", C.c_int),
        ("length", C.c_int),
        ("audio_position", C.c_int),
        ("sample", C.c_int),
        ("user_data", C.c_void_p),
        ("id", _Id),
    )


_SynthCallback = C.CFUNCTYPE(C.c_int, C.POINTER(C.c_short), C.c_int, C.POINTER(_Event))


@dataclass(frozen=True)
class Utterance:
    """What was spoken.

    Attributes:
        samples: (N,) int16.
        rate_hz: Sampling rate of ``samples``.
        phones: IPA phones without stress marks and ``SIL``; they tile ``[0, N / rate_hz)``.
        words: The words of the text (split at white space) that made a sound, in order; each spans
            its own phones exactly.
    """

    samples: np.ndarray
    rate_hz: int
    phones: list[Segment]
    words: list[Segment]


class Espeak:
    """The synthesiser of the wheel ``espeakng-loader``.

    Raises:
        SetupError: The wheel is not installed or its files are not usable.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise SetupError(
                "the speech synthesiser espeak-ng is not installed",
                "package espeakng-loader",
                install(extra="synth"),
            ) from None
        self._library = str(espeakng_loader.get_library_path())
        self._data, self._link = _short_path(Path(espeakng_loader.get_data_path()))
        with self._engine() as engine:
            info = engine.library.espeak_Info
            info.restype = C.c_char_p
            self.version = info(None).decode()

    def synthesize(
        self,
        text: str,
        *,
        voice: str = "en-us",
        rate_wpm: int = 160,
        pitch: int = 50,
        pitch_range: int = 50,
    ) -> Utterance:
        """Speak ``text``; equal arguments always give equal samples.

        Args:
            text: Any text; what cannot be spoken is passed over.
            voice: espeak-ng voice, with a variant if wanted: ``en-us``, ``en+m3``, ``fr``, ``ar``.
            rate_wpm: Words per minute, 80 to 400.
            pitch: 0 to 100.
            pitch_range: 0 (monotone) to 100.

        Raises:
            UsageError: No such voice, or a value out of range.
            SetupError: Another package of this process holds the library.
        """
        for name, value, low, high in (
            ("rate_wpm", rate_wpm, 80, 400),
            ("pitch", pitch, 0, 100),
            ("pitch_range", pitch_range, 0, 100),
        ):
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}", name, f"give a value in {low}..{high}")
        spoken = _separate_words(text)
        with self._engine() as engine:
            engine.set_voice(voice)
            for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, pitch_range)):
                engine.library.espeak_SetParameter(parameter, int(value), 0)
            samples, marks = engine.speak(spoken)
            rate_hz = engine.rate_hz
        phones, words = marks_to_segments(text, marks, len(samples), rate_hz)
        return Utterance(samples, rate_hz, phones, words)

    def phonemes(self, texts: Iterable[str], *, voice: str = "en-us") -> list[list[str]]:
        """Return the IPA phones of each text, with stress marks before them; "" parts two vowels.

        One library serves all: unlike speech, phones do not depend on what came before.

        Raises:
            UsageError: No such voice.
            SetupError: Another package of this process holds the library.
        """
        with self._engine() as engine:
            engine.set_voice(voice)
            return [engine.phonemes(text) for text in texts]

    @contextlib.contextmanager
    def _engine(self) -> Iterator["_Engine"]:
        """Yield a freshly loaded library; one at a time, since its state is global."""
        with _LOCK:
            if _is_loaded(self._library):
                raise SetupError(
                    "another package of this process already uses the library espeak-ng, so equal "
                    "calls would not give equal samples",
                    self._library,
                    "run it in a process of its own: python -m espnet_ext.data.synth",
                )
            engine = _Engine(self._library, self._data)
            try:
                engine.start()
                yield engine
            finally:
                engine.close()


class _Engine:
    """One loaded copy of the library, from ``dlopen`` to ``dlclose``."""

    def __init__(self, library: str, data: str) -> None:
        try:
            self.library = C.CDLL(library)
        except OSError as e:
            raise SetupError(
                f"espeak-ng cannot be loaded: {e}",
                library,
                install("--force-reinstall", "espeakng-loader"),
            ) from None
        self.data = data
        self.rate_hz = 0
        self._audio: list[bytes] = []
        self._marks: list[Mark] = []
        self._callback = _SynthCallback(self._receive)

    def start(self) -> None:
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.rate_hz = self.library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(self.data), options
        )
        if self.rate_hz <= 0:
            raise SetupError(
                "espeak-ng does not find its voices",
                self.data,
                install("--force-reinstall", "espeakng-loader"),
            )
        self.library.espeak_ng_SetRandSeed(C.c_long(1))
        self.library.espeak_SetSynthCallback(self._callback)

    def set_voice(self, voice: str) -> None:
        if "\0" in voice or self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UsageError(
                f"espeak-ng has no voice '{voice}'",
                "voice",
                "voices: en-us, en (British), fr, it, ar ...; variants: +m1 to +m8, +f1 to +f5",
            )

    def speak(self, text: str) -> tuple[np.ndarray, list[Mark]]:
        raw = text.encode("utf-8") + b"\0"
        error = self.library.espeak_Synth(
            raw, C.c_size_t(len(raw)), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if error != 0:
            raise DataError(f"espeak-ng could not speak (error {error})", repr(text[:60]))
        return np.frombuffer(b"".join(self._audio), np.int16), self._marks

    def phonemes(self, text: str) -> list[str]:
        convert = self.library.espeak_TextToPhonemes
        convert.restype = C.c_char_p
        convert.argtypes = (C.POINTER(C.c_char_p), C.c_int, C.c_int)
        rest, parts = C.c_char_p(text.replace("\0", " ").encode("utf-8", errors="replace")), []
        while rest.value is not None:  # a clause at a time
            clause = convert(C.byref(rest), _CHARS_UTF8, _IPA | ord(_BETWEEN) << 8) or b""
            parts += clause.decode("utf-8", errors="ignore").split()
        return [phone for part in parts for phone in part.split(_BETWEEN)]

    def close(self) -> None:
        self.library.espeak_Terminate()
        _unload(self.library)

    def _receive(self, wav: Any, count: int, events: Any) -> int:
        if wav and count > 0:
            self._audio.append(C.string_at(wav, 2 * count))
        i = 0
        while events[i].type:
            event = events[i]
            label = ""
            if event.type == EVENT_PHONEME:
                raw = C.string_at(C.addressof(event.id), 8).split(b"\0")[0]
                label = raw.decode("utf-8", errors="ignore")
            self._marks.append(Mark(event.sample, event.text_position - 1, label, event.type))
            i += 1
        return 0


def _separate_words(text: str) -> str:
    """Return ``text``, equally long, with words joined so that each has its own event.

    espeak-ng looks "in the", "of the" ... up as one entry and reports one word; a no-break space
    between them hides the entry and changes nothing else.
    """
    text = text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", " ")
    return re.sub(r"(?<=\w)\s(?=\w)", "\N{NO-BREAK SPACE}", text)


def _short_path(data: Path) -> tuple[str, tempfile.TemporaryDirectory | None]:
    """Return a path of ``data`` that fits espeak-ng's fixed buffers, and what keeps it alive."""
    if not (data / "phontab").is_file():
        raise SetupError(
            "the data of espeak-ng is missing",
            data,
            install("--force-reinstall", "espeakng-loader"),
        )
    if len(os.fsencode(data)) <= _MAX_DATA_PATH_BYTES:
        return str(data), None
    folder = tempfile.TemporaryDirectory(prefix="espeak")
    link = Path(folder.name) / "d"
    if len(os.fsencode(link)) > _MAX_DATA_PATH_BYTES:
        raise SetupError(
            f"the path of espeak-ng's data is over {_MAX_DATA_PATH_BYTES} bytes long",
            data,
            "set TMPDIR to a folder with a short path",
        )
    link.symlink_to(data.resolve(), target_is_directory=True)
    return str(link), folder


def _is_loaded(library: str) -> bool:
    try:
        handle = C.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return False
    _unload(handle)  # the look itself took a reference
    return True


def _unload(library: C.CDLL) -> None:
    _ctypes.dlclose(library._handle)
