# SPDX-License-Identifier: Apache-2.0
"""Run records for the tests, with counts that agree with each other."""

import json
from pathlib import Path
from typing import Any

import pytest

from espnet_ext.scoring.intent import score_intents

REF_HASH = "ab" * 32


def record_dict(
    group: str = "cpu", seed: int = 1, errors: tuple[int, ...] = (1, 0, 2), **changes: Any
) -> dict[str, Any]:
    """Return a valid run record of three utterances with 4, 3 and 5 words."""
    word_ref = [4, 3, 5]
    wer = {"rate": 100 * sum(errors) / 12, "sub": sum(errors), "del": 0, "ins": 0, "ref": 12}
    decoded = {
        "utterances": 3,
        "ref_sha256": REF_HASH,
        "hyp_sha256": "cd" * 32,
        "decode_wall_s": 1.5,
        "audio_s": 6,
        "rtf": 0.25,
        "wer": wer,
        "cer": {"rate": 5.0, "sub": 1, "del": 1, "ins": 1, "ref": 60},
        "per_utt": {"ids_sha256": "ef" * 32, "word_errors": [*errors], "word_ref": word_ref},
    }
    phase = {
        "task": "asr",
        "wall_s": 3725.4,
        "train_wall_s": 60,
        "peak_rss_mb": 900.6,
        "peak_gpu_mb": 0,
        "params": 1234567,
        "params_trained": 1000,
        "epochs": 7,
        "updates": 321,
    }
    record = {
        "schema": 1,
        "recipe": "an4/asr1",
        "name": f"{group}_seed{seed}",
        "group": group,
        "seed": seed,
        "title": "A small model",
        "date": "2026-11-21",
        "commit": "0123456789" * 4,
        "dirty": False,
        "command": f"./run.sh --name {group}",
        "config_sha256": "12" * 32,
        "device": "CPU x2: Some CPU",
        "versions": {"torch": "2.11", "espnet": "202609", "python": "3.12.3"},
        "phases": {"finetune": phase},
        "budget": {"labelled_batches": 100},
        "sets": {"test": {"greedy_ctc": decoded}},
    }
    return record | changes


def intent_record(
    group: str = "asr_text", seed: int = 1, wrong: tuple[int, ...] = (0, 1, 0, 0), **changes: Any
) -> dict[str, Any]:
    """Return a record of classified utterances: 4 words each, with 0, 1, 2, ... ASR errors."""
    utts = [f"u{i}" for i in range(len(wrong))]
    scored = score_intents(
        dict.fromkeys(utts, ("a",)),
        {u: ("b" if w else "a",) for u, w in zip(utts, wrong, strict=True)},
        ["intent"],
        {u: (i, 4) for i, u in enumerate(utts)},
    )
    decoded = {
        "utterances": len(wrong),
        "ref_sha256": REF_HASH,
        "hyp_sha256": "cd" * 32,
        "input_sha256": "ef" * 32,
        "decode_wall_s": 0.5,
        "intent": scored,
    }
    changed = {"recipe": "atis/ml_lmcl1", "sets": {"test": {"asr": decoded}}, **changes}
    return record_dict(group, seed, **{"budget": {"updates": 100}, **changed})


class RecipeDir:
    """A recipe folder ``egs2/an4/asr1`` below a temporary root."""

    def __init__(self, root: Path):
        self.root = root
        self.path = root / "egs2" / "an4" / "asr1"
        (self.path / "results").mkdir(parents=True)

    def add(self, record: dict[str, Any]) -> Path:
        """Write one record under its name."""
        path = self.path / "results" / f"{record['name'].replace('|', '')}.json"
        path.write_text(json.dumps(record), encoding="utf-8")
        return path


@pytest.fixture
def recipe_dir(tmp_path: Path) -> RecipeDir:
    """An empty recipe folder."""
    return RecipeDir(tmp_path)


@pytest.fixture(name="record_dict")
def record_dict_fixture():
    """The builder of valid run records."""
    return record_dict


@pytest.fixture(name="intent_record")
def intent_record_fixture():
    """The builder of valid run records of classified utterances."""
    return intent_record


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figure = pytest.importorskip("matplotlib.figure")
    found, save = [], figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *a, **k: (found.append(self), save(self, *a, **k))
    )
    return found
