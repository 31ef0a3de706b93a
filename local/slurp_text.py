# SPDX-License-Identifier: Apache-2.0
"""SLURP's text as its authors publish it, SpokenCSE's set with ASR text, and HWU64's sentences."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paired_text import Pair, Pairs

from espnet_ext.data.download import fetch
from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import sha256_file
from espnet_ext.text.normalize import normalize

SPLITS = ("train", "devel", "test")
SOURCE = "https://github.com/pswietojanski/slurp"
RELEASED = "https://github.com/MiuLab/SpokenCSE"
TEXT_URL = "https://raw.githubusercontent.com/pswietojanski/slurp/master/dataset/slurp"
FILTERED, UNFILTERED = "slurp_with_oracle_test.json", "slurp.json"
TEST_LISTS = {"google": "google_test", "wav2vec2": "wave2vec_test"}  # spelled so there
FILTER_NOTE = (
    "note: this released set is filtered: it holds only samples for which a first classifier's\n"
    "note: predictions agreed. Accuracy on it is not comparable with accuracy on full SLURP\n"
    "note: (8,690 development and 13,078 test recordings)."
)


@dataclass(frozen=True)
class Sentence:
    """A sentence of SLURP with the names of its recordings."""

    slurp_id: str
    text: str
    scenario: str
    action: str
    files: tuple[str, ...]

    @property
    def label(self) -> str:
        """Scenario and action, the labels of the recipe's two heads."""
        return f"{self.scenario} {self.action}"


def one_line(text: str) -> str:
    """Return a text of JSON as a table can hold it."""
    return " ".join(text.split())


def below(root: Path, names: list[str], folders: tuple[str, ...], get: str) -> Path:
    """Return the first folder of ``root`` that holds one of the files ``names``.

    Raises:
        DataError: There is none.
    """
    for folder in folders:
        if any((root / folder / name).is_file() for name in names):
            return root / folder
    what = f"there is no {' or '.join(names)}, here or in {' or '.join(filter(None, folders))}"
    raise DataError(what, root, f"get it from {get}")


def download_text(folder: Path, sha256: dict[str, str]) -> Path:
    """Fetch the three text files of SLURP, tell their checksums, return the folder."""
    for split in SPLITS:
        url = f"{TEXT_URL}/{split}.jsonl"
        path = fetch(url, folder / f"{split}.jsonl", sha256=sha256.get(split))
        state = "as asked for" if split in sha256 else "not checked: compare it with a known copy"
        print(f"{path}: SHA-256 {sha256_file(path)} ({state})")
    return folder


def read_jsonl(path: Path) -> list[Sentence]:
    """Read a split of the official text.

    Raises:
        DataError: The file is missing, a line is not JSON, lacks a field or repeats an id.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing", path, f"get it from {SOURCE}, or --download")
    sentences, seen = [], set()
    with open(path, "rb") as f:
        for number, raw in enumerate(f, 1):
            where = f"{path}:{number}"
            try:
                sentence = _sentence(json.loads(raw))
            except ValueError as e:
                raise DataError(f"not JSON: {e}", where, "get the file again") from None
            except (KeyError, TypeError, AttributeError) as e:
                raise DataError(f"not a line of SLURP: {e!r}", where, "get it again") from None
            if len(sentence.label.split()) != 2:
                raise DataError("scenario and action must be one word each", where)
            if sentence.slurp_id in seen:
                raise DataError(f"slurp_id {sentence.slurp_id} stands twice", where)
            seen.add(sentence.slurp_id)
            sentences.append(sentence)
    return sentences


def _sentence(row: dict[str, Any]) -> Sentence:
    files = tuple(r["file"] for r in row["recordings"])
    text, slurp_id = one_line(row["sentence"]), str(row["slurp_id"])
    return Sentence(slurp_id, text, str(row["scenario"]), str(row["action"]), files)


def read_released(path: Path, system: str) -> tuple[dict[str, Pairs], dict[str, int]]:
    """Read a set with ASR text in the form of SpokenCSE's.

    Returns:
        The sets train, valid and test (valid is ``oracle_eval`` where the file has it, test the
        system's own lists by WER where it has them), and for each WER-grouped test utterance its
        group.

    Raises:
        DataError: The file is damaged, or a sample lacks a field.
        UsageError: The file has no text of this system.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: content[name] for name in ("train", "devel", "test")}
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"not a set of SpokenCSE: {e!r}", path, f"get it from {RELEASED}") from None
    names = _Names(path, lists["train"])
    grouped = content.get(TEST_LISTS.get(system, ""), [])
    chosen = {
        "train": lists["train"],
        "valid": content.get("oracle_eval") or lists["devel"],
        "test": [s for group in grouped for s in group] or lists["test"],
    }
    group_of = [str(g) for g, group in enumerate(grouped) for _ in group]
    sets, groups = {}, {}
    for name, samples in chosen.items():
        sets[name], without = {}, 0
        for i, sample in enumerate(samples):
            where = f"{path}: {name} [{i}]"
            if not isinstance(sample, dict):
                raise DataError("the sample is no object", where, f"get it from {RELEASED}")
            if system not in sample:
                without += 1
                continue
            utt, pair = _pair(sample, system, names, f"slurp-{name}", where)
            if utt in sets[name]:
                raise DataError(f"the recording '{utt}' stands twice", where)
            sets[name][utt] = pair
            if name == "test" and group_of:
                groups[utt] = int(group_of[i])
        if not sets[name]:
            raise UsageError(f"no sample of {name} has text of '{system}'", "--system",
                             nearest(system, _systems(lists["train"])))  # fmt: skip
        if without:
            print(f"{name}: {without} of {len(samples)} samples have no text of {system}, left out")
    return sets, groups


