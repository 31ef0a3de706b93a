# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext report EXPERIMENT ... [options]

Write one HTML page on experiments: curves of all phases, scores with seeds and intervals, the worst
utterances with coloured differences, sound, spectrogram and phones, confidence of the alignments,
cost of each phase. The page needs no network: a browser opens the file.

  EXPERIMENT       exp/NAME of a recipe, or a run record results/NAME.json; runs that differ by
                   their seed only are one system
  --out FILE       the page (default: report.html)
  --worst N        utterances to show (default: 20)
  --set NAME       the set that they are of (default: the first test set)
  --alignment PATH alignments of that set: a folder or file of any format that 'espnet-ext align'
                   reads; may be repeated (default: dump/<set>/align)
  --aligner MODEL  aligns the shown utterances that have no alignment: a trained aligner's folder,
                   en_us for English, or none (default: the recipe's own, if it has trained one)
  --max-mb N       greatest size of the page in megabytes (default: 5); beyond it sound is left out
  --help           this text

Exit codes: 0 done, 2 wrong usage, 3 data not usable.
"""

from pathlib import Path

from espnet_ext.commandline import Parser, asks_for_help, count, number, parse
from espnet_ext.errors import UsageError
from espnet_ext.files import write_text

OUT, WORST, MAX_MB = "report.html", 20, 5.0


def main(argv: list[str]) -> int:
    """Run ``espnet-ext report``; return the exit code."""
    if asks_for_help(argv):
        print(__doc__.rstrip())
        return 0
    a = parse(_parser(), argv)
    if not a.experiments:
        raise UsageError("which experiments?", "espnet-ext report", "espnet-ext report exp/NAME")
    if a.out.is_dir():
        raise UsageError("a folder is no file to write", f"--out {a.out}", f"{a.out}/{OUT}")
    from espnet_ext.report.experiments import open_experiments
    from espnet_ext.report.page import Options, collect
    from espnet_ext.report.render import render

    options = Options(a.worst, a.set or "", tuple(a.alignment), a.aligner, a.max_mb)
    variables = collect(open_experiments(a.experiments), options, print)
    text = render(variables)
    write_text(a.out, text)
    problems = [f"{e.name}: {e.problem}" for e in variables["failed"]]
    for note in [*problems, *variables["notes"]]:
        print(f"note: {note}")
    print(f"{a.out}: {len(text.encode()) / 1e6:.2f} MB, open it in a browser")
    return 0


def _parser() -> Parser:
    megabytes = number("megabytes, 0.2 to 1000", lambda value: 0.2 <= value <= 1000)
    p = Parser("espnet-ext report")
    p.add_argument("experiments", nargs="*")
    p.add_argument("--out", type=Path, default=Path(OUT))
    p.add_argument("--worst", type=count, default=WORST)
    p.add_argument("--set")
    p.add_argument("--alignment", action="append", default=[])
    p.add_argument("--aligner", default="")
    p.add_argument("--max-mb", type=megabytes, default=MAX_MB)
    return p
