# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext simulate-asr COMMAND ...

  estimate MANUAL ASR MODEL.json   count what a recogniser makes of words, from paired transcripts
  confuse MODEL.json TEXT OUT      ASR-like text of TEXT by such a model, to a word error rate
  speak TEXT OUT                   speak TEXT by the synthesiser, recognise it by an ESPnet model

MANUAL, ASR, TEXT and OUT are Kaldi tables, a line for each utterance: 'utt words ...'.
'espnet-ext simulate-asr COMMAND --help' lists the options.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.scoring.edits import Score
from espnet_ext.text.normalize import MODES, normalize

DEFAULT_WER = 20.0


def main(argv: list[str]) -> int:
    """Run ``espnet-ext simulate-asr``; return the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        raise UsageError(f"there is no command '{name}'", "simulate-asr", nearest(name, COMMANDS))
    COMMANDS[name](rest)
    return 0


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"espnet-ext simulate-asr {name}", description=about, allow_abbrev=False
    )


def _parse(p: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, naming the option nearest to an unknown one; check that OUT replaces no input."""
    args, unknown = p.parse_known_args(argv)
    if unknown:
        name, known = unknown[0].partition("=")[0], re.findall(r"--[\w-]+", p.format_help())
        raise UsageError(f"there is no option '{name}'", p.prog, nearest(name, known))
    for name, path in vars(args).items():
        if name != "out" and isinstance(path, Path) and path.resolve() == args.out.resolve():
            raise UsageError("OUT is one of the inputs", args.out, "name another file")
    if args.out.is_dir():
        raise UsageError("OUT is a folder", args.out, "name a file")
    return args


def _normalize_option(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--normalize", choices=MODES, default="none",
        help="none (default), lower, or words: lower case without punctuation",
    )  # fmt: skip


def estimate(argv: list[str]) -> None:
    """``espnet-ext simulate-asr estimate MANUAL ASR MODEL.json``."""
    p = _parser("estimate", "Count what a recogniser makes of words, from paired transcripts.")
    p.add_argument("manual", type=Path, help="table of manual transcripts")
    p.add_argument("asr", type=Path, help="table of ASR transcripts of the same utterances")
    p.add_argument("out", type=Path, metavar="MODEL.json", help="model to write")
    p.add_argument(
        "--lexicon", type=Path,
        help="CMUdict or Kaldi lexicon; without: phones of the synthesiser, else letters",
    )  # fmt: skip
    p.add_argument("--voice", default="en-us", help="voice (language) of the synthesiser")
    _normalize_option(p)
    args = _parse(p, argv)
    from espnet_ext.ml_lmcl.simulate import estimate as work
    from espnet_ext.ml_lmcl.simulate import realism
    from espnet_ext.ml_lmcl.simulate.generate import measure
    from espnet_ext.ml_lmcl.simulate.phones import converter

    manual, asr = _read(args.manual), _read(args.asr)
    phones = converter(args.lexicon, args.voice)
    model = work.estimate(manual, asr, phones, args.normalize)
    model.realism = realism.compare(model, manual, asr)
    model.save(args.out)
    low = [{u: normalize(t, args.normalize) for u, t in x.items()} for x in (manual, asr)]
    print(f"{args.out}: from {_said(manual, low[0])}")
    print(f"  phones: {phones[0]}; {len(model.table.phones)} words have some")
    print(f"  {len(model.words)} words, {len(model.vocabulary)} words and runs of words instead")
    _tell("pairs", measure(*low), low[1])
    _tell_realism(model.realism)


def confuse(argv: list[str]) -> None:
    """``espnet-ext simulate-asr confuse MODEL.json TEXT OUT``."""
    p = _parser("confuse", "Make ASR-like text by a confusion model, to a word error rate.")
    p.add_argument("model", type=Path, metavar="MODEL.json", help="made by 'estimate'")
    p.add_argument("text", type=Path, help="table of manual text")
    p.add_argument("out", type=Path, help="table to write")
    p.add_argument("--wer", type=float, default=DEFAULT_WER, help="target, percent (default: 20)")
    p.add_argument("--seed", type=int, default=1, help="draws the errors (default: 1)")
    p.add_argument(
        "--lexicon", type=Path, help="for words the model lacks, if it was made with one"
    )
    args = _parse(p, argv)
    from espnet_ext.ml_lmcl.simulate.confusion import ConfusionModel
    from espnet_ext.ml_lmcl.simulate.generate import Simulator
    from espnet_ext.ml_lmcl.simulate.phones import same_converter

    model, manual = ConfusionModel.load(args.model), _read(args.text)
    convert = same_converter(model.table.source, args.lexicon)
    simulator = Simulator(model, manual, args.seed, convert)
    found = simulator.reach(args.wer)
    write_table(args.out, found.texts)
    print(f"{args.out}: from {_said(manual, simulator.refs)}")
    spelt = sum(w not in simulator.model.table.phones for w in simulator.unseen)
    print(f"  {len(simulator.unseen)} words are not in the model, {spelt} of them without phones")
    print(f"  target WER {args.wer:g} %")
    _tell("reached", found.score, found.texts)
    _tell_realism(model.realism)


