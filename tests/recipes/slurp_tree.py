# SPDX-License-Identifier: Apache-2.0
"""The text part of SLURP in the layout of its repository, small."""

import json

from espnet_ext.data.tables import read_table

TEXTS = {
    "train": ["who sings this song", "i like this song", "send an email to anna", "any new email"],
    "devel": ["what is this song", "play it again", "write to tom", "read my email"],
    "test": ["which song is that", "i love it", "email the boss", "do i have email"],
}
LABELS = ["music query", "music likeness", "email sendemail", "email query"]
UNSET = {"SLURP": None, "SLURP_AUDIO": None, "ESPNET_EXT_CALLED_FROM": None}


def write_official(root):
    """Write it; two recordings of every sentence. Return ``root``."""
    folder = root / "dataset/slurp"
    folder.mkdir(parents=True)
    for number, (split, texts) in enumerate(TEXTS.items(), 1):
        rows = []
        for i, (text, label) in enumerate(zip(texts, LABELS, strict=True)):
            scenario, action = label.split()
            files = [{"file": f"{split}{i}.flac"}, {"file": f"{split}{i}-headset.flac"}]
            rows.append({"slurp_id": 100 * number + i, "sentence": text, "scenario": scenario,
                         "action": action, "intent": "x", "recordings": files})  # fmt: skip
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return root


def tables(tmp_path, name):
    """Return manual text, ASR text and labels of a set that was prepared."""
    return [read_table(tmp_path / "data" / name / f) for f in ("text_manual", "text_asr", "label")]
