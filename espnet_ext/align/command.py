# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext align DATA OUT [--lexicon CMUDICT] [--adapt]   English, by the package's model
       espnet-ext align DATA OUT --train [OPTIONS of train]        any language: as train DATA OUT
       espnet-ext align COMMAND ...

  train DATA OUT           train an aligner on a data folder, or a folder of pairs, and align it
  apply MODEL DATA OUT     align such a folder, or one recording, with a trained aligner
  model-info [MODEL]       what a trained aligner is; default: the one of the package
  compare A B              agreement of two alignments, or errors against known times
  plot ALIGNMENT OUT       pictures of utterances: spectrogram, words, phones, confidence
  export ALIGNMENT OUT     CTM, TextGrid, ELAN, JSON lines, Audacity labels, lhotse (--format)
  import SOURCE OUT        phones and words in one of these formats
  import-kaldi ALI OUT     alignments of a Kaldi experiment, without Kaldi
  import-ctm CTM OUT       phones in a CTM file
  import-textgrid DIR OUT  TextGrids, e.g. of the Montreal Forced Aligner

'espnet-ext align COMMAND --help' lists the options. OUT gets alignment/, work/ and, where
an aligner is trained or adapted, model/;
with --set keep=[mono] also OUT/mono with the alignment and the model of that pass.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from espnet_ext import yamlfile
from espnet_ext.align.models import DEFAULT
from espnet_ext.align.options import AlignOptions, from_dict
from espnet_ext.errors import DataError, UsageError, nearest


def main(argv: list[str]) -> int:
    """Run ``espnet-ext align``; return the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS and Path(name).exists():
        if not rest or rest[0].startswith("-"):
            raise UsageError("OUT, the folder to write, is missing", "align", "align DATA OUT")
        if "--train" in rest:
            return train([name, *(a for a in rest if a != "--train")])
        return apply([DEFAULT, *argv])
    if name not in COMMANDS:
        what = f"'{name}' is no command of align, and there is no such folder or recording"
        raise UsageError(what, "align", nearest(name, COMMANDS))
    return COMMANDS[name](rest) or 0


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=f"espnet-ext align {name}", description=about, allow_abbrev=False
    )
    p.add_argument("--nj", type=int, default=0, help="processes (default: all cores)")
    p.add_argument("--executor", default="local", help="local, dask, or a YAML file of dask")
    p.add_argument("--no-textgrid", action="store_true", help="write CTM only")
    p.add_argument(
        "--plot", action="store_true", help="draw the utterances that most need a look: pictures/"
    )
    p.add_argument(
        "--channel", help="auto, mix, or a number from 0; auto: mix, one channel where they cancel"
    )
    return p


def _parse(p: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, naming the option nearest to an unknown one."""
    args, unknown = p.parse_known_args(argv)
    if unknown:
        name, known = unknown[0].partition("=")[0], re.findall(r"--[\w-]+", p.format_help())
        raise UsageError(f"there is no option '{name}'", p.prog, nearest(name, known))
    if args.nj < 0:
        raise UsageError(f"{args.nj} processes are not possible", "--nj", "0 takes all cores")
    if not args.data.exists():
        raise DataError(
            "there is no such folder or file", args.data,
            "give a data folder, a folder of pairs (x.wav, x.txt), or an audio file",
        )  # fmt: skip
    return args


def _check_out(out: Path, data: Path, makes: str = "", kept: Sequence[str] = ()) -> None:
    """Refuse to replace what is not of the aligner, or of another of its commands.

    Args:
        out: OUT.
        data: DATA.
        makes: The model that the command writes: ``trained``, ``adapted``, or none.
        kept: Passes that get a folder each.

    Raises:
        UsageError: The folder holds something else.
    """
    other = "name another folder for OUT"
    if out.exists() and not out.is_dir():
        raise UsageError("OUT is a file", out, other)
    if out.resolve() == data.resolve():
        raise UsageError("OUT is the data folder itself", out, other)
    of_kept = dict.fromkeys(kept, ("model/model.json",))
    for name, signs in (SIGNS | of_kept).items():
        folder = out / name
        if folder.exists() and not any((folder / sign).is_file() for sign in signs):
            if folder.is_dir() and not any(folder.iterdir()):
                continue
            raise UsageError(f"OUT has a '{name}' that is not of the aligner", folder, other)
    if (out / "model").exists():
        from espnet_ext.align.model import is_adapted

        kind = "adapted" if is_adapted(out / "model") else "trained"
        if kind != makes:
            what = f"OUT holds {'an' if kind == 'adapted' else 'a'} {kind} aligner"
            raise UsageError(f"{what}, with the alignment it made", out, other)
    elif makes and (out / "alignment").exists():
        raise UsageError("OUT holds an alignment by another aligner", out, other)


