# SPDX-License-Identifier: Apache-2.0
"""A small training of every method on a GPU in fp32, fp16 and bf16, with its peak memory.

``AN4=/path python -m pytest tests/gpu -n 0``; one epoch of AN4 is in test_gpu_an4.py.
"""

import json
import os

import pytest
import torch

from espnet_ext.espnet import train

ON_CPU = os.environ.get("GPU_TESTS_ON") == "cpu"
WEAK, BL = "espnet_ext.weak_align.task:WeakAlignTask", "espnet_ext.bl_just.task:BLJustTask"
LMCL = "espnet_ext.ml_lmcl.task:"
DUAL = "espnet_ext.dual_task.task:"
CASES = {
    "asr": ("asr", "tiny_argv", []),
    "weak_tri": (WEAK, "align_argv", ["--aux", "preset=weak_tri"]),
    "weak_both_soft": (WEAK, "align_argv", ["--aux", "preset=both", "--aux", "label_rule=soft"]),
    "weak_ctc": (WEAK, "align_argv", ["--aux", "preset=tri_ctc"]),
    "bl_just_cpc": (BL, "bl_argv", ["--bl_just", "unsup_loss=cpc"]),
    "bl_just_best_rq": (BL, "bl_argv", ["--bl_just", "unsup_loss=best_rq"]),
    "bl_just_wav2vec2": (
        BL, "bl_argv",
        ["--bl_just", "unsup_loss=wav2vec2", "--bl_just", "wav2vec2={mask_length_s: 0.16}"],
    ),
    "pseudo_label": (BL, "bl_argv", ["--bl_just", "schedule=pseudo_label"]),
    "lmcl_stage_1": (f"{LMCL}ContrastiveTask", "text_corpus", []),
    "lmcl_stage_2": (f"{LMCL}ClassifyTask", "text_corpus", []),
    "dual_pretrain": (f"{DUAL}PretrainTask", "dual_argv", []),
    "dual": (f"{DUAL}DualTask", "dual_argv", ["--dual_task", "bf16=true"]),
    "dual_ewc": (
        f"{DUAL}DualTask", "dual_argv",
        ["--dual_task", "schedule=sequential", "--dual_task", "retain=ewc"],
    ),
    "dual_raw": (
        f"{DUAL}DualTask", "dual_raw_argv",
        ["--dual_task", "train_cnn=true", "--dual_task", "gradient_checkpointing=true"],
    ),
}  # fmt: skip
LARGEST_MB = 2000  # of models with some ten thousand parameters: nothing may pile up


def options(case, request):
    task, fixture, more = CASES[case]
    given = request.getfixturevalue(fixture)
    argv = given.argv(label=case == "lmcl_stage_2") if fixture == "text_corpus" else list(given)
    return task, [*argv, *more]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_a_training(case, precision, request, tmp_path, monkeypatch, record_property):
    if precision == "bf16" and not ON_CPU and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bfloat16")
    if ON_CPU and precision != "fp32":
        pytest.skip("ESPnet's mixed precision is for GPUs")
    from espnet2.train import trainer

    task, argv = options(case, request)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    monkeypatch.setattr(trainer, "autocast_args", {"dtype": dtype} if dtype else {})
    argv += ["--output_dir", str(tmp_path / "exp"), "--ngpu", "0" if ON_CPU else "1"]
    train.run(task, [*argv, "--use_amp", str(precision != "fp32").lower()])
    record = json.loads((tmp_path / "exp/phase.json").read_text())
    record_property("peak_gpu_mb", record["peak_gpu_mb"])
    print(f"{case} {precision}: {record['peak_gpu_mb']} MB, {record['train_wall_s']} s")
    assert record["updates"] > 0
    # The scaler of fp16 starts too high and comes down by skipping updates.
    assert record["skipped"] == 0 or precision == "fp16"
    assert (record["peak_gpu_mb"] > 0) is not ON_CPU and record["peak_gpu_mb"] < LARGEST_MB
    states = torch.load(tmp_path / "exp/checkpoint.pth", map_location="cpu", weights_only=True)
    floats = [v for v in states["model"].values() if v.is_floating_point()]
    assert all(v.isfinite().all() for v in floats) and floats[0].dtype == torch.float32


@pytest.mark.skipif(
    not ON_CPU and torch.cuda.device_count() < 2, reason="one GPU: nothing to share the work with"
)
@pytest.mark.parametrize(
    ("task", "fixture"), [(BL, "bl_argv"), (f"{DUAL}DualTask", "dual_raw_argv")]
)
def test_two_processes(task, fixture, request, tmp_path):
    """One GPU each, started as the runner starts them; no parameter is left without a gradient."""
    import subprocess

    from espnet_ext.recipe.options import Options
    from espnet_ext.recipe.steps.launch import torchrun_command

    argv = [*request.getfixturevalue(fixture), "--output_dir", str(tmp_path / "exp")]
    argv += ["--use_amp", str(not ON_CPU).lower()]
    where = (Options(num_procs=2), 0) if ON_CPU else (Options(ngpu=2), 2)
    done = subprocess.run(torchrun_command(*where, task, argv), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "exp/phase.json").read_text())["processes"] == 2
