# SPDX-License-Identifier: Apache-2.0
"""Where a model is: a local path, or a name on the Hugging Face hub, which is fetched once."""

import re
from pathlib import Path

from espnet_ext.errors import SetupError, told
from espnet_ext.installation import install

FOLDERS = ("data", "dump", "exp", "local", "conf", "egs2")  # of a recipe: no owners on the hub
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")


def is_name(model: Path | str) -> bool:
    """Whether a model is meant as ``owner/name`` on the hub, perhaps with ``@revision``.

    What exists here, lies in a folder that exists here, or is called like an archive is a path.
    """
    text = str(model)
    if not _NAME.fullmatch(text) or text.endswith(_ARCHIVES):
        return False
    owner = text.partition("/")[0]
    return owner not in FOLDERS and not Path(owner).exists()


def found(model: Path | str) -> Path:
    """Return the local path of a model; a name on the hub is downloaded, or taken from the cache.

    Args:
        model: A path, which need not exist, or ``owner/name[@revision]``.

    Raises:
        SetupError: The hub does not have it, or cannot be reached and it is in no cache.
    """
    if not is_name(model):
        return Path(model)
    name, _, revision = str(model).partition("@")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        what = "models of the Hugging Face hub need the package huggingface_hub"
        raise SetupError(what, name, install("huggingface_hub")) from None
    try:
        return Path(snapshot_download(name, revision=revision or None))
    except Exception as e:  # of the hub, the network, the cache: each has classes of its own
        what = f"'{name}' is no local path, and cannot be fetched from the hub ({told(e)})"
        how = "correct the path or the name; a private model needs 'hf auth login'"
        raise SetupError(what, model, how) from None
