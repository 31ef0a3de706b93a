# SPDX-License-Identifier: Apache-2.0
"""A text corpus and an encoder so small that a training takes seconds."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

PLACES = ["boston", "denver", "dallas", "atlanta", "chicago", "austin"]
PATTERNS = {
    ("flight", "show"): "show me flights from {a} to {b}",
    ("fare", "ask"): "what does the trip from {a} to {b} cost",
    ("weather", "ask"): "is it raining in {a} or {b} today",
}
SLIPS = {"boston": "austin", "flights": "lights", "trip": "grip", "raining": "training"}


def sentences(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Return ``(manual, asr, labels)``; the ASR text has slips and now and then nothing."""
    rng = random.Random(seed)
    out = []
    for number in range(count):
        labels, pattern = rng.choice(list(PATTERNS.items()))
        manual = pattern.format(a=rng.choice(PLACES), b=rng.choice(PLACES))
        words = [SLIPS.get(w, w) if rng.random() < 0.5 else w for w in manual.split()]
        out.append((manual, " ".join(words) if number % 20 else "", " ".join(labels)))
    return out


def write_set(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write ``data/<set>``."""
    folder.mkdir(parents=True)
    for column, name in enumerate(("text_manual", "text_asr", "label")):
        lines = [f"u{i:03d} {row[column]}".rstrip() + "\n" for i, row in enumerate(rows)]
        (folder / name).write_text("".join(lines))


@dataclass
class TextCorpus:
    """``data/`` and ``dump/`` of a recipe, with an encoder of random weights.

    Attributes:
        root: The recipe's folder.
    """

    root: Path

    def argv(self, *section: str, label: bool = False) -> list[str]:
        """Return ESPnet's training options; ``section`` are pairs of ``ml_lmcl``."""
        dump = self.root / "dump"
        options = {
            "text_encoder": dump / "text_encoder", "labels": dump / "labels", "seed": 1,
            "optim": "adamw", "batch_type": "sorted", "batch_size": 8, "max_epoch": 2,
            "num_workers": 0, "use_tensorboard": "false", "use_matplotlib": "false",
            "keep_nbest_models": 1, "ngpu": 0, "resume": "true", "log_interval": 100,
        }  # fmt: skip
        argv = [x for key, value in options.items() for x in (f"--{key}", str(value))]
        argv += ["--optim_conf", "lr=0.002"]
        argv += ["--best_model_criterion", "valid,acc,max" if label else "valid,loss,min"]
        for name in ("text_manual", "text_asr", *(("label",) if label else ())):
            for part in ("train", "valid"):
                path = dump / part / name
                argv += [f"--{part}_data_path_and_name_and_type", f"{path},{name},text"]
                argv += [f"--{part}_shape_file", str(dump / part / f"{name}_shape")]
        return argv + [x for pair in section for x in ("--ml_lmcl", pair)]


@pytest.fixture(scope="session")
def text_corpus(tmp_path_factory):
    """40 training and 16 development utterances with two labels each."""
    import yaml

    from espnet_ext.ml_lmcl.stages import encoder as encoder_stage
    from espnet_ext.ml_lmcl.stages import format as format_stage

    root = tmp_path_factory.mktemp("text_corpus")
    write_set(root / "data/train", sentences(40, 1))
    write_set(root / "data/valid", sentences(16, 2))
    recipe = {
        "data": {"valid": "valid", "test": ["valid"], "files": list(format_stage.FILES)},
        "format": {"args": {"heads": ["topic", "act"]}},
        "tokens": {"args": {"vocab_size": 300, "hidden_size": 16, "max_tokens": 24}},
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TEXT_ENCODER", "none")
        from espnet_ext.recipe import config, options, stages

        ctx = stages.Context(config.load(Path("recipe.yaml")), options.parse([], set()))
        for stage in (format_stage, encoder_stage):
            stage.run(ctx, stage.plan(ctx))
    for part in ("train", "valid"):
        for name in ("text_manual", "text_asr", "label"):
            lines = (root / "dump" / part / name).read_text().splitlines()
            shapes = [f"{line.split()[0]} {len(line.split()) + 1}\n" for line in lines]
            (root / "dump" / part / f"{name}_shape").write_text("".join(shapes))
    return TextCorpus(root)
