# SPDX-License-Identifier: Apache-2.0
"""A trained aligner in one folder, without pickle.

model.json      format, options, phone names, which files there are
gmm.npz tree.json [transform.npz]      of the last GMM pass
times_gmm.npz times_tree.json          of the pass whose times are written, if it is another
si_gmm.npz si_tree.json                with sat: the speaker-independent pass before it
hybrid.npz                             with hybrid; blstm.npz in models of earlier versions
lexicon/                               a copy of the lexicon, so that the folder can move
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from espnet_ext.align import models as shipped
from espnet_ext.align.options import GMM_PASSES, AlignOptions, from_dict, on_device
from espnet_ext.align.session import Model
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_dir, write_json
from espnet_ext.lang.phones import PhoneSet

FORMAT = "espnet_ext aligner 1"
FILES = ("gmm.npz", "tree.json")


@dataclass(frozen=True)
class AlignModel:
    """What :func:`load` finds; paths are empty where a part is missing."""

    folder: Path
    options: AlignOptions
    phones: PhoneSet
    final: str  # name of the pass that aligns
    trained_on: str
    times: str  # name of the pass whose times are written
    adapted_from: str = ""  # the aligner that was adapted

    def file(self, name: str) -> str:
        path = self.folder / name
        return str(path) if path.exists() else ""

    def network_file(self) -> str:
        """Return the file of the hybrid."""
        return self.file("hybrid.npz") or self.file("blstm.npz")


def save(
    out: Path, models: dict[str, Model], o: AlignOptions, phones: PhoneSet, trained_on: str
) -> AlignModel:
    """Collect the files of the passes."""
    gmm = models[[name for name in GMM_PASSES if name in models][-1]]
    with atomic_dir(out) as tmp:
        shutil.copy(gmm.gmm, tmp / "gmm.npz")
        shutil.copy(gmm.tree, tmp / "tree.json")
        if gmm.transform:
            shutil.copy(gmm.transform, tmp / "transform.npz")
        if (times := o.times_of(list(models)[-1])) != list(models)[-1]:
            shutil.copy(models[times].gmm, tmp / "times_gmm.npz")
            shutil.copy(models[times].tree, tmp / "times_tree.json")
        if gmm.before:
            shutil.copy(Path(gmm.before) / "gmm.npz", tmp / "si_gmm.npz")
            shutil.copy(Path(gmm.before) / "tree.json", tmp / "si_tree.json")
        if "hybrid" in models:
            shutil.copy(models["hybrid"].gmm, tmp / "hybrid.npz")
        files = sorted(p.name for p in tmp.iterdir())
        _copy_lexicon(o, tmp)
        about = {
            "format": FORMAT,
            "final": list(models)[-1],
            "times": times,
            "trained_on": trained_on,
            "phones": list(phones.names),
            "files": files,
            "options": asdict(o),
        }
        write_json(tmp / "model.json", about)
    return load(out)


def save_adapted(
    out: Path, model: AlignModel, o: AlignOptions, files: dict[str, str], data: str
) -> AlignModel:
    """Write a model with some of its files replaced.

    Args:
        out: Folder of the new model.
        model: The one it is made from.
        o: Its options, with those of the adaptation.
        files: Path of what takes the place of each file, by its name in the model.
        data: What it was adapted to.
    """
    with atomic_dir(out) as tmp:
        about = json.loads((model.folder / "model.json").read_text(encoding="utf-8"))
        for path in model.folder.glob("*.*"):
            if path.name not in ("model.json", "README.md"):  # the card is of the other one
                shutil.copy(files.get(path.name, path), tmp / path.name)
        _copy_lexicon(o, tmp)
        about |= {
            "adapted_from": shipped.told(model.folder),
            "trained_on": f"{model.trained_on}; adapted to {data}",
            "options": asdict(o),
        }
        write_json(tmp / "model.json", about)
    return load(out)


def is_adapted(folder: Path) -> bool:
    """Whether :func:`save_adapted` wrote a folder, which may be damaged."""
    path = folder / "model.json"
    return path.is_file() and b'"adapted_from"' in path.read_bytes()


def _copy_lexicon(o: AlignOptions, folder: Path) -> None:
    if o.lexicon:  # under its name: that tells the format
        (folder / "lexicon").mkdir()
        shutil.copy(o.lexicon, folder / "lexicon")


def find(model: Path | str) -> AlignModel:
    """Open a trained aligner by its folder or name; see :func:`espnet_ext.align.models.folder`.

    Raises:
        DataError: There is no such aligner.
    """
    return load(shipped.folder(model))


def about_lines(model: AlignModel) -> list[str]:
    """Return what a person may want to know of a model."""
    o, files = model.options, [p for p in model.folder.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files) / 1e6
    lexicon = "in the folder" if o.lexicon else "none: words are spelt or converted"
    card, phones = model.folder / "README.md", model.phones.whole.names
    return [
        f"folder:     {model.folder} ({size:.1f} MB)",
        f"trained on: {model.trained_on}",
        *([f"adapted:    from {model.adapted_from}"] if model.adapted_from else []),
        f"passes:     {', '.join(o.passes)}; labels by {model.final}, times by {model.times}",
        f"audio:      {o.fs} Hz",
        f"lexicon:    {lexicon}",
        f"phones:     {len(phones)}: {' '.join(phones)}",
        *([f"card:       {card}"] if card.is_file() else []),
    ]


def load(folder: Path | str) -> AlignModel:
    """Open a trained aligner.

    Raises:
        DataError: The folder is no aligner of this version.
    """
    folder = Path(folder)
    path = folder / "model.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise DataError(f"the format is '{about['format']}', not '{FORMAT}'", path)
        lost = [n for n in about.get("files", FILES) if not (folder / n).is_file()]
        if lost:
            raise DataError(f"the aligner lacks {', '.join(lost)}", folder, "copy all of it")
        # Of models that do not name their network: there was no other.
        about["options"].get("hybrid", {}).setdefault("network", "blstm")
        options = on_device(from_dict(about["options"]))
        own = folder / "lexicon" / Path(options.lexicon).name
        if options.lexicon and own.is_file():
            options = replace(options, lexicon=str(own))
        return AlignModel(
            folder, options, PhoneSet(tuple(about["phones"])), about["final"], about["trained_on"],
            about.get("times", about["final"]),  # earlier versions had the last pass's times
            about.get("adapted_from", ""),
        )  # fmt: skip
    except FileNotFoundError:
        how = f"espnet-ext align train makes one; {shipped.DEFAULT} comes with the package"
        raise DataError("there is no aligner", path, how) from None
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"not a model of the aligner: {e!r}", path) from None
