# SPDX-License-Identifier: Apache-2.0
"""What ESPnet would refuse, or take in silence, hours later is told before stage 1."""

import json
from pathlib import Path

import pytest
import yaml

from espnet_ext.errors import EspnetExtError
from espnet_ext.recipe import runner, sweep

LAYER = {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 2}
CONFIG = {
    "frontend_conf": {"fs": "16k", "n_fft": 512, "hop_length": 160, "n_mels": 20},
    "normalize": "global_mvn",
    "encoder": "conformer",
    "encoder_conf": {**LAYER, "cnn_module_kernel": 3},
    "decoder": "transformer",
    "decoder_conf": {"attention_heads": 2, "linear_units": 16, "num_blocks": 1},
    "model_conf": {"ctc_weight": 0.5},
    "optim": "adam",
    "optim_conf": {"lr": 0.001},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 5},
    "best_model_criterion": [["valid", "acc", "max"]],
    "max_epoch": 2,
}
PHASE = {"config": "conf/t.yaml"}
OWN_DECODING = "espnet_ext.multistage.stages.decode"
ALIGN = [
    {"name": "speech", "file": "wav.scp", "type": "sound"},
    {"name": "text", "file": "text", "type": "text"},
    {"name": "align", "file": "align/targets.scp", "type": "kaldi_ark"},
]
WEAK = {"task": "espnet_ext.weak_align.task:WeakAlignTask", "streams": ALIGN}
CPCC = {"args": {"bl_just": {"unsup_loss": "cpcc"}}}
JUST = {
    "task": "espnet_ext.bl_just.task:BLJustTask",
    "extra_data": {"u": {"set": "train"}},
    "model": "valid.acc.ave.pth",
}


@pytest.fixture
def run(folder, capfd):
    """Return ``run(sections, config, *argv) -> (exit code, stdout, stderr)``; stage 1 fails."""
    folder.write("local/data.sh", "touch started; exit 1\n")

    def call(sections: dict, config: dict, *argv: str):
        given = {k: v for k, v in {**CONFIG, **config}.items() if v is not None}
        folder.write("conf/t.yaml", json.dumps(given))
        folder.recipe(**{"format": {}, "tokens": {"type": "char"}, "finetune": PHASE, **sections})
        code = runner.main(["--ngpu", "0", *argv])
        return code, *capfd.readouterr()

    return call


def args(**options):
    return {"finetune": {**PHASE, "args": options}}


def decode(**section):
    return {"decode": section}


def weak(**aux):
    return {"finetune": {**PHASE, **WEAK, "args": {"aux": {"preset": "weak_tri", **aux}}}}


