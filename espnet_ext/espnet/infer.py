# SPDX-License-Identifier: Apache-2.0
"""Recognise the audio of a data directory with stock ESPnet models."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import quiet_import


@dataclass
class Result:
    """Texts by utterance, and what it cost. The real time factor leaves out loading the model."""

    texts: dict[str, str]
    audio_s: float
    wall_s: float

    @property
    def rtf(self) -> float:
        return self.wall_s / max(self.audio_s, 1e-9)


class GreedyCTC:
    """Best path of the CTC branch, batched.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, config: Path, model_file: Path, device: str = "cpu"):
        fastimport.enable()
        from espnet2.tasks.asr import ASRTask as StockASRTask
        from espnet2.text.build_tokenizer import build_tokenizer

        self.model, args = StockASRTask.build_model_from_file(config, model_file, device)
        self.model.eval()
        self.device = device
        self.fs = _sampling_rate(args)
        self.token_list = args.token_list
        self.tokenizer = build_tokenizer(args.token_type, bpemodel=args.bpemodel)

    def __call__(self, speech: list[Any]) -> list[str]:
        """Recognise a batch.

        Args:
            speech: B arrays (N_b,), float32, at the model's rate.

        Returns:
            B texts.
        """
        import torch

        lengths = torch.tensor([len(x) for x in speech])
        batch = torch.zeros(len(speech), int(lengths.max()))
        for i, x in enumerate(speech):
            batch[i, : len(x)] = torch.as_tensor(x)
        with torch.inference_mode():
            out, frames = self.model.encode(batch.to(self.device), lengths.to(self.device))
            out = out[0] if isinstance(out, tuple) else out
            best = self.model.ctc.argmax(out).cpu()  # (B, T)
        return [self._text(best[i, : frames[i]]) for i in range(len(speech))]

    def _text(self, best: Any) -> str:
        import torch

        ids = torch.unique_consecutive(best).tolist()
        blank = self.model.blank_id
        return self.tokenizer.tokens2text([self.token_list[i] for i in ids if i != blank])


def _sampling_rate(args: Any) -> int:
    import humanfriendly

    fs = (getattr(args, "frontend_conf", None) or {}).get("fs", 16000)
    return humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)


def decode_greedy(
    config: Path,
    model_file: Path,
    wavs: dict[str, str],
    batch_s: float,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Recognise ``{utterance: audio file}`` in batches of about ``batch_s`` seconds, by length."""
    recognise = GreedyCTC(config, model_file, device)
    texts: dict[str, str] = {}
    total_s, start = 0.0, time.perf_counter()
    for batch in _batches(wavs, batch_s):
        speech = [_read(utt, path, recognise.fs) for utt, path in batch]
        total_s += sum(len(x) for x in speech) / recognise.fs
        texts.update(zip((utt for utt, _ in batch), recognise(speech), strict=True))
        if progress:
            progress(len(texts), len(wavs))
    return Result(texts, total_s, time.perf_counter() - start)


def decode_beam(config: str, model_file: str, options: dict, device: str, part: list) -> Result:
    """Recognise one utterance after the other by ESPnet's own beam search.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        options: Further arguments of ``espnet2.bin.asr_inference.Speech2Text``.
        device: ``cpu`` or ``cuda``.
        part: ``[[utterance, audio file], ...]``.
    """
    fastimport.enable()
    with quiet_import():  # in a process of its own, nobody keeps it from the terminal
        from espnet2.bin.asr_inference import Speech2Text

    recognise = Speech2Text(config, model_file, device=device, **options)
    fs = _sampling_rate(recognise.asr_train_args)
    texts, total_s, start = {}, 0.0, time.perf_counter()
    for utt, path in part:
        speech = _read(utt, path, fs)
        total_s += len(speech) / fs
        best = recognise(speech)[0]
        texts[utt] = best[0] or ""
    return Result(texts, total_s, time.perf_counter() - start)


def _batches(wavs: dict[str, str], batch_s: float) -> Iterator[list[tuple[str, str]]]:
    """Yield batches of similar length; padded, each has at most ``batch_s`` seconds."""
    from espnet_ext.data.audio import info

    def seconds(path: str) -> float:
        i = info(path)
        return i.frames / i.rate

    items = sorted(((seconds(p), u, p) for u, p in wavs.items()), reverse=True)
    batch: list[tuple[str, str]] = []
    longest = 0.0
    for length, utt, path in items:
        longest = max(longest, length)
        if batch and longest * (len(batch) + 1) > batch_s:
            yield batch
            batch, longest = [], length
        batch.append((utt, path))
    if batch:
        yield batch


def _read(utt: str, path: str, fs: int) -> Any:
    from espnet_ext.data.audio import read

    speech, rate = read(path)
    if rate != fs:
        raise DataError(
            f"the model takes {fs} Hz and the audio has {rate} Hz", f"{utt}: {path}", "run stage 2"
        )
    return speech


def merge(results: Iterable[Result]) -> Result:
    """Join the results of parallel parts; the times add up to processor seconds."""
    texts: dict[str, str] = {}
    audio_s = wall_s = 0.0
    for r in results:
        texts.update(r.texts)
        audio_s, wall_s = audio_s + r.audio_s, wall_s + r.wall_s
    return Result(texts, audio_s, wall_s)
