# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext decode --model MODEL [FILE] [options]
       espnet-ext decode --model MODEL --data DIR --asr ASR.zip [options]

  FILE                 transcripts, one a line; without FILE, or for -, standard input
  --model MODEL        intent model: archive of stage 10, or exp/<name>
  --table              FILE is a Kaldi table: 'utterance text' a line
  --data DIR           audio: a Kaldi-style folder with wav.scp, recognised by an ESPnet model
  --asr ASR.zip        that model, packed; or --asr-config config.yaml --asr-model model.pth
  --beam N             beam search with N hypotheses in place of the greedy CTC search
  --ctc-weight W       of the beam search (default: ESPnet's)
  --nbest N            classify from the N best hypotheses, weighted by their scores
  --text-asr FILE      keep the transcripts there; a killed run goes on (default: not kept)
  --nj N               processes for the recognition (default: 1)
  --inference-model M  asr, clean or average (default: asr)
  --device D           cpu, cuda or cuda:N (default: cpu)
  --json               a line of JSON for each text, in place of 'id labels probability'

Output on stdout, in the order of the input: id TAB labels TAB probability. The id is the number
of the line, or the key of the table. An empty text is classified, too.

usage: espnet-ext transcribe DATA OUT --asr ASR.zip [--beam N] [...]

  writes the table OUT (e.g. text_asr) of the audio folder DATA, and OUT.json with the figures
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from espnet_ext import commandline
from espnet_ext.data.lines import decoded
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError, UsageError, close_stdout
from espnet_ext.ml_lmcl.classifier import IntentClassifier, Prediction
from espnet_ext.ml_lmcl.options import INFERENCE_MODELS
from espnet_ext.progress import progress_log

_BLOCK = 1 << 16
_BOM = "\ufeff"


def main(argv: list[str]) -> int:
    """Run ``espnet-ext decode --model``; return the exit code."""
    if commandline.asks_for_help(argv):
        print((__doc__ or "").rstrip())
        return 0
    args = commandline.parse(_decode_parser(), argv)
    _check(args)
    if args.file not in ("", "-") and not Path(args.file).is_file():
        raise DataError("there is no such file", args.file, "give a file of transcripts, or -")
    try:
        if args.data:
            _audio(args)
        else:
            _text(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has enough
        close_stdout()
    return 0


def transcribe_main(argv: list[str]) -> int:
    """Run ``espnet-ext transcribe``; return the exit code."""
    if not argv or commandline.asks_for_help(argv):
        print(_transcribe_help())
        return 0 if argv else 2
    args = commandline.parse(_transcribe_parser(), argv)
    result = _transcribe(args, args.out)
    rtf = result.wall_s / max(result.audio_s, 1e-9)
    wer = "" if result.wer is None else f", WER {result.wer:.2f} % (lower-cased)"
    print(f"{args.out}: {len(result.texts)} utterances, real time factor {rtf:.4f}{wer}")
    return 0


def _transcribe_help() -> str:
    """Return what the text above says of this command, with the options that both have."""
    options, own = (__doc__ or "").split("\nusage: ")
    of_asr = {a for action in _transcribe_parser()._actions for a in action.option_strings}
    shared = [line for line in options.splitlines() if line.strip().split(" ")[0] in of_asr]
    return "usage: " + "\n".join([own.rstrip(), "", *shared])


def _asr_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--asr", default="")
    p.add_argument("--asr-config", default="")
    p.add_argument("--asr-model", default="")
    p.add_argument("--beam", type=commandline.count)
    p.add_argument("--ctc-weight", type=commandline.share)
    p.add_argument("--nbest", type=commandline.count, default=1)
    p.add_argument("--nj", type=commandline.count, default=1)
    p.add_argument("--device", default="cpu")


def _decode_parser() -> argparse.ArgumentParser:
    p = commandline.Parser("espnet-ext decode")
    p.add_argument("file", nargs="?", default="")
    p.add_argument("--model", required=True)
    p.add_argument("--table", action="store_true")
    p.add_argument("--data", default="")
    p.add_argument("--text-asr", default="")
    p.add_argument("--inference-model", default="asr", choices=INFERENCE_MODELS)
    p.add_argument("--json", action="store_true")
    _asr_options(p)
    return p


def _transcribe_parser() -> argparse.ArgumentParser:
    p = commandline.Parser("espnet-ext transcribe")
    p.add_argument("data")
    p.add_argument("out")
    _asr_options(p)
    return p


def _check(args: argparse.Namespace) -> None:
    if args.data:
        for name in ("file", "table"):
            if getattr(args, name):
                raise UsageError(f"--data and {name} do not go together", "espnet-ext decode")
        _asr_model(args)
        return
    for name in ("asr", "asr_config", "asr_model", "beam", "ctc_weight", "text_asr"):
        if getattr(args, name) not in ("", None):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} is for audio", "espnet-ext decode", "add --data DIR")
    if args.nbest > 1:
        raise UsageError("--nbest is for audio", "espnet-ext decode", "add --data DIR --asr ZIP")


def _asr_model(args: argparse.Namespace) -> tuple[str, str | None]:
    """Return the archive and None, or configuration and checkpoint.

    Raises:
        UsageError: None, or both ways at once.
    """
    apart = bool(args.asr_config and args.asr_model)
    either = bool(args.asr_config or args.asr_model)
    if bool(args.asr) == either or either != apart:
        how = "give --asr ASR.zip (stage 10 of an ASR recipe), or --asr-config and --asr-model"
        raise UsageError("audio needs one ASR model", "--asr", how)
    return (args.asr, None) if args.asr else (args.asr_config, args.asr_model)


def _text(args: argparse.Namespace) -> None:
    classify = IntentClassifier.from_pretrained(args.model, args.device, args.inference_model)
    if args.file in ("", "-"):
        name, table = "standard input", args.table
        _classify_lines(classify, _available(sys.stdin.buffer), name, table, args.json)
    else:
        with open(args.file, "rb") as f:
            blocks = iter(lambda: f.read(_BLOCK), b"")
            _classify_lines(classify, blocks, args.file, args.table, args.json)


def _available(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what has come so far, so that a person or a running recogniser is answered at once."""
    read = getattr(stream, "read1", stream.read)
    return iter(lambda: read(_BLOCK), b"")


def _classify_lines(
    classify: IntentClassifier, blocks: Iterator[bytes], name: str, table: bool, as_json: bool
) -> None:
    number, seen, rest = 0, set(), b""
    for block in _with_end(blocks):
        *lines, rest = (rest + block).split(b"\n") if block else (rest, b"")
        if not block and not lines[0]:
            break
        keys, texts = [], []
        for raw in lines:
            number += 1
            key, text = _line(raw, number, name, table)
            if table and key in seen:
                raise DataError(f"'{key}' stands twice", f"{name}:{number}", "remove one of them")
            if table:
                seen.add(key)
            keys.append(key)
            texts.append(text)
        for row in zip(keys, texts, classify(texts), strict=True):
            _show(*row, as_json)
        sys.stdout.flush()


def _with_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from blocks
    yield b""


def _line(raw: bytes, number: int, name: str, table: bool) -> tuple[str, str]:
    """Return id and text of a line."""
    line = decoded(raw, name, number).rstrip("\r")
    line = line.removeprefix(_BOM) if number == 1 else line
    if not table:
        return str(number), line.strip()
    key, *text = line.split(maxsplit=1)[:2] or [""]
    if not key or line[0].isspace():
        how = "give 'utterance text' a line, or omit --table"
        raise DataError("the line has no key", f"{name}:{number}", how)
    return key, text[0].strip() if text else ""


def _show(key: str, text: str, prediction: Prediction, as_json: bool, **more: Any) -> None:
    if not as_json:
        sys.stdout.write(f"{key}\t{prediction}\t{prediction.probability:.6f}\n")
        return
    row = {
        "id": key,
        "text": text,
        "labels": prediction.labels,
        "probability": round(prediction.probability, 6),
        "posteriors": {
            head: [[label, round(p, 6)] for label, p in rows]
            for head, rows in prediction.posteriors.items()
        },
        **more,
    }
    sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


def _transcribe(args: argparse.Namespace, out: Path | str) -> Any:
    from espnet_ext.hardware import check_device
    from espnet_ext.ml_lmcl.transcribe import transcribe

    config, model = _asr_model(args)
    check_device(args.device)
    if args.nbest > (args.beam or 1):
        raise UsageError(
            f"--nbest {args.nbest} needs a beam of at least that", "--nbest",
            f"add --beam {args.nbest} or more",
        )  # fmt: skip
    beam = {"beam_size": args.beam} if args.beam else None
    if args.ctc_weight is not None:
        if beam is None:
            raise UsageError("--ctc-weight is of the beam search", "--ctc-weight", "add --beam N")
        beam["ctc_weight"] = args.ctc_weight
    if not progress_log.handlers:
        progress_log.addHandler(logging.StreamHandler())  # stderr: stdout is for results
        progress_log.setLevel(logging.INFO)
    nj = 1 if args.device != "cpu" else args.nj
    return transcribe(args.data, config, model, out, beam, nj, args.nbest, args.device)


def _audio(args: argparse.Namespace) -> None:
    # First the model of the intents: to find it unusable after an hour of recognition is too late.
    classify = IntentClassifier.from_pretrained(args.model, args.device, args.inference_model)
    with tempfile.TemporaryDirectory(prefix="espnet_ext_") as folder:
        result = _transcribe(args, args.text_asr or Path(folder) / "text_asr")
    order = [utt for utt, _ in iter_table(_utterances(Path(args.data)))]
    found = classify.nbest_many([result.nbest[utt] for utt in order])
    for utt, prediction in zip(order, found, strict=True):
        more = {"nbest": result.nbest[utt]} if args.nbest > 1 else {}
        _show(utt, result.texts[utt], prediction, args.json, **more)


def _utterances(data: Path) -> Path:
    return data / ("segments" if (data / "segments").exists() else "wav.scp")
