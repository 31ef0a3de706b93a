# SPDX-License-Identifier: Apache-2.0
"""The recogniser: an ESPnet ASR model, loaded once, greedy CTC search or ESPnet's beam search.

Audio that is too short for the encoder has no hypothesis; longer audio than ``LONGEST_S`` is cut
at its pauses, as the memory of self-attention grows with the square of the length.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from espnet_ext.errors import DataError, EspnetExtError, UsageError, told
from espnet_ext.espnet import fastimport, speech2text
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.espnet.loading import task_for
from espnet_ext.frames import rate_hz

Hypothesis = tuple[str, float | None]  # text, log score
LONGEST_S = 120.0  # a piece of long audio is at most so long
PAUSE_S = 0.2  # it is cut in the middle of the quietest stretch of this length
_HOP_S = 0.01
_SEARCHED_S = 4.0  # a model that refuses so much audio does not refuse it for its length


class Recogniser(Protocol):
    """What recognises.

    Attributes:
        fs: Sampling rate of the model in Hz.
    """

    fs: int

    def __call__(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        """Recognise a batch.

        Args:
            speech: B arrays ``(N_b,)`` float32 at ``fs``.

        Returns:
            B lists of hypotheses, best first; an empty one where the audio is too short.
        """


def best_text(hypotheses: list[Hypothesis]) -> str:
    """Return the text of the best hypothesis; an empty one of audio that is too short."""
    return hypotheses[0][0] if hypotheses else ""


class _Recogniser(ABC):
    """What both searches share: which audio is too short, and how long audio is cut."""

    def __init__(self, model: Any, args: Any, longest_s: float):
        self.model = model.eval()
        self.fs = int(rate_hz(args.frontend_conf))
        self.longest = round(longest_s * self.fs)  # samples
        self.shortest = shortest_samples(self.model, self.fs)

    def __call__(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        pieces = [cut(x, self.fs, self.longest) for x in speech]
        pieces = [[p for p in parts if len(p) >= self.shortest] for parts in pieces]
        whole = iter(self._search([parts[0] for parts in pieces if len(parts) == 1]))
        return [
            next(whole) if len(parts) == 1 else _joined([self._search([p])[0] for p in parts])
            for parts in pieces
        ]

    @abstractmethod
    def _search(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        """Recognise audio that is neither too short nor too long."""


class Greedy(_Recogniser):
    """Best path of the CTC branch, batched; there is one hypothesis, without a score.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        longest_s: Longer audio is cut at pauses.
    """

    def __init__(
        self, config: Path, model_file: Path, device: str = "cpu", longest_s: float = LONGEST_S
    ):
        from espnet_ext.espnet.checkpoint import check_tensors

        check_tensors(model_file)
        fastimport.enable()
        with quiet_import():
            from espnet2.tasks.asr import ASRTask as StockASRTask
            from espnet2.text.build_tokenizer import build_tokenizer

            task = task_for(StockASRTask, config)
            model, args = task.build_model_from_file(config, model_file, device)
        if model.ctc is None:
            how = "decode.method: beam"
            raise UsageError("the model has no CTC branch to search", model_file, how)
        self.device, self.token_list = device, args.token_list
        self.tokenizer = build_tokenizer(args.token_type, bpemodel=args.bpemodel)
        super().__init__(model, args, longest_s)

    def _search(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        import torch

        if not speech:
            return []
        lengths = torch.tensor([len(x) for x in speech])
        batch = torch.zeros(len(speech), int(lengths.max()))
        for i, x in enumerate(speech):
            batch[i, : len(x)] = torch.as_tensor(x)
        with torch.inference_mode():
            out, frames = self.model.encode(batch.to(self.device), lengths.to(self.device))
            out = out[0] if isinstance(out, tuple) else out  # with those of intermediate layers
            best = self.model.ctc.argmax(out).cpu()  # (B, T)
        return [[(self._text(best[i, :n]), None)] for i, n in enumerate(frames.tolist())]

    def _text(self, best: Any) -> str:
        import torch

        ids = torch.unique_consecutive(best).tolist()
        blank = self.model.blank_id
        return self.tokenizer.tokens2text([self.token_list[i] for i in ids if i != blank])


class BeamSearch(_Recogniser):
    """ESPnet's beam search, one utterance after the other."""

    def _search(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        return [self._one(x) for x in speech]

    def _one(self, speech: np.ndarray) -> list[Hypothesis]:
        found = self._found(speech)
        return [(text or "", float(hyp.score)) for text, _, _, hyp in found] or [("", None)]

    @abstractmethod
    def _found(self, speech: np.ndarray) -> list[tuple]:
        """Return ESPnet's hypotheses: text, tokens, their numbers, and the hypothesis itself."""


class Beam(BeamSearch):
    """ESPnet's own beam search, one utterance after the other.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        options: Further arguments of ``espnet2.bin.asr_inference.Speech2Text``.
        nbest: Hypotheses of an utterance, at most; one of audio that is cut.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        longest_s: Longer audio is cut at pauses.

    Raises:
        UsageError: An option that ``Speech2Text`` does not have, or a value that it cannot have.
    """

    def __init__(
        self,
        config: Path,
        model_file: Path,
        options: dict,
        nbest: int = 1,
        device: str = "cpu",
        longest_s: float = LONGEST_S,
    ):
        given = {"nbest": nbest, **options}
        fastimport.enable()
        with quiet_import():
            from espnet_ext.espnet.search_options import check_beam

            check_beam(given, "beam search")
        self._recognise = speech2text.build(config, model_file, device=device, **given)
        super().__init__(self._recognise.asr_model, self._recognise.asr_train_args, longest_s)

    def _found(self, speech: np.ndarray) -> list[tuple]:
        found: Any = self._recognise(speech)
        # A tuple has the guesses of intermediate layers, too.
        return found[0] if isinstance(found, tuple) else found


def load_recogniser(
    config: Path,
    model_file: Path,
    beam: dict | None = None,
    nbest: int = 1,
    device: str = "cpu",
    longest_s: float = LONGEST_S,
) -> Recogniser:
    """Load a model: greedy CTC search where ``beam`` is None, else ESPnet's beam search.

    Raises:
        UsageError: Several hypotheses are asked of the greedy search.
    """
    if longest_s < 1:
        raise UsageError("pieces of long audio must have a second or more", "longest_s")
    if beam is not None:
        return Beam(config, model_file, beam, nbest, device, longest_s)
    if nbest > 1:
        raise UsageError("greedy search has one hypothesis", "nbest", "give a beam size")
    return Greedy(config, model_file, device, longest_s)


def shortest_samples(model: Any, fs: int) -> int:
    """Return the fewest samples of which the encoder of an ESPnet ASR model makes a frame.

    Found by trying: it depends on front end, subsampling and encoder. ESPnet itself raises for
    shorter audio, or not, depending on what else is in the batch.

    Args:
        model: Has ``encode(speech, lengths)``; it must be in evaluation mode.
        fs: Its sampling rate in Hz.

    Raises:
        EspnetExtError: The model refuses any audio; the cause says why.
    """
    refused, taken = 0, 1
    while (error := _refusal(model, taken)) is not None:
        refused, taken = taken, 2 * taken
        if taken > _SEARCHED_S * fs:
            what = f"the model's encoder refuses {refused / fs:.1f} s of audio"
            raise EspnetExtError(f"{what}: {told(error)}", "encode") from error
    while taken - refused > 1:
        middle = (taken + refused) // 2
        if _refusal(model, middle) is None:
            taken = middle
        else:
            refused = middle
    return taken


def _refusal(model: Any, samples: int) -> Exception | None:
    """Return why the encoder makes no frame of so many samples; None if it does."""
    import torch

    device = next(model.parameters()).device
    speech = torch.zeros(1, samples, device=device)
    try:
        with torch.inference_mode():
            _, frames = model.encode(speech, torch.tensor([samples], device=device))
    except Exception as e:  # from ESPnet, from torch.stft, from a convolution
        return e
    return None if int(frames[0]) > 0 else DataError("no frame is left", f"{samples} samples")


def cut(speech: np.ndarray, fs: int, longest: int) -> list[np.ndarray]:
    """Cut audio ``(N,)`` into pieces of at most ``longest`` samples, each at a pause.

    A piece ends in the middle of the quietest ``PAUSE_S`` of its second half.
    """
    hop, start, pieces = round(_HOP_S * fs), 0, []
    while len(speech) - start > longest:
        first = start + longest // 2
        half = speech[first : start + longest]
        energy = (half[: len(half) // hop * hop].reshape(-1, hop) ** 2).sum(1)
        span = max(1, min(round(PAUSE_S / _HOP_S), len(energy)))
        quietest = int(np.convolve(energy, np.ones(span), "valid").argmin())
        end = first + (quietest + span // 2) * hop
        pieces.append(speech[start:end])
        start = end
    return [*pieces, speech[start:]]


def _joined(parts: list[list[Hypothesis]]) -> list[Hypothesis]:
    """Return the hypothesis of audio from the best one of each piece; none of no piece."""
    if not parts:
        return []
    texts, scores = zip(*(part[0] for part in parts), strict=True)
    score = None if None in scores else sum(scores)
    return [(" ".join(text for text in texts if text), score)]