def speak(argv: list[str]) -> None:
    """``espnet-ext simulate-asr speak TEXT OUT --asr-config C --asr-model M``."""
    args = _parse(_speak_parser(), argv)
    from espnet_ext.espnet.recognise import best_text, load_recogniser
    from espnet_ext.ml_lmcl.simulate import speak as work
    from espnet_ext.progress import duration

    for path in (args.asr_config, args.asr_model):
        if not path.is_file():
            raise DataError("there is no such file", path, "give a trained ESPnet ASR model")
    if args.batch_s <= 0 or args.beam < 0:
        raise UsageError("the value is not positive", "--batch-s, --beam", "give a positive number")
    texts = {u: normalize(t, args.normalize) for u, t in _read(args.text).items()}
    beam = {"beam_size": args.beam} if args.beam else None
    recogniser = load_recogniser(args.asr_config, args.asr_model, beam, device=args.device)
    speaker = work.Speaker(recogniser.fs, args.seed, args.voice, tuple(args.snr_db))
    done = work.speak(
        texts,
        speaker,
        lambda speech: [best_text(found) for found in recogniser(speech)],
        rate_hz=recogniser.fs,
        batch_s=args.batch_s,
        keep_audio=args.keep_audio,
        progress=_progress,
    )
    out = {u: normalize(t, args.normalize) for u, t in done.texts.items()}
    write_table(args.out, out)
    print(f"{args.out}: from {_said(texts, texts)}, {duration(done.audio_s)} of speech")
    print(f"  {len(done.silent)} utterances make no sound; their ASR text is empty")
    _tell("recognised", work.measure(texts, out), out)


def _speak_parser() -> argparse.ArgumentParser:
    p = _parser("speak", "Speak text by the synthesiser and recognise it by an ESPnet model.")
    p.add_argument("text", type=Path, help="table of manual text")
    p.add_argument("out", type=Path, help="table to write")
    p.add_argument("--asr-config", type=Path, required=True, help="config.yaml of the ASR model")
    p.add_argument("--asr-model", type=Path, required=True, help="its .pth file")
    p.add_argument("--beam", type=int, default=0, help="beam size (default: 0, greedy CTC search)")
    p.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    p.add_argument("--batch-s", type=float, default=60.0, help="seconds of a batch (default: 60)")
    p.add_argument(
        "--snr-db", type=float, nargs=2, default=(20.0, 35.0), metavar=("LOW", "HIGH"),
        help="signal-to-noise ratio, drawn for each utterance (default: 20 35); lower: more errors",
    )  # fmt: skip
    p.add_argument("--voice", default="en-us", help="voice (language) of the synthesiser")
    p.add_argument("--seed", type=int, default=1, help="draws voices, rooms and noise (default: 1)")
    p.add_argument(
        "--keep-audio", type=Path, metavar="DIR", help="write the audio and wav.scp here"
    )
    _normalize_option(p)
    return p


def _read(path: Path) -> dict[str, str]:
    table = read_table(path)
    if not table:
        raise DataError("the table is empty", path, "give a line for each utterance")
    return table


def _said(manual: Mapping[str, str], normalized: Mapping[str, str]) -> str:
    words = sum(len(t.split()) for t in normalized.values())
    empty = sum(not t.split() for t in normalized.values())
    return f"{len(manual)} sentences ({empty} empty), {words} words"


def _tell(name: str, score: Score, texts: Mapping[str, str]) -> None:
    n = score.totals()
    same = 100.0 * float((score.errors == 0).mean())
    empty = sum(not t.split() for t in texts.values())
    print(
        f"  {name}: WER {n['rate']:.2f} % (S {n['sub']}, D {n['del']}, I {n['ins']} of {n['ref']}"
        f" words), {same:.1f} % of the sentences without error, {empty} empty"
    )


def _tell_realism(found: Mapping[str, list[float]]) -> None:
    from espnet_ext.ml_lmcl.simulate.realism import told

    if text := told(found):
        print(f"  {text}")


def _progress(done: int, total: int) -> None:
    from espnet_ext.progress import progress_log

    progress_log.info(f"recognised {done} of {total} utterances")


COMMANDS = {"estimate": estimate, "confuse": confuse, "speak": speak}
