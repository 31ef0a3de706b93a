# SPDX-License-Identifier: Apache-2.0
"""Starting from another model: ``FILE:SRC:DST:EXCLUDE``, with nothing lost in silence.

ESPnet's own loading takes a prefix that matches nothing (all is trained from scratch), and puts
output layers of one vocabulary on another of the same size (all outputs are permuted).
"""

from pathlib import Path
from typing import Any, NamedTuple

from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.yamlfile import read_section

Shapes = dict[str, tuple[int, ...]]


class Init(NamedTuple):
    """One value of ``init_param``, as ESPnet reads it."""

    file: str
    src: str = ""
    dst: str = ""
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Init":
        """Parse ``FILE[:SRC[:DST[:EXCLUDE,...]]]``."""
        file, src, dst, exclude, *_ = [*text.split(":"), "", "", ""]
        return cls(file, src, dst, tuple(x for x in exclude.split(",") if x))

    def taken(self, source: Shapes) -> Shapes:
        """Return what ESPnet takes of a model's state, by its name in the new model."""
        kept = {k: v for k, v in source.items() if not any(k.startswith(e) for e in self.exclude)}
        if self.src:
            kept = {k[len(self.src) + 1 :]: v for k, v in kept.items() if k.startswith(self.src)}
        return {f"{self.dst}.{k}" if self.dst else k: v for k, v in kept.items()}


def read_shapes(path: Path | str) -> Shapes:
    """Return the shapes of a saved model's state; the weights stay on disk.

    Raises:
        DataError: The file is no state of a model.
    """
    import torch

    how = "give a model such as valid.acc.ave.pth, or 3epoch.pth"
    try:
        state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise DataError("there is no such model to start from", path) from None
    except Exception as e:  # what a broken or foreign file raises has no common class
        first = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"the model to start from cannot be read: {first}", path, how) from None
    state = state.get("module", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(hasattr(v, "shape") for v in state.values()):
        what = "the file to start from holds a trainer's state, or no model"
        raise DataError(what, path, how)
    return {k: tuple(v.shape) for k, v in state.items()}


def token_list_of(path: Path | str) -> list[str] | None:
    """Return the tokens of a saved model, of the ``config.yaml`` beside it; None without one."""
    config = Path(path).with_name("config.yaml")
    if not config.exists():
        return None
    given = read_section(config, "a training's configuration", DataError)
    return tokens_of(given.get("token_list"))


def tokens_of(given: Any) -> list[str] | None:
    """Return the tokens of ESPnet's ``token_list``, a list or a file; None where there are none."""
    if isinstance(given, list | tuple):
        return list(given)
    if not isinstance(given, str) or not Path(given).exists():
        return None
    return Path(given).read_text(encoding="utf-8").splitlines()


def difference(old: list[str], new: list[str]) -> str:
    """Return how two token lists that are not equal differ: in their sizes, and from where on."""
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), None)
    first = "" if at is None else f"; token {at} is '{old[at]}' there and '{new[at]}' here"
    order = " in another order" if sorted(old) == sorted(new) else ""
    return f"{len(old)} tokens there, {len(new)} here{order}{first}"


def check_prefix(init: Init, source: Shapes) -> None:
    """Refuse a prefix that matches nothing.

    Raises:
        UsageError: Nothing of the model would be taken.
    """
    if init.taken(source):
        return
    parts = {".".join(k.split(".")[: i + 1]) for k in source for i in range(2)}
    what = f"nothing in {init.file} begins with '{init.src}': the training would start from scratch"
    if not init.src:
        what = f"{','.join(init.exclude)} excludes all of {init.file}"
    raise UsageError(what, "init", nearest(init.src, parts))


def check_shapes(init: Init, source: Shapes, model: Shapes, ignore_mismatch: bool) -> None:
    """Compare what is taken with the new model.

    Raises:
        UsageError: Names or shapes differ (with ``ignore_init_mismatch``: all of them).
    """
    taken = init.taken(source)
    wrong = [k for k, v in taken.items() if model.get(k) != v]
    if not wrong or (ignore_mismatch and len(wrong) < len(taken)):
        return
    shown = [
        f"{k} {'x'.join(map(str, taken[k]))} "
        + (f"(here {'x'.join(map(str, model[k]))})" if k in model else "(not in this model)")
        for k in wrong[:3]
    ]
    raise UsageError(
        f"{len(wrong)} of {len(taken)} parameters of {init.file} do not fit: {', '.join(shown)}",
        "init",
        "take a part of it, FILE:SRC:DST:EXCLUDE, e.g. FILE:encoder:encoder; "
        "or the same encoder_conf, decoder_conf and tokens",
    )


def check_tokens(init: Init, source: Shapes, old: list[str] | None, new: list[str]) -> None:
    """Refuse output layers and embeddings of another vocabulary.

    Args:
        init: What is taken.
        source: Shapes of the saved model.
        old: Its tokens; None if they are not known.
        new: Tokens of the new model.

    Raises:
        UsageError: Parameters with a row for each token are taken, and the tokens differ.
    """
    if old is None or old == new:
        return
    heads = [k for k, shape in init.taken(source).items() if shape and shape[0] == len(old)]
    heads = [k for k in heads if k.split(".")[0] in ("decoder", "ctc", "joint_network", "lm")]
    if not heads:
        return
    parts = sorted({".".join(k.split(".")[:2]) for k in heads})
    raise UsageError(
        f"{init.file} has another token list ({difference(old, new)}), "
        f"and {', '.join(parts)} would be taken over",
        "init",
        f"its token list (tokens.file), or leave these out: {init.file}:::{','.join(parts)}",
    )


def check_files(init_param: list[str], tokens: list[str] | None) -> None:
    """Check what a training that begins now starts from.

    Raises:
        UsageError: A prefix matches nothing, or the vocabulary is another.
        DataError: A file cannot be read.
    """
    for text in init_param:
        init = Init.of(text)
        source = read_shapes(init.file)
        check_prefix(init, source)
        if tokens is not None:
            check_tokens(init, source, token_list_of(init.file), tokens)