WRONG = [  # sections, configuration, what is said, parts of the message
    # Misspelt options of optimiser, scheduler, model, front end
    (args(optim_conf={"lrr": 1}), {}, "finetune.args.optim_conf.lrr", "did you mean 'lr'?"),
    ({}, {"optim_conf": {"lrr": 1}}, "conf/t.yaml: optim_conf.lrr", "did you mean 'lr'?"),
    ({"args": {"optim_conf": {"lrr": 1}}}, {}, "args.optim_conf.lrr", "Adam has no option 'lrr'"),
    ({}, {"scheduler_conf": {"warmup_step": 1}}, "did you mean 'warmup_steps'?", "scheduler_conf"),
    ({}, {"encoder_conf": {"num_block": 1}}, "did you mean 'num_blocks'?", "encoder_conf"),
    ({}, {"decoder_conf": {"num_block": 1}}, "did you mean 'num_blocks'?", "decoder_conf"),
    ({}, {"frontend_conf": {"nmels": 9}}, "did you mean 'n_mels'?", "frontend_conf"),
    ({}, {"model_conf": {"ctc_wieght": 1}}, "did you mean 'ctc_weight'?", "model_conf"),
    ({}, {"specaug": "specaug", "specaug_conf": {"x": 1}}, "SpecAug has no option", "specaug_conf"),
    # Values
    ({}, {"optim": "adamm"}, "adamm", "optim"),
    ({}, {"optim_conf": {"lr": -1}}, "the optimiser cannot be built", "Invalid learning rate"),
    ({}, {"optim_conf": {"lr": "fast"}}, "optimiser cannot be built", "optim_conf: {'lr': 'fast'"),
    ({}, {"scheduler": "steplr", "scheduler_conf": {}}, "scheduler steplr cannot be built", "step"),
    ({}, {"encoder_conf": {**LAYER, "attention_heads": 3}}, "the model cannot be built", ""),
    ({}, {"encoder_conf": {**LAYER, "input_layer": "conv2d5"}}, "conv2d5", ""),
    # An assertion without a text shows its line
    ({}, {"encoder_conf": {**LAYER, "interctc_layer_idx": [9]}}, "interctc_layer_idx", "built"),
    (args(grad_clip=float("nan")), {}, "grad_clip is not a number", "finetune.args.grad_clip"),
    (args(optim_conf={"lr": float("nan")}), {}, "optim_conf.lr is not a number", "finetune.args"),
    ({}, {"model_conf": {"ctc_weight": 1.5}}, "the model cannot be built", ""),
    ({}, {"max_epoch": 0}, "max_epoch must be at least 1", "conf/t.yaml: max_epoch"),
    (args(accum_grad=0), {}, "accum_grad must be at least 1", "finetune.args.accum_grad"),
    ({}, {"batch_bins": -3}, "batch_bins must be at least 1", ""),
    ({}, {"grad_clip": 0}, "grad_clip must be above 0", "conf/t.yaml: grad_clip"),
    ({"finetune": {**PHASE, "model": "valid.acc.avg.pth"}}, {}, "valid.acc.ave.pth", ""),
    ({"finetune": {**PHASE, "model": "valid.acc.ave_5best.pth"}}, {}, "keep_nbest_models is", ""),
    ({"finetune": {**PHASE, "model": "valid.acc.ave_10best.pth"}}, {}, "and there are 2", ""),
    ({}, {"keep_nbest_models": 0}, "keep_nbest_models must be at least 1", ""),
    ({}, {"freeze_param": ["encodr"]}, "there is no parameter 'encodr'", "'encoder'"),
    ({"seed": -1}, {}, "'seed' must be at least 0", ""),
    ({"format": {"fs": -5}}, {}, "'format.fs' must be at least", ""),
    ({"format": {"min_s": 5, "max_s": 2}}, {}, "min_s (5) must be below max_s (2)", ""),
    # What later stages take is what the training writes
    ({"finetune": {**PHASE, "model": "valid.cer.ave.pth"}}, {}, "finetune.model", "valid.acc.ave"),
    ({}, {"model_conf": {"ctc_weight": 1.0}}, "does not compute 'acc'", "best_model_criterion"),
    ({"finetune": {**PHASE, "model": "valid.accc.ave.pth"}},
     {"best_model_criterion": [["valid", "accc", "max"]]}, "does not compute 'accc'",
     "did you mean 'acc'?"),
    # Audio and frames
    ({"format": {"fs": 8000}}, {}, "the front end is for 16000 Hz", "audio of 8000 Hz"),
    ({}, {"frontend_conf": {"fs": "8k"}}, "the front end is for 8000 Hz", "frontend_conf.fs"),
    ({}, {"frontend_conf": {**CONFIG["frontend_conf"], "fmax": 9000}}, "fmax is 9000", "fmax"),
    ({}, {"encoder_conf": {**LAYER, "input_layer": "conv2d8"}}, "a frame of 80 ms",
     "format.ctc_stride: 8"),
    ({}, {"frontend_conf": {**CONFIG["frontend_conf"], "hop_length": 256}}, "a frame of 64 ms",
     "format.ctc_stride: 7"),  # 6 would still be too little
    ({}, {"encoder": "rnn", "encoder_conf": {"subsample": [2, 2, 2]}}, "a frame of 80 ms", ""),
    # Names
    ({"decode": {"sets": ["tset"]}}, {}, "there is no set 'tset'", "did you mean 'test'?"),
    ({"finetune": {**PHASE, "train": "trian"}}, {}, "there is no set 'trian'", "finetune.train"),
    ({"finetune": {**PHASE, "task": "srt"}}, {}, "there is no task 'srt'", ""),
    ({"finetune": {**PHASE, "streams": [*ALIGN[:2], {**ALIGN[0], "name": "speach"}]}}, {},
     "no input 'speach'", "did you mean 'speech'?"),
    ({"finetune": {**PHASE, "streams": ALIGN[:1]}}, {}, "the task needs the input 'text'", ""),
    ({"finetune": {**PHASE, "streams": [{**ALIGN[0], "type": "sond"}, ALIGN[1]]}}, {},
     "there is no type of stream 'sond'", "did you mean 'sound'?"),
    ({"finetune": {**PHASE, "needs": ["conf/none.txt"]}}, {}, "a missing file", "conf/none.txt"),
    ({"tokens": {"type": "char", "text": "more.txt"}}, {}, "a missing file", "more.txt"),
    ({"score": {}}, {}, "has no section 'decode'", ""),
    ({"decode": {}, "score": {"metrics": ["wre"]}}, {}, "there is no metric 'wre'", "score."),
    ({"decode": {}, "score": {}, "results": {"planned": {"systm": "a"}}}, {}, "recipe.yaml",
     "planned"),
    # Decoding
    (decode(method="beam", args={"beam_sise": 2}), {}, "did you mean 'beam_size'?", "decode.args"),
    (decode(method="beam", args={"beam_size": 0}), {}, "beam_size must be at least 1", ""),
    (decode(method="beam", args={"beam_size": "ten"}), {}, "must be like", "beam_size"),
    (decode(method="beam", args={"ctc_weight": 3}), {}, "must be from 0 to 1", "ctc_weight"),
    (decode(method="beam", args={"lm_file": "lm.pth"}), {}, "there is no such file", "lm.pth"),
    (decode(code=OWN_DECODING, method="beam", args={"beam_sise": 2}), {}, "'beam_size'?",
     "decode.args"),
    (decode(args={"beam_size": 2}), {}, "greedy_ctc has no options", "decode.args.beam_size"),
    (decode(), {"model_conf": {"ctc_weight": 0.0}}, "greedy_ctc needs CTC", ""),
    (decode(method="nowhere:f"), {}, "there is no module 'nowhere'", "decode.method"),
    # Methods
    (weak(layer=3), {}, "there is no layer 3: the encoder has layers 1 to 2", ""),
    (weak(layer="midle"), {}, "midle", ""),
    (weak(layer=1), {"specaug": "specaug"}, "time warping moves the speech", ""),
    ({"finetune": {**PHASE, **JUST, **CPCC}}, {"max_epoch": None}, "cpcc", ""),
    ({"finetune": {**PHASE, **JUST}}, {}, "the schedule says how many epochs",
     "of finetune (conf/t.yaml and finetune.args)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "config", "says", "also"), WRONG, ids=[w[2][:40] for w in WRONG]
)
def test_misuse_ends_before_stage_1(run, sections, config, says, also):
    code, out, err = run(sections, config)
    assert code in (2, 3), (out, err)
    assert says in err and also in err
    assert "Traceback" not in err
    assert not Path("started").exists() and not Path("data").exists()


@pytest.mark.parametrize(
    ("sections", "config"),
    [
        ({}, {}),
        ({}, {"encoder": "vgg_rnn", "encoder_conf": {"hidden_size": 4, "output_size": 4}}),
        ({"tokens": {"type": "bpe", "size": 40}}, {"normalize": "utterance_mvn"}),
        ({"finetune": {**PHASE, "model": "3epoch.pth"}}, {"freeze_param": ["encoder.embed"]}),
        ({"format": {"ctc_stride": 8}}, {"encoder_conf": {**LAYER, "input_layer": "conv2d8"}}),
        ({"format": {"fs": 8000}}, {"frontend_conf": {"fs": "8k", "hop_length": 80}}),
        (decode(method="beam", args={"beam_size": 2, "ctc_weight": 1}), {}),
        (weak(layer=2), {}),
        ({"finetune": {**PHASE, **JUST}}, {"max_epoch": None}),
    ],
)
def test_what_can_run_is_let_through(run, sections, config):
    code, out, err = run(sections, config)
    assert (code, Path("started").exists()) == (1, True), err  # data.sh was started, and fails
    assert "the model can be built" in out


def test_a_stricter_filter_is_told(run):
    code, out, _ = run({}, {"encoder_conf": {**LAYER, "input_layer": "conv2d2"}})
    assert (code, "note: format drops what is too short for encoder frames of 40 ms" in out) == (
        1,
        True,
    )


def chain(init, **more):
    return {"pretrain": PHASE, "finetune": {**PHASE, "init": [init], **more}}


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (chain("pretrain:encodr:encoder"), "did you mean 'encoder'?"),
        (chain("pretrain:encodr:encoder"), "begins with 'encodr'"),
        (chain("pretrain:encoder:decoder"), "do not fit"),
        (chain("pretrain:::encoder,decoder,ctc,normalize,frontend"), "excludes all"),
        (chain("pretrain", args={"encoder_conf": {"output_size": 32}}), "do not fit"),
        (chain("none.pth"), "none.pth"),
    ],
)
def test_init_between_phases(run, sections, says):
    code, _, err = run(sections, {})
    assert code in (2, 3)
    assert says in err
    assert not Path("started").exists()


