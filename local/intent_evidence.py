# SPDX-License-Identifier: Apache-2.0
"""Run baselines, the method and its ablations of a ML-LMCL recipe over seeds, in one process.

    python local/intent_evidence.py [--systems NAME,...] [--seeds 1,2,...] [options of run.sh]

In the recipe's folder; finished runs are up to date, so started again it goes on. An ablation of
stage 2 alone starts from stage 1 of ``ml_lmcl`` with the same seed, whose cost its record tells.
"""

import argparse
import os
import sys

from espnet_ext.recipe import runner

PRESET = "--args.ml_lmcl.preset"
SYSTEMS: dict[str, list[str]] = {
    **{name: [PRESET, name] for name in ("roberta_asr", "roberta_manual", "pooled")},
    "ml_lmcl": ["--decode.args.inference_model", "all"],
    "spokencse": [PRESET, "spokencse"],
    "spokencse_asis": [PRESET, "spokencse_asis"],
    # Ablations of stage 2.
    "no_mutual": ["--args.ml_lmcl.alpha", "0"],
    "no_supervised_contrastive": ["--args.ml_lmcl.beta", "0"],
    "no_distillation": ["--args.ml_lmcl.gamma_mode", "zero"],
    "no_annealing": ["--args.ml_lmcl.gamma_mode", "constant"],
    "one_way": ["--args.ml_lmcl.mutual", "kl_clean_to_asr"],
    # Ablations of stage 1.
    "no_stage1": ["--args.ml_lmcl.stage1", "none"],
    "no_polarization": ["--args.ml_lmcl.lambda_reg", "0"],
    "true_distance": ["--args.ml_lmcl.distance", "true"],
    "no_masked_lm": ["--args.ml_lmcl.lambda_pt", "1"],
    "no_manual": ["--args.ml_lmcl.use_manual", "false"],
    # Without ASR transcripts of the corpus: simulated ones stand for them in training.
    "simulated_ml_lmcl": [],
    "simulated_roberta_asr": [PRESET, "roberta_asr"],
}
SHARE_STAGE1 = (
    "no_mutual", "no_supervised_contrastive", "no_distillation", "no_annealing", "one_way",
)  # fmt: skip


def argv_of(system: str, seed: int) -> list[str]:
    """Return the options of run.sh for one run."""
    argv = ["--name", f"{system}_s{seed}", "--group", system, "--seed", str(seed), *SYSTEMS[system]]
    if system in SHARE_STAGE1:
        stage1 = f"exp/ml_lmcl_s{seed}/midtrain/valid.loss.best.pth"
        argv += ["--midtrain", "none", "--finetune.init", stage1]
    if system.startswith("simulated_"):
        for phase in ("pretrain", "midtrain", "finetune"):
            argv += [f"--{phase}.train", "train_simulated", f"--{phase}.valid", "valid_simulated"]
    return [*argv, "--stop-stage", "score"]


def main() -> int:
    """Run; return the exit code of the first run that fails."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], allow_abbrev=False,
        epilog="no_mutual to one_way start from stage 1 of ml_lmcl: run that before.",
    )  # fmt: skip
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--seeds", default="1,2,3,4,5")
    args, further = parser.parse_known_args()
    systems = args.systems.split(",")
    if unknown := [s for s in systems if s not in SYSTEMS]:
        parser.error(f"there is no system {unknown[0]}")
    os.environ.setdefault("ESPNET_EXT_CALLED_FROM", os.getcwd())
    for system in systems:
        for seed in args.seeds.split(","):
            if code := runner.main([*argv_of(system, int(seed)), *further]):
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
