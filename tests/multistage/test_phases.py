# SPDX-License-Identifier: Apache-2.0
"""Translation and recognition from a pre-trained encoder: what arrives, what stands still."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from warm import run_stock

from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402
from espnet2.tasks.st import STTask  # noqa: E402

from espnet_ext.espnet.recognise import Beam  # noqa: E402
from espnet_ext.espnet.translate import Translator  # noqa: E402
from espnet_ext.espnet.verify import verify_stock  # noqa: E402
from espnet_ext.multistage.recognition.task import RecognitionTask  # noqa: E402
from espnet_ext.multistage.stages import decode, score  # noqa: E402
from espnet_ext.multistage.translation import check_config  # noqa: E402
from espnet_ext.recipe import config  # noqa: E402
from espnet_ext.recipe.options import Options  # noqa: E402
from espnet_ext.recipe.stages import Context, find  # noqa: E402

TRANSLATION = "espnet_ext.multistage.translation.task:TranslationTask"
RECOGNITION = "espnet_ext.multistage.recognition.task:RecognitionTask"
CONFORMER = [
    "--encoder", "conformer", "--encoder_conf", "pos_enc_layer_type=abs_pos",
    "--encoder_conf", "selfattention_layer_type=selfattn", "--encoder_conf", "cnn_module_kernel=7",
    "--encoder_conf", "dropout_rate=0.5", "--max_epoch", "1",
]  # fmt: skip
MODEL = "1epoch.pth"


def run(task, argv, out, *more):
    train.run(task, [*argv, *CONFORMER, *more, "--output_dir", str(out)])
    return out


def for_translation(argv):
    """Return the options without those that ESPnet's ST model does not have."""
    pairs = zip(argv[::2], argv[1::2], strict=True)
    return [x for p in pairs if not p[1].startswith(("ctc_weight", "report")) for x in p]


def encoder(out, model=MODEL):
    return {k: v for k, v in checkpoint.load(out / model).items() if k.startswith("encoder.")}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(x, b[k]) for k, x in a.items())


def from_encoder(out):
    return ["--init_param", f"{out / MODEL}:encoder:encoder"]


@pytest.fixture(scope="module")
def before(tiny_argv, tmp_path_factory):
    """A stand-in for pre-training: an encoder that has had one epoch."""
    return run("asr", tiny_argv, tmp_path_factory.mktemp("phases") / "pretrain")


@pytest.fixture(scope="module")
def translated(tiny_argv, before):
    out = before.with_name("midtrain")
    return run(TRANSLATION, for_translation(tiny_argv), out, *from_encoder(before))


@pytest.fixture(scope="module")
def recognised(tiny_argv, translated):
    out = translated.with_name("finetune")
    return run(RECOGNITION, tiny_argv, out, *from_encoder(translated))


def arrived(out):
    record = json.loads((out / "phase.json").read_text())
    return record["encoder_tensors_taken"], record["encoder_tensors"]


def test_the_whole_encoder_goes_from_phase_to_phase(before, translated, recognised):
    whole = len(encoder(before))
    assert arrived(translated) == arrived(recognised) == (whole, whole)
    assert not equal(encoder(before), encoder(translated))  # it has learnt to translate


def test_the_frozen_encoder_stands_still_with_its_statistics(translated, recognised):
    start, end = encoder(translated), encoder(recognised)
    assert any("running_mean" in k for k in start) and equal(start, end)
    record = json.loads((recognised / "phase.json").read_text())
    assert 0 < record["params_trained"] < record["params"] and record["updates"] > 1


def test_without_the_freeze_all_of_it_moves(tiny_argv, translated, tmp_path):
    more = ["--multistage", "freeze=none", *from_encoder(translated)]
    out = run(RECOGNITION, tiny_argv, tmp_path / "full", *more)
    start, end = encoder(translated), encoder(out)
    moved = {k for k in start if not torch.equal(start[k], end[k])}
    assert any("running_mean" in k for k in moved) and any("linear_q" in k for k in moved)


