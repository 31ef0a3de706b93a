# SPDX-License-Identifier: Apache-2.0
"""Concepts and embeddings of speech in three lines of Python::

    from espnet_ext.dual_task.understand import SpeechUnderstander
    understand = SpeechUnderstander.from_pretrained("exp/base/synth_dual_task1_base.zip")
    print(understand([soundfile.read("speech.wav", dtype="float32")[0]])[0].concepts)

``(Concept(concept='city', value='le mans', start_s=1.2, end_s=1.7),)``. No network is used.
Letters: B utterances, T encoder frames, E values of an embedding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from espnet_ext.dual_task.reading import Concept, pieces, read
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet.decode import by_length
from espnet_ext.espnet.recognise import cut, shortest_samples
from espnet_ext.frames import encoder_of_config, rate_hz
from espnet_ext.hardware import check_device

BATCH_S = 60.0  # seconds of audio in a batch, padding included
LONGEST_S = 60.0  # the encoder sees longer audio in pieces
_PROBE_S = (4.0, 8.0)


@dataclass(frozen=True)
class Understood:
    """What the model says of one utterance.

    Attributes:
        tagged: Words with tags, ``<city> le mans >``.
        words: The words alone.
        concepts: The units, with times.
        embedding: ``(E,)`` float32, to be compared by its cosine; None of audio that is too
            short, and of a model without embeddings.
        too_short: Whether the audio is shorter than a frame of the encoder; all is empty then.
        long: Whether the encoder saw the audio in pieces.
    """

    tagged: str
    words: str
    concepts: tuple[Concept, ...]
    embedding: np.ndarray | None
    too_short: bool = False
    long: bool = False


class _Encoded(NamedTuple):
    """Frames ``(T, D)`` of one utterance, and where each of them begins, ``(T,)`` seconds."""

    hidden: Any
    starts_s: np.ndarray


class SpeechUnderstander:
    """A trained model that reads concepts from speech and embeds utterances.

    An utterance is one unit of meaning: whatever its length, it has one embedding, and the SLU
    layers see all of its frames. Only the encoder, whose self-attention grows with the square of
    the length, sees audio above ``longest_s`` in pieces that are cut at pauses.

    Args:
        model: With ``encode``, ``slu_hidden``, ``embed``, ``ctc``, ``losses``, in evaluation mode.
        args: ESPnet's options of its training.
        device: Where the model is.
        batch_s: Seconds of audio in a batch, padding included.
        longest_s: See above.
        sentences: Encoder of texts, for :meth:`retrieve`.

    Attributes:
        fs: Sampling rate of the model in Hz.
        hears: Whether it has learnt to write tagged text; else that is empty.
        embeds: Whether it has utterance embeddings.
        width: E, values of an embedding; 0 without.
        shift_s: Seconds between encoder frames.
    """

    def __init__(
        self,
        model: Any,
        args: Any,
        device: str = "cpu",
        batch_s: float = BATCH_S,
        longest_s: float = LONGEST_S,
        sentences: Any = None,
    ):
        if batch_s <= 0 or longest_s < 1:
            what = "batch_s must be above 0, and longest_s at least 1"
            raise UsageError(what, "SpeechUnderstander")
        self.model, self.device, self.batch_s = model.eval(), device, batch_s
        self.fs = int(rate_hz(getattr(args, "frontend_conf", None)))
        self.hears = "slu" in model.losses
        self.embeds = getattr(model, "pooling", None) is not None
        facts = (getattr(args, "dual_task", None) or {}).get("resolved") or {}
        self.width = int(facts.get("embedding_dim", 0))
        self.sentences = sentences
        self._longest = round(longest_s * self.fs)
        self._shortest = shortest_samples(model, self.fs)
        self._pieces = pieces(list(args.token_list), args.token_type)
        self.shift_s, self._first_s = self._frame_times(args)

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str,
        device: str = "cpu",
        retrieval: bool = False,
        sentence_encoder: Path | str = "",
        **options: Any,
    ) -> "SpeechUnderstander":
        """Load a trained model.

        Args:
            path: Archive of stage 10 (zip), experiment folder ``exp/<name>``, or the folder or hub
                name of a published model.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            retrieval: Load the sentence encoder as well, for :meth:`retrieve`.
            sentence_encoder: Folder or name on the hub; default: the one of the training.
            options: ``batch_s``, ``longest_s``.

        Raises:
            DataError: There is no such file, it is damaged, or of another method; or the sentence
                encoder is not that of the training.
            SetupError: The device or the sentence encoder is not there.
        """
        check_device(device)
        from espnet_ext.dual_task.load import load_model, located

        with located(path) as files:
            model, args = load_model(files.config, files.model, device)
            if retrieval or sentence_encoder:
                from espnet_ext.dual_task.retrieval import sentence_encoder_of

                encoder = sentence_encoder_of(files, str(sentence_encoder), device)
                options["sentences"] = encoder
        return cls(model, args, device, **options)

    def __call__(self, speech: Sequence[np.ndarray], fs: float | None = None) -> list["Understood"]:
        """Understand utterances, in batches of similar length.

        Args:
            speech: Arrays ``(N,)`` at the rate :attr:`fs`, from -1 to 1.
            fs: Their rate, to be checked.

        Returns:
            One result for each, in order; audio that is too short has an empty one.

        Raises:
            DataError: An array is not one channel of finite samples, or the rate is another.
        """
        checked = self._checked(speech, fs)
        out: list[Understood | None] = [None] * len(checked)
        lengths = [(len(x) / self.fs, i) for i, x in enumerate(checked)]
        for rows in by_length(lengths, self.batch_s):
            for i, found in zip(rows, self._batch([checked[i] for i in rows]), strict=True):
                out[i] = found
        return [x for x in out if x is not None]

    def embed(self, speech: Sequence[np.ndarray], fs: float | None = None) -> np.ndarray:
        """Return the embeddings of B utterances, ``(B, E)`` float32; see :meth:`__call__`.

        Raises:
            DataError: An utterance is too short for the model.
            UsageError: The model has no embeddings.
        """
        self.check_embeds()
        found = self(speech, fs)
        for i, x in enumerate(found):
            if x.embedding is None:
                what = f"audio needs at least {self._shortest} samples to be embedded"
                raise DataError(what, f"utterance {i}", "leave it out")
        vectors = [x.embedding for x in found]
        return np.stack(vectors) if vectors else np.zeros((0, self.width), np.float32)

    def check_embeds(self) -> None:
        """Refuse a model without utterance embeddings.

        Raises:
            UsageError: It has none.
        """
        if not self.embeds:
            how = "train with sentence embeddings (stage 2 of the recipe makes them)"
            raise UsageError("the model has no utterance embeddings", "dual_task", how)

    def retrieve(
        self, speech: Sequence[np.ndarray], texts: Sequence[str], top: int = 1
    ) -> list[list[tuple[str, float]]]:
        """Rank texts of any language for each utterance.

        Returns:
            For each utterance its ``top`` nearest distinct texts with their cosines, best first.

        Raises:
            UsageError: The model was loaded without its sentence encoder.
        """
        from espnet_ext.dual_task.retrieval import rank

        if self.sentences is None:
            how = "from_pretrained(path, retrieval=True)"
            raise UsageError("the sentence encoder is not loaded", "retrieve", how)
        distinct = list(dict.fromkeys(texts))
        ranked = rank(self.embed(speech), self.sentences(distinct), top)
        return [[(distinct[i], cosine) for i, cosine in row] for row in ranked]

    def _checked(self, speech: Sequence[np.ndarray], fs: float | None) -> list[np.ndarray]:
        if fs is not None and fs != self.fs:
            what = f"the model takes {self.fs} Hz and the audio has {fs:g} Hz"
            raise DataError(what, "fs", "resample it: espnet_ext.data.audio.resample")
        if isinstance(speech, np.ndarray) and speech.ndim < 2:
            raise UsageError("a list of arrays is understood", "SpeechUnderstander", "[speech]")
        out = [np.asarray(x, dtype=np.float32) for x in speech]
        for i, x in enumerate(out):
            if x.ndim != 1:
                what = f"audio must be samples (N,) of one channel, not of shape {x.shape}"
                raise DataError(what, f"utterance {i}", "give one channel")
            if not np.isfinite(x).all():
                raise DataError("the audio has samples that are not finite", f"utterance {i}")
        return out

    def _batch(self, speech: list[np.ndarray]) -> Iterator[Understood]:
        """Yield the results of a batch, in its order."""
        usable = [x for x in speech if len(x) >= self._shortest]
        results = iter(self._results(usable) if usable else ())
        for x in speech:
            short = len(x) < self._shortest
            yield Understood("", "", (), None, too_short=True) if short else next(results)

    def _results(self, speech: list[np.ndarray]) -> list[Understood]:
        """Return the results of audio that is not too short."""
        import torch

        with torch.inference_mode():
            encoded = self._encode(speech)
            hidden = torch.nn.utils.rnn.pad_sequence([e.hidden for e in encoded], True)
            lengths = torch.tensor([len(e.hidden) for e in encoded], device=hidden.device)
            paths = self._paths(hidden, lengths)
            vectors = self.model.embed(hidden, lengths).float().cpu() if self.embeds else None
        out = []
        for row, (x, e) in enumerate(zip(speech, encoded, strict=True)):
            path = paths[row][: len(e.hidden)] if self.hears else ()
            found = read(path, self._pieces, e.starts_s, self.shift_s, self.model.blank_id)
            vector = None if vectors is None else vectors[row].numpy()
            long = len(x) > self._longest
            out.append(Understood(found.tagged, found.words, found.concepts, vector, long=long))
        return out

    def _paths(self, hidden: Any, lengths: Any) -> list[list[int]]:
        """Return the best symbol of each frame, ``(B, T)``."""
        if not self.hears:
            return []
        return self.model.ctc.argmax(self.model.slu_hidden(hidden, lengths)).tolist()

    def _encode(self, speech: list[np.ndarray]) -> list[_Encoded]:
        """Encode utterances: those that are too long each in pieces, the others together."""
        whole = [i for i, x in enumerate(speech) if len(x) <= self._longest]
        hidden = self._hidden([speech[i] for i in whole])
        found = {i: _Encoded(h, self._starts(len(h))) for i, h in zip(whole, hidden, strict=True)}
        return [found.get(i) or self._in_pieces(x) for i, x in enumerate(speech)]

    def _in_pieces(self, speech: np.ndarray) -> _Encoded:
        """Encode audio ``(N,)`` that is too long in pieces, whose frames are joined."""
        import torch

        hidden, starts, at = [], [], 0
        for piece in cut(speech, self.fs, self._longest):
            if len(piece) >= self._shortest:
                hidden += self._hidden([piece])
                starts.append(self._starts(len(hidden[-1])) + at / self.fs)
            at += len(piece)
        return _Encoded(torch.cat(hidden), np.concatenate(starts))

    def _hidden(self, speech: list[np.ndarray]) -> list[Any]:
        """Return the encoder's frames of each utterance, ``(T, D)``."""
        import torch

        if not speech:
            return []
        lengths = torch.tensor([len(x) for x in speech])
        batch = torch.zeros(len(speech), int(lengths.max()))
        for i, x in enumerate(speech):
            batch[i, : len(x)] = torch.as_tensor(x)
        out, frames = self.model.encode(batch.to(self.device), lengths.to(self.device))
        out = out[0] if isinstance(out, tuple) else out  # with those of intermediate layers
        return [out[i, :n] for i, n in enumerate(frames.tolist())]

    def _starts(self, frames: int) -> np.ndarray:
        return self._first_s + self.shift_s * np.arange(frames)

    def _frame_times(self, args: Any) -> tuple[float, float]:
        """Return seconds between frames, and where the first one begins."""
        encoder = encoder_of_config(vars(args))
        if encoder is not None:
            return encoder.shift_s, encoder.first_centre_s - encoder.shift_s / 2
        import torch

        with torch.inference_mode():
            one, two = (len(self._hidden([np.zeros(round(s * self.fs))])[0]) for s in _PROBE_S)
        return (_PROBE_S[1] - _PROBE_S[0]) / max(1, two - one), 0.0