def train(argv: list[str]) -> int:
    """``espnet-ext align train DATA OUT``."""
    p = _parser("train", "Train an aligner on a Kaldi-style folder and align it.")
    p.add_argument("data", type=Path, help=DATA)
    p.add_argument("out", type=Path, help="folder to write: alignment/, model/, work/")
    p.add_argument("--lexicon", help="CMUdict or Kaldi lexicon; without: letters as phones")
    p.add_argument("--config", type=Path, help="YAML file of options (the align section)")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="an option, e.g. passes=[mono,tri] or hybrid.epochs=4 (repeatable)",
    )  # fmt: skip
    args = _parse(p, argv)
    from espnet_ext.align.evaluate.report import write_report
    from espnet_ext.align.inputs import data_folder
    from espnet_ext.align.run import (
        learn_confidence,
        report_extra,
        save_model,
        train_aligner,
        write_pass,
    )
    from espnet_ext.recipe.lock import hold

    o, work = _options(args), args.out / "work"
    kept = [name for name in o.keep if name != o.passes[-1]]
    _check_out(args.out, args.data, "trained", kept)
    with hold(work / "lock", print), _executor(args) as executor:
        data = data_folder(args.data, work, print)
        session = train_aligner(data, work, o, executor.map, print)
        for name in kept:
            save_model(session, args.out / name / "model", name, args.data)
            write_pass(session, name, args.out / name / "alignment", args.data)
        model = save_model(session, args.out / "model", o.passes[-1], args.data)
        learn_confidence(session, model, data)
        write_pass(session, o.passes[-1], args.out / "alignment", args.data, model)
        _show(
            write_report(
                args.out / "alignment", passes=session.reports, extra=report_extra(session)
            )
        )
        _draw(args, data)
    return 0


def apply(argv: list[str]) -> int:
    """``espnet-ext align apply MODEL DATA OUT``."""
    p = _parser("apply", "Align a folder with a trained aligner.")
    p.add_argument(
        "model", type=Path, help=f"OUT of 'align train', its model folder, or {DEFAULT}, which "
        "comes with the package",
    )  # fmt: skip
    p.add_argument("data", type=Path, help=f"{DATA}, or an audio file")
    p.add_argument("out", type=Path, help="folder to write: alignment/, work/")
    p.add_argument(
        "--text", default="", help="transcript of an audio file: a file, or the words; default: "
        "the .lab or .txt beside it",
    )  # fmt: skip
    p.add_argument("--lexicon", help="another lexicon with the same phones")
    p.add_argument(
        "--adapt", action="store_true", help="fit the model to DATA first, for speech unlike what "
        "it was trained on; OUT gets the adapted model",
    )  # fmt: skip
    args = _parse(p, argv)
    from espnet_ext.align.adapt import adapt_aligner
    from espnet_ext.align.evaluate.report import write_report
    from espnet_ext.align.features.store import FeatureStore
    from espnet_ext.align.inputs import data_folder
    from espnet_ext.align.model import find
    from espnet_ext.align.run import apply_aligner
    from espnet_ext.recipe.lock import hold

    model, changes = find(args.model), _of_data(args)
    _check_out(args.out, args.data, "adapted" if args.adapt else "")
    work = args.out / "work"
    if model.folder.resolve() == (args.out / "model").resolve():
        raise UsageError("OUT holds the aligner to adapt", args.out, "name another folder for OUT")
    with hold(work / "lock", print), _executor(args) as executor:
        data = data_folder(args.data, work, print, args.text)
        if args.adapt:
            adapted = args.out / "model"
            model = adapt_aligner(model, data, adapted, work, executor.map, print, **changes)
        _, rows = apply_aligner(
            model, data, args.out / "alignment", work, executor.map, print, **changes
        )
        extra = {"audio_warnings": FeatureStore.open(work / "feats").warnings}
        _show(write_report(args.out / "alignment", passes=rows, extra=extra))
        _draw(args, data)
    return 0