def test_the_frozen_encoder_computes_in_training_as_in_inference(recognised):
    model, _ = RecognitionTask.build_model_from_file(recognised / "config.yaml")
    model.specaug = None
    samples = 20 * 16000  # the crop of stage 1 to 10 s is not for recognition
    speech, lengths = torch.randn(1, samples), torch.tensor([samples])
    model.train()
    assert model.decoder.training and not any(m.training for m in model.encoder.modules())
    out, frames = model.encode(speech, lengths)
    model.eval()
    assert torch.equal(out, model.encode(speech, lengths)[0])
    assert frames.tolist() == [((2001 - 1) // 2 - 1) // 2]


def test_stock_espnet_has_both_models_whole(translated, recognised):
    assert not verify_stock(recognised / "config.yaml", recognised / MODEL).extra
    assert not verify_stock(translated / "config.yaml", translated / MODEL, STTask).extra
    model, _ = StockASRTask.build_model_from_file(recognised / "config.yaml", recognised / MODEL)
    assert type(model).__name__ == "ESPnetASRModel"


def test_stock_inference_decodes_without_this_package(tiny_data, translated, recognised, tmp_path):
    argvs = {}
    for kind, out in {"st": translated, "asr": recognised}.items():
        argv = [f"--{kind}_train_config", out / "config.yaml", f"--{kind}_model_file", out / MODEL]
        argv += ["--data_path_and_name_and_type", f"{tiny_data}/valid/wav.scp,speech,sound"]
        argv += ["--beam_size", 1, "--maxlenratio", -5, "--num_workers", 0, "--ngpu", 0]
        argvs[kind] = [*map(str, [*argv, "--output_dir", tmp_path / kind])]
    code = "from importlib import import_module\n"
    for kind, argv in argvs.items():
        code += f"import_module('espnet2.bin.{kind}_inference').main({argv!r})\n"
    run_stock(code, tmp_path)
    for kind in argvs:
        lines = (tmp_path / kind / "1best_recog/text").read_text().splitlines()
        assert [x.split()[0] for x in lines] == [f"valid{i:02d}" for i in range(4)]


RECIPE = {
    "recipe": "toy/multistage1",
    "data": {"train": "train", "valid": "valid", "test": [], "also": ["st_test"]},
    "midtrain": {"config": "conf/x.yaml", "task": TRANSLATION, "model": MODEL},
    "finetune": {"config": "conf/x.yaml", "task": RECOGNITION, "model": MODEL},
    "score": {"metrics": ["wer", "bleu"]},
    "decode": {
        "code": "espnet_ext.multistage.stages.decode",
        "args": {"translate": ["st_test"], "translation": {"beam_size": 1, "maxlenratio": -5}},
    },
}


@pytest.fixture
def recipe(tiny_data, translated, recognised, tmp_path, monkeypatch):
    """A recipe whose phases are trained, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for phase, out in (("midtrain", translated), ("finetune", recognised)):
        shutil.copytree(out, f"exp/base/{phase}")
    Path("conf").mkdir()
    Path("conf/x.yaml").write_text("{}")
    for root in ("data", "dump"):
        for name in ("valid", "st_test"):
            shutil.copytree(tiny_data / "valid", f"{root}/{name}")

    def context(**section):
        sections = {**RECIPE, "decode": {**RECIPE["decode"], **section}}
        Path("recipe.yaml").write_text(yaml.safe_dump(sections))
        return Context(config.load(Path("recipe.yaml")), Options(ngpu=0), find("decode"))

    return context


def test_the_final_model_recognises_and_that_of_midtrain_translates(recipe):
    ctx = recipe()
    plan = decode.plan(ctx)
    decode.run(ctx, plan)
    assert all(p.exists() for p in plan.makes)
    lines = (decode.out_dir(ctx, "st_test") / "translation").read_text().splitlines()
    assert [x.split()[0] for x in lines] == [f"valid{i:02d}" for i in range(4)]
    found = json.loads((decode.out_dir(ctx, "st_test") / "bleu.json").read_text())
    assert 0 <= found["bleu"] <= 100 and found["signature"].startswith("nrefs:1|case:mixed")
    for phase in ("midtrain", "finetune"):
        Path(f"exp/base/{phase}/commits.json").write_text('["unknown"]')
    score.run(ctx, score.plan(ctx))
    sets = json.loads(Path("exp/base/scores.json").read_text())["sets"]
    assert sets["st_test"]["translation"]["metrics"].keys() == {"bleu"}
    assert sets["st_test"]["translation"]["metrics"]["bleu"]["value"] == found["bleu"]
    assert sets["valid"]["greedy_ctc"]["metrics"].keys() == {"wer"}
    assert "BLEU" in Path("RESULTS.md").read_text()
    translation = decode.out_dir(ctx, "st_test") / "decode.json"
    translation.write_text(
        translation.read_text().replace('"model_sha256": "', '"model_sha256": "0')
    )
    with pytest.raises(DataError, match="translations of st_test are of another model"):
        score.run(ctx, score.plan(ctx))


def test_controls_without_translation_have_nothing_to_translate(recipe):
    ctx = recipe()
    made = decode.plan(ctx).makes
    ctx.recipe.midtrain.task = RECOGNITION  # ASR as mid-training
    assert decode.plan(ctx).makes == made[:1]
    ctx.recipe.midtrain = None
    assert decode.plan(ctx).makes == made[:1]


def test_a_set_to_translate_that_does_not_exist_is_told_at_once(recipe):
    with pytest.raises(UsageError, match="no set 'st_tst'"):
        decode.plan(recipe(args={"translate": ["st_tst"]}))


@pytest.mark.parametrize(
    ("args", "where"),
    [
        ({"beam_sice": 3}, r"decode\.args\.beam_sice"),
        ({"translation": {"beam_sice": 3}}, r"decode\.args\.translation\.beam_sice"),
        ({"translation": {"ctc_weight": 2.0}}, r"from 0 to 1, not 2\.0"),
    ],
)
def test_a_wrong_option_of_either_search_is_told_before_anything_is_trained(args, where, tmp_path):
    section = {**RECIPE["decode"], "method": "beam", "args": {"translate": ["st_test"], **args}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, "decode": section}))
    ctx = Context(config.load(file), Options(ngpu=0), find("decode"))
    with pytest.raises(UsageError, match=where):
        decode.check_args(ctx)


def test_both_searches_check_their_options_alike(translated, recognised):
    for search, out in ((Translator, translated), (Beam, recognised)):
        for options, says in (
            ({"beam_sice": 3}, "did you mean 'beam_size'"),
            ({"nbest": 0}, "nbest must be"),
        ):
            with pytest.raises(UsageError, match=says):
                search(out / "config.yaml", out / MODEL, options)


def test_a_block_that_would_start_at_random_is_refused(tiny_argv, before, tmp_path):
    one = ["--init_param", f"{before / MODEL}:encoder:encoder:encoder.after_norm"]
    with pytest.raises(DataError, match=r"2 of \d+ tensors .*encoder\.after_norm"):
        run(RECOGNITION, tiny_argv, tmp_path / "x", *one)


def test_other_features_than_before_are_refused(tiny_argv, before, tmp_path):
    for option, where in (("frontend_conf hop_length=128", r"frontend_conf\.hop_length"),
                          ("normalize global_mvn", "normalize")):  # fmt: skip
        key, value = option.split()
        with pytest.raises(UsageError, match=where):
            run(RECOGNITION, tiny_argv, tmp_path / "x", f"--{key}", value, *from_encoder(before))


def test_other_statistics_of_the_features_are_refused(tiny_argv, before, tmp_path):
    from espnet_ext.multistage.arrival import check_arrival

    model, _ = StockASRTask.build_model_from_file(before / "config.yaml", before / MODEL)
    model.normalize.register_buffer("mean", torch.zeros(3))
    torch.save({**model.state_dict(), "normalize.mean": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"normalize\.mean"):
        check_arrival(model, [f"{tmp_path}/a.pth:encoder:encoder"])
    assert check_arrival(model, [])[0] == 0


def test_translation_has_no_second_loss():
    with pytest.raises(UsageError, match=r"model_conf\.asr_weight"):
        check_config({"model_conf": {"asr_weight": 0.3}})


def test_the_source_side_of_the_configuration_is_that_of_the_translation(translated):
    made = yaml.safe_load((translated / "config.yaml").read_text())
    assert made["src_token_list"] == made["token_list"] and made["src_token_type"] == "char"
    assert "src_text" not in str(made["train_data_path_and_name_and_type"])
