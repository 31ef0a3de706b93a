# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_ext.errors import UsageError
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps.align import plan


def test_a_wrong_key_is_told_before_time_is_spent():
    with pytest.raises(UsageError, match="epoch") as e:
        plan(Context(Recipe(align={"hybrid": {"epoch": 3}}), Options()))
    assert "epochs" in e.value.how


def test_alignments_that_exist_are_needed_instead_of_a_lexicon():
    given = {"lexicon": "l.txt", "alignments": {"train": "ali"}}
    needs = {str(p) for p in plan(Context(Recipe(align=given), Options())).needs}
    assert {"ali/header.json", "ali/labels.scp"} <= needs and "l.txt" not in needs
    assert "l.txt" in {
        str(p) for p in plan(Context(Recipe(align={"lexicon": "l.txt"}), Options())).needs
    }


def test_an_aligner_that_is_there_is_needed_and_none_is_made():
    own = plan(Context(Recipe(align={"model": "exp/ali"}), Options()))
    # All of the folder: training it again changes its weights, and may leave model.json as it was.
    assert "exp/ali" in {str(p) for p in own.needs}
    assert {p.name for p in own.makes} == {"targets.scp"}
    with pytest.raises(UsageError, match="'keep' stands beside 'model'"):
        plan(Context(Recipe(align={"model": "exp/ali", "keep": ["mono"]}), Options()))


@pytest.mark.parametrize("name", ["", "data/plain"])
def test_the_table_of_transcripts_is_a_file_of_the_set(name):
    needs = plan(Context(Recipe(align={"text": "plain"}), Options())).needs
    assert {p.name for p in needs} == {"wav.scp", "plain", "utt2num_samples", "utt2spk"}
    with pytest.raises(UsageError, match="no table of a data folder"):
        plan(Context(Recipe(align={"text": name}), Options()))


def test_off_where_no_training_reads_the_labels(folder):
    phones = {"name": "phones", "file": "align/target_phones.scp", "type": "kaldi_ark"}
    folder.write("conf/t.yaml", "dual_task: {samu_scale: 1, samu_reduce: mean}\n")
    task = "espnet_ext.dual_task.task:PretrainTask"

    def off(**options):
        args = {"dual_task": options}
        phase = {"task": task, "config": "conf/t.yaml", "streams": [phones], "args": args}
        folder.recipe(align={}, pretrain=phase)
        return bool(plan(folder.context("align")).off)

    assert not off(pretrain="phones_samu") and not off(pretrain="phones")
    assert off(pretrain="none") and off(pretrain="samu")
    assert off(pretrain="phones", speech_encoder="dump/speech_encoder")
    folder.recipe(align={})
    assert not plan(folder.context("align")).off  # the alignment itself is wanted
