# SPDX-License-Identifier: Apache-2.0
"""The tree of an ESPnet2 recipe: ``egs2/<corpus>/<name>`` beside the stock recipe of the corpus.

Its data preparation is that of the checkout, by a link: ours needs this package.
"""

from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, UsageError
from espnet_ext.upstream import readme
from espnet_ext.upstream.egs3_conf import INFERENCE_KEYS, speeds_of
from espnet_ext.upstream.mapping import DEVIATION, Mapped, mapped
from espnet_ext.upstream.plan import WEAK_ALIGN, Plan
from espnet_ext.upstream.templating import template
from espnet_ext.upstream.tree import Tree
from espnet_ext.upstream.weak_align_files import method_files
from espnet_ext.upstream.yamltext import Section, rendered

TEMPLATE = "../../TEMPLATE/asr1"
COPIES = ("cmd.sh", "conf/slurm.conf", "conf/queue.conf", "conf/pbs.conf")
LINKS = ("asr.sh", "path.sh", "db.sh", "scripts", "pyscripts")
KALDI = ("steps", "utils")
TASK = "espnet2/tasks/asr.py"
# Sets of the stock data preparation, by corpus: train, valid, tests.
SETS = {
    "an4": ("train_nodev", "train_dev", "train_dev test"),
    "tedlium2": ("train", "dev", "dev test"),
    "librispeech": ("train_960", "dev", "test_clean test_other dev_clean dev_other"),
}
_IMPORT = "from espnet2.asr.specaug.specaug import SpecAug\n"
_CLASS = "        pit_espnet=PITESPnetModel,\n"
_NAMES = 'retval = retval + ["prompt"]\n'
# Where lines are added in espnet2/tasks/asr.py: after the first, or in place of it.
EDITS = (
    (_IMPORT, f"{_IMPORT}from espnet2.asr.weak_align_model import ESPnetWeakAlignASRModel\n"),
    (_CLASS, f"{_CLASS}        weak_align=ESPnetWeakAlignASRModel,\n"),
    (_NAMES, 'retval = retval + ["prompt", "align"]\n'),
)


def build(plan: Plan, checkout: Path) -> Tree:
    """Return all files.

    Args:
        plan: The recipe.
        checkout: Of ESPnet.

    Raises:
        UsageError: The checkout has no recipe of the corpus.
        DataError: A file of the checkout is not as expected.
    """
    stock = checkout / "egs2" / plan.corpus / "asr1"
    if not (stock / "local/data.sh").is_file() or plan.corpus not in SETS:
        raise UsageError(
            f"ESPnet's own data preparation of {plan.corpus} is needed, and is not known", stock,
            "--layout egs3",
        )  # fmt: skip
    name = "weak_align" if plan.method == WEAK_ALIGN else "conformer"
    here = f"egs2/{plan.corpus}/asr1_{name}"
    result = mapped(plan.config, plan.phase.model)
    result.deviations.clear()  # ESPnet2's options mean the same there
    inference = _inference(plan, result)
    values, flags = _values(plan, name), {"egs2", "align" if plan.align else "plain"}
    files = {
        f"{here}/run.sh": template("egs2/run.sh", values, flags),
        f"{here}/conf/train_asr_{name}.yaml": _training(plan, result),
        f"{here}/conf/decode_asr.yaml": inference,
        **(_method(checkout, values) if plan.align else {}),
    }
    page = {**readme.page_values(plan, result, here), **values}
    files[f"{here}/README.md"] = template("egs2/README.md", page, flags)
    links = {f"{here}/{n}": f"{TEMPLATE}/{n}" for n in LINKS}
    links |= {f"{here}/{n}": f"../../../tools/kaldi/egs/wsj/s5/{n}" for n in KALDI}
    links[f"{here}/local"] = "../asr1/local"
    copies = {f"{here}/{n}": f"egs2/TEMPLATE/asr1/{n}" for n in COPIES}
    copies = {k: v for k, v in copies.items() if (checkout / v).is_file()}
    body = readme.pull_request(plan, result, files, here)
    return Tree(here, dict(sorted(files.items())), body, result, links, copies)


def _values(plan: Plan, name: str) -> dict[str, str]:
    train, valid, tests = SETS[plan.corpus]
    tokens, speeds = plan.recipe.tokens, plan.recipe.format.speeds if plan.recipe.format else []
    copies = [f"{s}" for s in speeds_of(plan)]
    return {
        "NAME": name,
        "TRAIN_SET": train,
        "VALID_SET": valid,
        "TEST_SETS": tests,
        "LANG": "en",
        "NBPE": str(tokens.size),
        "BPEMODE": tokens.model_type,
        "NORMALIZE": str(plan.config.get("normalize", "global_mvn")),
        "SPEEDS": " ".join(f"{s}" for s in speeds) if len(speeds) > 1 else "",
        "SPEED_ARGS": " --speeds " + " ".join(copies) if copies else "",
        "MODEL": plan.phase.model,
        "BASE": "espnet2.asr.weak_align",
        **{f"{x.upper()}_TESTS": template(f"weak_align/test_{x}.py", {}).strip()
           for x in ("method", "model")},
    }  # fmt: skip


def _training(plan: Plan, result: Mapped) -> str:
    """Return the training options as they are, the method's under ``model_conf``."""
    config: dict[str, Any] = dict(plan.config)
    if plan.align:
        conf = {**(config.get("model_conf") or {}), "align_conf": plan.align}
        config |= {"model": "weak_align", "model_conf": conf}
    return rendered([f"{plan.recipe.title}."], [Section("", config)])


def _inference(plan: Plan, result: Mapped) -> str:
    """Return the options of ``asr_inference``."""
    decode, notes = plan.recipe.decode, []
    args = {k: v for k, v in (decode.args if decode else {}).items() if k in INFERENCE_KEYS}
    if decode and decode.method == "greedy_ctc":
        args = {"beam_size": 5, "ctc_weight": 1.0}
        text = "CTC prefix search with a beam of 5 takes the place of the best path"
        result.deviate("inference", text)
        notes.append(f"{DEVIATION} {text}.")
    return rendered([], [Section("", args or {"beam_size": 10}, notes)])


def _method(checkout: Path, values: dict[str, str]) -> dict[str, str]:
    """Return the vendored method, its tests and the changed task."""
    room = "espnet2/asr/weak_align"
    files = {f"{room}/{n}": text for n, text in method_files(values["BASE"]).items()}
    files[f"{room}/__init__.py"] = ""
    files[f"{room}/alignment.py"] = template("egs3/alignment.py", values, {"egs2", "stretch"})
    files["espnet2/asr/weak_align_model.py"] = template("weak_align/model.py", values)
    files["test/espnet2/asr/test_weak_align.py"] = template("egs2/test_weak_align.py", values)
    files[TASK] = edited((checkout / TASK).read_text(encoding="utf-8"))
    return files


def edited(task: str) -> str:
    """Return ``espnet2/tasks/asr.py`` that knows the model and the stream of labels.

    Raises:
        DataError: It is not as expected.
    """
    for old, new in EDITS:
        if task.count(old) != 1:
            raise DataError(
                f"'{old.strip()}' stands {task.count(old)} times in it, not once", TASK,
                "ESPnet has changed: add model weak_align and stream align by hand",
            )  # fmt: skip
        task = task.replace(old, new)
    return task