def test_init_between_phases_that_fits(run):
    code, _, err = run(chain("pretrain:encoder:encoder"), {})
    assert (code, Path("started").exists()) == (1, True), err


def write_model(folder, tokens):
    """Save a model of the tokens, as a training leaves it."""
    from argparse import Namespace

    import torch

    from espnet_ext.espnet.task import ASRTask

    given = {**CONFIG, "normalize": "utterance_mvn", "token_list": tokens}
    parser = ASRTask.get_parser()
    options = Namespace(**{**vars(parser.parse_args([])), **given})
    folder.write("old/config.yaml", yaml.safe_dump({"token_list": tokens}))
    torch.save(ASRTask.build_model(options).state_dict(), "old/valid.acc.ave.pth")


@pytest.mark.parametrize(
    ("old", "init", "says"),
    [
        ("abc", "old/valid.acc.ave.pth", None),
        ("cab", "old/valid.acc.ave.pth", "in another order; token 2 is 'c' there and 'a' here"),
        ("abd", "old/valid.acc.ave.pth", "another token list"),
        ("ab", "old/valid.acc.ave.pth", "another token list (5 tokens there, 6 here"),
        ("cab", "old/valid.acc.ave.pth:encoder:encoder", None),
        ("abc", "old/valid.acc.ave.pth:encodr:encoder", "did you mean 'encoder'?"),
        ("abc", "old/config.yaml", "cannot be read"),
    ],
)
def test_init_of_a_file(run, folder, old, init, says):
    write_model(folder, ["<blank>", "<unk>", *old, "<sos/eos>"])
    folder.write("dump/tokens_char/tokens.txt", "<blank>\n<unk>\na\nb\nc\n<sos/eos>\n")
    code, _, err = run({"finetune": {**PHASE, "init": [init]}}, {"normalize": "utterance_mvn"})
    if says is None:
        assert (code, Path("started").exists()) == (1, True), err
    else:
        assert code in (2, 3)
        assert says in err
        assert not Path("started").exists()


