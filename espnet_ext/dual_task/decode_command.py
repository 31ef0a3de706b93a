# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext decode --model MODEL AUDIO ... [options]

  AUDIO                audio files, or Kaldi-style folders with wav.scp (and segments)
  --model MODEL        model of a dual_task recipe: archive of stage 10, or exp/<name>
  --device D           cpu, cuda or cuda:N (default: cpu)
  --batch-s S          seconds of audio in a batch, padding included (default: 60)
  --longest-s S        the encoder sees longer audio in pieces (default: 60)

Output on stdout: a line of JSON for each utterance, in the order of the input,
{"id": .., "text": tagged text, "words": .., "concepts": [{"concept": .., "value": ..,
"start_s": .., "end_s": ..}]}. The id is the file as given, or the utterance of the folder. Audio of
another rate is resampled. Audio that is too short for the model has an empty text and is named on
stderr.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from espnet_ext import commandline
from espnet_ext.data import audio
from espnet_ext.data.utterances import Utterance, utterances
from espnet_ext.errors import DataError, UsageError, close_stdout

PART = 200  # utterances that are in memory at a time


def main(argv: list[str]) -> int:
    """Run ``espnet-ext decode --model``; return the exit code."""
    if commandline.asks_for_help(argv):
        print((__doc__ or "").rstrip())
        return 0
    args = commandline.parse(parser("espnet-ext decode"), argv)
    items = audio_of(args)
    return printed(_decode(args, items))


def parser(prog: str) -> commandline.Parser:
    """Return a parser of what commands on audio share."""
    seconds = commandline.number("a number of seconds from 1", lambda value: 1 <= value < 1e6)
    p = commandline.Parser(prog)
    p.add_argument("audio", nargs="*")
    p.add_argument("--model", required=True)
    p.add_argument("--device", default="cpu")
    p.add_argument("--batch-s", type=seconds, default=60.0)
    p.add_argument("--longest-s", type=seconds, default=60.0)
    return p


def audio_of(args: argparse.Namespace) -> list[Utterance]:
    """Return the utterances that are asked for, before any model is loaded.

    Raises:
        UsageError: There are none, or two of the same name.
        DataError: A file or folder is missing or not usable.
    """
    if not args.audio:
        raise UsageError("there is no audio to read", "AUDIO", "give audio files, or a data folder")
    found: list[Utterance] = []
    for given in args.audio:
        if Path(given).is_dir():
            found += utterances(given)
        elif Path(given).is_file():
            found.append(Utterance(given, given))
        else:
            raise DataError("there is no such file or folder", given, "give audio")
    seen: set[str] = set()
    for utt in found:
        if utt.id in seen:
            raise UsageError(f"'{utt.id}' stands twice", "AUDIO", "give each of them once")
        seen.add(utt.id)
    return found


def loaded(args: argparse.Namespace, **more: Any) -> Any:
    """Return the model that the options name."""
    from espnet_ext.dual_task.understand import SpeechUnderstander

    return SpeechUnderstander.from_pretrained(
        args.model, args.device, batch_s=args.batch_s, longest_s=args.longest_s, **more
    )


def understood(understand: Any, items: Iterable[Utterance]) -> Iterator[tuple[str, Any]]:
    """Yield id and result of each utterance, in order; tell on stderr of what is too short."""
    items, short = iter(items), []
    while part := list(islice(items, PART)):
        results = understand([read(utt, understand.fs) for utt in part])
        for utt, result in zip(part, results, strict=True):
            short += [utt.id] if result.too_short else []
            yield utt.id, result
    if short:
        shown = ", ".join(short[:5]) + (", ..." if short[5:] else "")
        text = f"{len(short)} utterances are too short for the model: they are empty ({shown})"
        print(text, file=sys.stderr)


def read(utt: Utterance, fs: int) -> Any:
    """Return the samples ``(N,)`` of an utterance at the rate of the model.

    Raises:
        DataError: The audio is not usable; it names the utterance.
    """
    try:
        return audio.resample(*audio.read(utt.audio, utt.start_s, utt.end_s), fs)
    except DataError as e:
        where = e.where if utt.id == utt.audio else f"{utt.id}: {e.where}"
        raise DataError(e.what, where, e.how) from None


def printed(rows: Iterable[dict]) -> int:
    """Print a line of JSON for each row; return the exit code."""
    try:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has enough
        close_stdout()
    return 0


def _decode(args: argparse.Namespace, items: list[Utterance]) -> Iterator[dict]:
    understand = loaded(args)
    if not understand.hears:
        how = "give the model of the phase finetune, of a schedule with SLU"
        raise UsageError("the model has not learnt to write concepts", args.model, how)
    for utt, found in understood(understand, items):
        concepts = [dataclasses.asdict(c) for c in found.concepts]
        yield {"id": utt, "text": found.tagged, "words": found.words, "concepts": concepts}
