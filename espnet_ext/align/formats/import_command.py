# SPDX-License-Identifier: Apache-2.0
"""Command lines of the importers: ``espnet-ext align import`` and ``import-...``."""

import argparse
from pathlib import Path

from espnet_ext.align.formats.import_common import ImportSummary
from espnet_ext.align.formats.import_times import MIN_COUNT, import_times
from espnet_ext.align.formats.sources import FORMATS
from espnet_ext.align.kaldi.importer import import_kaldi
from espnet_ext.align.tree.context_classes import UNITS


def main_import_kaldi(argv: list[str]) -> int:
    """Run ``espnet-ext align import-kaldi``; return the exit code."""
    p = argparse.ArgumentParser(
        prog="espnet-ext align import-kaldi",
        description="Write an alignment directory from a Kaldi experiment, without Kaldi. "
        "Classes are Kaldi's tied states (pdf ids).",
    )
    p.add_argument("ali", type=Path, help="folder with ali.*.gz and final.mdl")
    p.add_argument("out", type=Path, help="alignment directory to write")
    p.add_argument("--lang", type=Path, help="Kaldi's lang folder (default: ali/phones.txt)")
    p.add_argument("--text", type=Path, help="transcripts: 'utterance word word ...', names words")
    p.add_argument("--data", type=Path, help="data folder: check lengths; its text is the default")
    p.add_argument("--model", type=Path, help="model file (default: ali/final.mdl)")
    p.add_argument(
        "--frame-shift", type=float, metavar="S", help="seconds (default: ali/frame_shift or 0.01)"
    )
    p.add_argument(
        "--frame-subsampling", type=int, metavar="N",
        help="features per frame (default: ali/frame_subsampling_factor or 1)",
    )  # fmt: skip
    p.add_argument(
        "--no-snip-edges", action="store_true",
        help="the features were made with --snip-edges=false",
    )  # fmt: skip
    p.add_argument("--textgrid", action="store_true", help="write TextGrids too")
    a = p.parse_args(argv)
    summary = import_kaldi(
        a.ali, a.out, lang=a.lang, text=a.text, data=a.data, model=a.model,
        frame_shift_s=a.frame_shift, snip_edges=not a.no_snip_edges,
        frame_subsampling=a.frame_subsampling, textgrid=a.textgrid,
    )  # fmt: skip
    return _show(summary)


def main_import(argv: list[str]) -> int:
    """Run ``espnet-ext align import``; return the exit code."""
    p = _times_parser("import", "phones and words in any format")
    p.add_argument("source", type=Path, help="file or folder in one of the formats")
    p.add_argument("out", type=Path, help="alignment directory to write")
    p.add_argument("--format", choices=list(FORMATS), help="(default: what it looks like)")
    a = p.parse_args(argv)
    return _times(a, a.format or "")


def main_import_ctm(argv: list[str]) -> int:
    """Run ``espnet-ext align import-ctm``; return the exit code."""
    p = _times_parser("import-ctm", "a CTM file of phones")
    p.add_argument("source", type=Path, metavar="ctm", help="utterance channel start length phone")
    p.add_argument("out", type=Path, help="alignment directory to write")
    p.add_argument("--words", type=Path, metavar="CTM", help="the same for words")
    return _times(p.parse_args(argv), "ctm")


def main_import_textgrid(argv: list[str]) -> int:
    """Run ``espnet-ext align import-textgrid``; return the exit code."""
    p = _times_parser("import-textgrid", "a folder of TextGrids, as the MFA writes them")
    p.add_argument(
        "source", type=Path, metavar="folder", help="TextGrids UTTERANCE.TextGrid, also below"
    )
    p.add_argument("out", type=Path, help="alignment directory to write")
    return _times(p.parse_args(argv), "textgrid")


def _times_parser(name: str, source: str) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=f"espnet-ext align {name}",
        description=f"Write an alignment directory from {source}. "
        "Classes are phones in context; rare contexts share a class.",
    )
    p.add_argument("--data", type=Path, help="data folder: utterances must have its lengths")
    p.add_argument(
        "--segments", type=Path, metavar="FILE",
        help="Kaldi's segments, if times are within recordings (default: that of --data)",
    )  # fmt: skip
    p.add_argument("--unit", choices=UNITS, default="triphone", help="(default: %(default)s)")
    p.add_argument(
        "--min-count", type=int, default=MIN_COUNT, metavar="N",
        help="frames that a class with context must have (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--classes", type=Path, metavar="DIR",
        help="use the classes of this imported alignment (for test sets)",
    )  # fmt: skip
    p.add_argument("--frame-shift", type=float, default=0.01, metavar="S", help="seconds")
    p.add_argument("--textgrid", action="store_true", help="write TextGrids too")
    return p


def _times(a: argparse.Namespace, form: str) -> int:
    summary = import_times(
        a.source, a.out, form=form, words=getattr(a, "words", None), data=a.data,
        segments=a.segments, unit=a.unit,
        min_count=a.min_count, classes=a.classes, frame_shift_s=a.frame_shift, textgrid=a.textgrid,
    )  # fmt: skip
    return _show(summary)


def _show(summary: ImportSummary) -> int:
    print("\n".join(summary.lines()))
    return 0
