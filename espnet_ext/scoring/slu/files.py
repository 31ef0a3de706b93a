# SPDX-License-Identifier: Apache-2.0
"""What is written about a scored set of tagged text: sclite's files, tables, errors, a picture.

ref.UNIT.trn, hyp.UNIT.trn  UNIT is concept, concept_value or words: ``units (all-utterance)``;
                            for example ``sclite -s -i rm -r ref.words.trn trn -h hyp... trn``
concepts.tsv                precision, recall and F1 of each concept, percent
confusions.tsv, confusion.png  what was taken for what
errors.txt                  the alignment of each utterance with an error
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from espnet_ext.files import write_text
from espnet_ext.scoring.paired import same_utterances
from espnet_ext.scoring.slu.alignment import align
from espnet_ext.scoring.slu.concepts import ConceptScore, confusions, score_concepts, total
from espnet_ext.scoring.slu.confusion import plot_confusions
from espnet_ext.text.tagged import Unit, plain, units

_SENSES = {"": "hits", "aligned_": "aligned", "value_": "values"}


def write_files(refs: Mapping[str, str], hyps: Mapping[str, str], out: Path | str) -> list[Path]:
    """Write all files of a set.

    Args:
        refs: Utterance id to tagged text.
        hyps: The same for exactly the same utterances.
        out: Folder, made if missing.

    Returns:
        The files, the picture last; without a concept on either side there is none.

    Raises:
        DataError: There is no utterance, or one stands on one side only.
        SetupError: matplotlib is not installed; all but the picture is written.
    """
    out, utts = Path(out), same_utterances(refs, hyps)
    out.mkdir(parents=True, exist_ok=True)
    found = confusions(refs, hyps)
    texts = {
        **{
            f"{side}.{kind}.trn": _trn(utts, table, write)
            for side, table in (("ref", refs), ("hyp", hyps))
            for kind, write in _TRN.items()
        },
        "concepts.tsv": _concepts(score_concepts(refs, hyps)),
        "confusions.tsv": _confusions(found),
        "errors.txt": _errors(utts, refs, hyps),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    picture = out / "confusion.png"
    picture.unlink(missing_ok=True)  # one of older hypotheses must not stay
    written = [out / name for name in texts]
    return [*written, plot_confusions(found, picture)] if found else written


def _trn(utts: Iterable[str], texts: Mapping[str, str], write: Callable[[str], str]) -> str:
    """Return a file as sclite reads it; all utterances are of the speaker ``all``."""
    return "".join(f"{write(texts[utt])} (all-{utt})".lstrip() + "\n" for utt in utts)


def _token(unit: Unit) -> str:
    """Return a unit as one word; equal words are equal units, as '_' within a word is escaped."""
    words = [w.replace("%", "%25").replace("_", "%5F") for w in unit.value.split()]
    return "_".join([f"<{unit.concept}>", *words])


_TRN: dict[str, Callable[[str], str]] = {
    "concept": lambda text: " ".join(f"<{u.concept}>" for u in units(text)),
    "concept_value": lambda text: " ".join(map(_token, units(text))),
    "words": plain,
}


def _concepts(scores: Mapping[str, ConceptScore]) -> str:
    shares = [f"{s}{m}" for s in _SENSES for m in ("precision", "recall", "f1")]
    lines = ["\t".join(["concept", "ref", "hyp", *_SENSES.values(), *shares])]
    lines += [_concept(name, score) for name, score in scores.items()]
    return "\n".join([*lines, _concept("(all, micro)", total(scores)), _macro(scores)]) + "\n"


def _concept(name: str, s: ConceptScore) -> str:
    counts = [s.ref, s.hyp, *(getattr(s, sense) for sense in _SENSES.values())]
    return "\t".join([name, *map(str, counts), *map(_percent, _shares(s))])


def _shares(s: ConceptScore) -> list[float | None]:
    hits = [getattr(s, sense) for sense in _SENSES.values()]
    return [share for n in hits for share in (s.precision(n), s.recall(n), s.f1(n))]


def _macro(scores: Mapping[str, ConceptScore]) -> str:
    """Return the line of means over concepts; an undefined share counts as 0."""
    columns = list(zip(*map(_shares, scores.values()), strict=True)) or [()] * 9
    means = [sum(x or 0.0 for x in c) / len(c) if c else None for c in columns]
    return "\t".join(["(all, macro)", *["-"] * 5, *map(_percent, means)])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"


def _confusions(counts: Mapping[tuple[str, str], int]) -> str:
    wrong = [(r, h, n) for (r, h), n in counts.items() if r != h]
    rows = [f"{r}\t{h}\t{n}" for r, h, n in sorted(wrong, key=lambda x: (-x[2], *x[:2]))]
    return "\n".join(["reference\thypothesis\tcount", *rows]) + "\n"


def _errors(utts: Iterable[str], refs: Mapping[str, str], hyps: Mapping[str, str]) -> str:
    lines = []
    for utt in utts:
        ref, hyp = units(refs[utt]), units(hyps[utt])
        if ref == hyp:
            continue
        lines += [utt, f"  ref: {refs[utt]}", f"  hyp: {hyps[utt]}"]
        for r, h in align(ref, hyp):
            if r is None or h is None:
                kind, unit = ("insertion", hyp[h]) if r is None else ("deletion", ref[r])
                lines.append(f"  {kind:13} {_shown(unit)}")
            elif ref[r] != hyp[h]:
                kind = "value" if ref[r].concept == hyp[h].concept else "substitution"
                lines.append(f"  {kind:13} {_shown(ref[r])} -> {_shown(hyp[h])}")
        lines.append("")
    return "\n".join(lines)


def _shown(unit: Unit) -> str:
    return f"<{unit.concept}> {unit.value}".rstrip()