def _systems(samples: list[dict]) -> set[str]:
    return {k for s in samples for k, v in s.items() if isinstance(v, dict) and "sentence" in v}


def _pair(
    sample: dict[str, Any], system: str, names: "_Names", prefix: str, where: str
) -> tuple[str, Pair]:
    try:
        manual, asr = sample.get("golden", sample.get("sentence")), sample[system]["sentence"]
        label = f"{names('scenario', sample['scenario'])} {names('action', sample['action'])}"
        file = sample.get("file")
        utt = Path(file).stem if file else f"{prefix}-{int(sample['id']):06d}"
        return utt, Pair(one_line(manual), one_line(asr), label)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as e:
        raise DataError(f"the sample lacks a field: {e!r}", where, f"see {RELEASED}") from None


class _Names:
    """Labels of a released file: numbers into meta.json, which lies near it, or names already."""

    def __init__(self, path: Path, samples: list[dict]):
        self.lists: dict[str, list[str]] = {}
        if not any(isinstance(s.get("scenario"), int) for s in samples[:1]):
            return
        places = [path.parent / "golden/meta.json", path.parent / "meta.json"]
        meta = next((p for p in places if p.is_file()), None)
        if meta is None:
            how = f"put datasets/slurp/golden/meta.json of {RELEASED} there"
            raise DataError("the names of scenarios and actions are missing", places[0], how)
        try:
            content = json.loads(meta.read_text(encoding="utf-8"))
            self.lists = {kind: list(content[kind]) for kind in ("scenario", "action")}
        except (ValueError, KeyError, TypeError) as e:
            raise DataError(f"not a list of labels: {e!r}", meta, "get it again") from None

    def __call__(self, kind: str, value: int | str) -> str:
        return self.lists[kind][value] if isinstance(value, int) else value


def write_groups(folder: Path, groups: dict[str, int]) -> None:
    """Write ``wer_group``, the groups 0 to 3 that a released test set comes in."""
    if groups:
        write_table(folder / "wer_group", groups)
        sizes = [list(groups.values()).count(g) for g in sorted(set(groups.values()))]
        print(f"test: released WER groups of {', '.join(map(str, sizes))} utterances")


def read_hwu64(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ``(id, sentence, "scenario action")`` of HWU64's files, each sentence once.

    Raises:
        DataError: There is no file, or a line lacks a column.
    """
    files = sorted(folder.rglob("*.csv"))
    if not files:
        how = "get NLU-Evaluation-Data of xliuhw on GitHub"
        raise DataError("the folder holds no .csv files of HWU64", folder, how)
    seen = set()
    for path in files:
        with open(path, encoding="utf-8", newline="") as f:
            rows = csv.DictReader(f, delimiter=";")
            try:
                for row in rows:
                    text = one_line(row["answer_from_anno"].lower())
                    label = f"{row['scenario']} {row['intent']}"
                    if len(label.split()) != 2:
                        raise DataError("scenario and intent must be one word each",
                                        f"{path}:{rows.line_num}")  # fmt: skip
                    if (key := normalize(text, "words")) in seen:
                        continue
                    seen.add(key)
                    # Not every row has an answerid; file and line tell where it comes from.
                    place = f"{path.parent.name}-{path.stem}-{rows.line_num:04d}"
                    yield f"hwu64-{place}", text, label
            except (KeyError, TypeError, AttributeError, ValueError) as e:
                raise DataError(f"not a file of HWU64: {e!r}", f"{path}:{rows.line_num}",
                                "get it again") from None  # fmt: skip
