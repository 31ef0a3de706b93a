# SPDX-License-Identifier: Apache-2.0
"""The tree of an ESPnet3 recipe: ``egs3/<corpus>/<system>`` and its tests."""

from pathlib import Path

from espnet_ext.upstream import egs3_conf, readme
from espnet_ext.upstream.mapping import mapped
from espnet_ext.upstream.plan import WEAK_ALIGN, Plan
from espnet_ext.upstream.templating import template
from espnet_ext.upstream.tree import Tree
from espnet_ext.upstream.weak_align_files import method_files

SYSTEM = "esp2_asr"
OWN_DATASET = ("an4",)  # corpora with a builder of their own; others read Kaldi-style folders


def system_name(plan: Plan, checkout: Path) -> str:
    """Return the folder below ``egs3/<corpus>``: the stock name unless it is taken or another."""
    if plan.method == WEAK_ALIGN:
        return f"{SYSTEM}_{plan.method}"
    taken = (checkout / "egs3" / plan.corpus / SYSTEM).exists()
    return f"{SYSTEM}_conformer" if taken else SYSTEM


def build(plan: Plan, checkout: Path) -> Tree:
    """Return all files.

    Args:
        plan: The recipe.
        checkout: Of ESPnet, to see what is there.
    """
    system = system_name(plan, checkout)
    here = f"egs3/{plan.corpus}/{system}"
    package = here.replace("/", ".")
    result = mapped(plan.config, plan.phase.model)
    egs3_conf.note_data(plan, result)
    values = _values(plan, system)
    flags = {plan.layout, "align" if plan.align else "plain", _kind(plan)}
    # Labels have to follow the speed, which only the dataset can see to.
    flags.add("stretch" if plan.align and egs3_conf.speeds_of(plan) else "fixed")

    def filled(name: str) -> str:
        return template(f"egs3/{name}", values, flags)

    files = {
        f"{here}/run.py": filled("run.py"),
        f"{here}/path.sh": filled("path.sh"),
        f"{here}/conf/training.yaml": egs3_conf.training(plan, result, package),
        f"{here}/conf/inference.yaml": egs3_conf.inference(plan, result, package),
        f"{here}/conf/metrics.yaml": egs3_conf.metrics(plan, filled("metrics.yaml")),
        f"{here}/conf/publication.yaml": filled("publication.yaml"),
        f"{here}/src/__init__.py": filled("src/__init__.py"),
        f"{here}/src/tokenizer.py": filled("src/tokenizer.py"),
        **{f"{here}/dataset/{name}": text for name, text in _dataset(plan, filled).items()},
        **_method(plan, here, package),
    }
    test = f"test/egs3/{plan.corpus}/{system}/test_{plan.method}_recipe.py"
    files[test] = filled("test_recipe.py")
    files[f"{here}/README.md"] = readme.recipe_page(plan, result, here)
    body = readme.pull_request(plan, result, files, here)
    return Tree(here, dict(sorted(files.items())), body, result)


def _kind(plan: Plan) -> str:
    return plan.corpus if plan.corpus in OWN_DATASET else "kaldi"


def _values(plan: Plan, system: str) -> dict[str, str]:
    section, variable = plan.recipe.format, plan.recipe.corpus.env or plan.corpus.upper()
    folders = {"train": plan.phase.train or plan.recipe.data.train,
               "valid": plan.phase.valid or plan.recipe.data.valid,
               **dict(zip(plan.test_sets, plan.recipe.data.test, strict=True))}  # fmt: skip
    return {
        "CORPUS": plan.corpus,
        "STRETCH": ", stretch" if egs3_conf.speeds_of(plan) else "",
        "SYSTEM": system,
        "BASE": f"egs3.{plan.corpus}.{system}.src.weak_align",
        "MIN_S": f"{section.min_s if section else 0.1}",
        "MAX_S": f"{section.max_s if section else 30.0}",
        "ALIGN_VAR": f"{variable}_ALIGNMENT",
        "DATA_VAR": f"{variable}_DATA",
        "LICENCE": f"{plan.recipe.corpus.name or plan.corpus}: {plan.recipe.corpus.licence}",
        "SPLIT_FOLDERS": "\n".join(f"    {s}: {f}" for s, f in folders.items()),
        "MANIFEST_PATHS": "\n".join(f"    {s}: manifest/{s}.tsv" for s in folders),
        "TEST_SET": plan.test_sets[0],
        **{
            f"{x.upper()}_TESTS": template(f"weak_align/test_{x}.py", {}).strip()
            for x in ("method", "model")
        },
    }


def _dataset(plan: Plan, filled) -> dict[str, str]:
    kind = _kind(plan)
    parts = (f"{kind}/builder_head.py", "builder_common.py", f"{kind}/builder_tail.py")
    config = filled(f"{kind}/config.yaml")
    files = {
        "__init__.py": filled("dataset_init.py"),
        "builder.py": "\n\n".join(filled(p) for p in parts),
        "dataset.py": filled("dataset.py"),
    }
    if plan.align:
        config += filled("alignment.yaml")
        files["alignment.py"] = filled("alignment.py")
    return {**files, "config.yaml": config}


def _method(plan: Plan, here: str, package: str) -> dict[str, str]:
    """Return the vendored method."""
    if plan.method != WEAK_ALIGN:
        return {}
    base = f"{package}.src.weak_align"
    files = method_files(base)
    for name in ("model.py", "task.py"):
        files[name] = template(f"weak_align/{name}", {"BASE": base})
    return {f"{here}/src/weak_align/{name}": text for name, text in files.items()}
