# SPDX-License-Identifier: Apache-2.0
"""Upload a published folder to the Hugging Face hub by its own client."""

import re
from pathlib import Path

from espnet_ext.errors import EspnetExtError, SetupError, UsageError, told
from espnet_ext.installation import install

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_name(repo: str) -> None:
    """Check the name of a repository before any work.

    Raises:
        UsageError: It is not ``owner/name``.
    """
    if not _REPO.fullmatch(repo):
        raise UsageError(f"'{repo}' is no repository of the hub", "--push", "OWNER/NAME")


def check_client() -> None:
    """Check that the hub's client is installed; the card is made and checked by it, too.

    Raises:
        SetupError: It is not.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        what = "publishing needs the package huggingface_hub"
        raise SetupError(what, None, install("huggingface_hub")) from None


def push(folder: Path, repo: str, private: bool) -> str:
    """Upload a folder, and nothing else; return the address of the commit.

    Args:
        folder: A folder that ``espnet-ext publish`` has written and checked.
        repo: ``owner/name``; made where it does not exist.
        private: Whether a new repository is private.

    Raises:
        EspnetExtError: The hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo, repo_type="model", private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, repo_type="model", folder_path=str(folder),
            commit_message="Model published by espnet-ext publish",
        )  # fmt: skip
    except Exception as e:  # of the hub and of the network: each has classes of its own
        how = "check the network, log in with 'hf auth login' (a token that may write), try again"
        raise EspnetExtError(f"the model was not uploaded: {told(e)}", repo, how) from None
    return str(done)