GRID = {"name": "g", "key": "finetune.args.encoder_conf.num_blocks", "values": [1, 2]}


@pytest.mark.parametrize(
    ("grid", "point", "says"),
    [
        ({}, None, "4 runs, 4 without a record yet"),
        ({"key": "finetune.args.max_epoch"}, None, "4 runs, 4 without a record yet"),
        ({"key": "finetune.args.encoder_conf.attention_heads", "values": [2, 3]},
         "sweep_g_3_s1", "the model cannot be built"),
        ({"key": "finetune.args.optim_conf.lrr"}, "sweep_g_1_s1", "did you mean 'lr'?"),
        ({"key": "decode.args.beam_sise", "base": {"decode.method": "beam"}}, "sweep_g_1_s1",
         "did you mean 'beam_size'?"),
    ],
)  # fmt: skip
def test_every_point_of_a_sweep_is_built_by_its_dry_run(folder, capfd, grid, point, says):
    given = {**CONFIG, "encoder_conf": {**LAYER, "cnn_module_kernel": 3}}
    folder.write("conf/t.yaml", json.dumps(given))
    sections = {"format": {}, "tokens": {"type": "char"}, "decode": {}, "score": {}}
    folder.recipe(**sections, finetune=PHASE)
    folder.write("g.yaml", json.dumps({**GRID, "seeds": [1, 2], **grid}))
    argv = ["g.yaml", "--dry-run", "--ngpu", "0"]
    if point is None:
        assert sweep.main(argv) == 0
        out = capfd.readouterr().out
        assert says in out
        models = 1 if grid else len(GRID["values"])
        assert out.count("the model can be built") == models  # what is the same is told once
    else:
        with pytest.raises(EspnetExtError) as e:
            sweep.main(argv)
        assert str(e.value).startswith(f"{point}: ") and says in str(e.value)
    assert not Path("exp").exists()


def test_a_given_token_list_is_compared_before_stage_1(run, folder):
    write_model(folder, ["<blank>", "<unk>", "b", "a", "<sos/eos>"])
    folder.write("mine.txt", "<blank>\n<unk>\na\nb\n<sos/eos>\n")
    given = {"type": "char", "file": "mine.txt"}
    phase = {**PHASE, "init": ["old/valid.acc.ave.pth"]}
    code, _, err = run({"tokens": given, "finetune": phase}, {"normalize": "utterance_mvn"})
    assert code == 2 and "in another order; token 2 is 'b' there and 'a' here" in err
    assert not Path("started").exists()
    folder.write("mine.txt", "<blank>\n<unk>\nb\na\n<sos/eos>\n")
    code, _, err = run({"tokens": given, "finetune": phase}, {"normalize": "utterance_mvn"})
    assert (code, Path("started").exists()) == (1, True), err
