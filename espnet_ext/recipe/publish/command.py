# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext publish EXPERIMENT --licence ID [options]

Write a trained, scored and packed experiment as a folder of the Hugging Face hub: weights,
configuration, tokens, and a model card made from the run record. It is checked without the network.

  EXPERIMENT             exp/<name> of a recipe, or <name> in the recipe's folder
  --licence ID           of the model: apache-2.0, cc-by-4.0, cc-by-nc-4.0, ... or another's name
  --corpus-licence TEXT  of the training data, where recipe.yaml (corpus.licence) does not say it
  --language CODES       of the data: en, or en,fr (default: corpus.language of recipe.yaml)
  --out DIR              folder to write (default: exp/<name>/hub); one that this command wrote is
                         replaced
  --push OWNER/NAME      upload the folder; log in before, with 'hf auth login'
  --private              a repository that --push makes is private

Refused: an experiment whose model, scores and archive do not belong together, or that recognises
nothing. Loading: stock ESPnet takes the hub's name; from_pretrained here takes it and the folder.
"""

import contextlib
from pathlib import Path

from espnet_ext import commandline
from espnet_ext.errors import UsageError
from espnet_ext.files import atomic_dir, check_replaceable
from espnet_ext.paths import absolute


def main(argv: list[str]) -> int:
    """Run ``espnet-ext publish``; return the exit code."""
    if not argv or commandline.asks_for_help(argv):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    args = commandline.parse(parser(), argv)
    from espnet_ext.recipe.publish import push
    from espnet_ext.recipe.publish.experiment import folder_of

    push.check_client()
    if args.push:
        push.check_name(args.push)
    if args.private and not args.push:
        raise UsageError("--private is for --push", None, "add --push OWNER/NAME")
    exp = folder_of(args.experiment)
    out = absolute(args.out) if args.out else exp / "hub"
    with contextlib.chdir(exp.parents[1]):
        out = write(exp.name, out, args)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(f"{out}: ready, {size / 1e6:.1f} MB")
    if args.push:
        print(push.push(out, args.push, args.private))
    return 0


def parser() -> commandline.Parser:
    """Return the parser of the options."""
    p = commandline.Parser("espnet-ext publish")
    p.add_argument("experiment")
    for name in ("licence", "corpus-licence", "language", "out", "push"):
        p.add_argument(f"--{name}", default="")
    p.add_argument("--private", action="store_true")
    return p


def write(name: str, out: Path, args: object) -> Path:
    """Write and check the folder of an experiment of the recipe here; return it.

    Args:
        name: Of the experiment.
        out: The folder; all of it appears at once, or nothing.
        args: Options of the command.

    Raises:
        EspnetExtError: The experiment is not one to publish, or a licence is missing.
    """
    from espnet_ext.recipe.publish import card, experiment, folder

    check_replaceable(out, folder.RECORD)
    found = experiment.load(name)
    about = card.terms(found, args.licence, args.corpus_licence, args.language, args.push)
    with atomic_dir(out) as tmp:
        folder.write(found.archive, Path("results") / f"{name}.json", tmp, str(found.ctx.exp))
        (tmp / "README.md").write_text(card.render(found, about, tmp), encoding="utf-8")
        folder.check(tmp)
        experiment.PACK.code(found.ctx.recipe).check(found.plan, tmp)
    return out