def _model_info(argv: list[str]) -> int:
    p = argparse.ArgumentParser(
        prog="espnet-ext align model-info", description="Tell what a trained aligner is.",
        allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("model", nargs="?", default=DEFAULT, help=f"as of apply (default: {DEFAULT})")
    from espnet_ext.align.model import about_lines, find

    print(*about_lines(find(p.parse_args(argv).model)), sep="\n")
    return 0


def _compare(argv: list[str]) -> int:
    from espnet_ext.align.evaluate.compare import main_compare

    return main_compare([_alignment(a) for a in argv])


def _alignment(path: str) -> str:
    """Let OUT of train or apply stand for its alignment."""
    inner = Path(path) / "alignment"
    return str(inner) if (inner / "header.json").is_file() else path


def _plot(argv: list[str]) -> int:
    from espnet_ext.align.evaluate.picture import main_plot

    return main_plot(argv)


def _export(argv: list[str]) -> int:
    from espnet_ext.align.formats.export import main_export

    return main_export(argv)


def _import(name: str) -> Callable[[list[str]], Any]:
    def run(argv: list[str]) -> Any:
        from espnet_ext.align.formats import import_command as import_cli

        return getattr(import_cli, f"main_import{name}")(argv)

    return run


DATA = "folder with wav.scp, text, utt2spk (segments), or of pairs x.wav, x.txt|.lab"
OF_RECIPES = ("run", "alignments", "sets", "model", "adapt", "jitter_ms")
SIGNS = {
    "alignment": ("header.json",),
    "model": ("model.json",),
    "work": ("lock", "pronunciations.json"),
}
COMMANDS: dict[str, Callable[[list[str]], Any]] = {
    "train": train,
    "apply": apply,
    "model-info": _model_info,
    "compare": _compare,
    "plot": _plot,
    "export": _export,
    "import": _import(""),
    "import-kaldi": _import("_kaldi"),
    "import-ctm": _import("_ctm"),
    "import-textgrid": _import("_textgrid"),
}


def _options(args: argparse.Namespace) -> AlignOptions:
    given: dict[str, Any] = {}
    if args.config:
        if not args.config.is_file():
            raise UsageError("there is no such file", args.config)
        given = yamlfile.read(args.config) or {}
        given = given.get("align", given) if isinstance(given, dict) else given
        if not isinstance(given, dict):
            raise UsageError("must hold key: value lines", args.config)
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"'{text}' is not KEY=VALUE", "--set")
        section, *names = given, *key.split(".")
        for name in names[:-1]:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise UsageError(f"'{name}' is no section", f"--set {text}")
        section[names[-1]] = yamlfile.parse(value, f"--set {text}")
    o = from_dict(given | _of_data(args))
    for key in OF_RECIPES:
        if getattr(o, key):
            raise UsageError(f"'{key}' is an option of a recipe's stage 3", f"align.{key}")
    if foreign := [name for name in o.keep if name not in o.passes]:
        what = f"'{foreign[0]}' is to be kept, and is not among the passes"
        raise UsageError(what, "align.keep", f"the passes are {', '.join(o.passes)}")
    if o.lexicon and not Path(o.lexicon).is_file():
        raise DataError("there is no such lexicon", o.lexicon, "give the path of a dictionary")
    return o


def _of_data(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of ``align:`` that the data decide, as far as they are given."""
    given = {"lexicon": args.lexicon, "channel": args.channel}
    return {k: v for k, v in given.items() if v} | ({"textgrid": False} if args.no_textgrid else {})


def _executor(args: argparse.Namespace) -> Any:
    from espnet_ext.recipe.executor import make_executor
    from espnet_ext.recipe.options import Options

    return make_executor(Options(nj=args.nj, executor=args.executor))


def _draw(args: argparse.Namespace, data: Path) -> None:
    """Draw pictures if they are asked for."""
    if args.plot:
        from espnet_ext.align.evaluate.picture import main_plot

        main_plot([str(args.out), str(args.out / "pictures"), "--data", str(data)])


def _show(report: Path) -> None:
    from espnet_ext.align.evaluate.report import summary_lines

    path = report.with_suffix(".json")
    for line in summary_lines(json.loads(path.read_text(encoding="utf-8"))):
        print(line)
    print(path)
