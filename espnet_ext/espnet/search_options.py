# SPDX-License-Identifier: Apache-2.0
"""Options of ESPnet's beam searches, compared with the classes that take them."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.espnet.init import difference
from espnet_ext.yamlfile import read_section

LM_CONFIG, LM_FILE = "lm_train_config", "lm_file"


def check_options(cls: Any, options: Mapping[str, Any], where: str) -> None:
    """Refuse options that a class or function does not have.

    Raises:
        UsageError: One is unknown; ``where`` is ``<where>.<option>``.
    """
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in options:
        if key not in parameters:
            what = f"{cls.__name__} has no option '{key}'"
            raise UsageError(what, f"{where}.{key}", nearest(str(key), parameters))


def beam_help(option: str) -> str:
    """Return what is known of an option of ESPnet's beam search.

    Raises:
        UsageError: There is no such option; the nearest is named.
    """
    with quiet_import():
        from espnet2.bin.asr_inference import Speech2Text

    check_options(Speech2Text, {option: None}, "--help")
    parameter = inspect.signature(Speech2Text).parameters[option]
    kind = getattr(parameter.annotation, "__name__", parameter.annotation)
    return f"option of espnet2.bin.asr_inference.Speech2Text\n  type:    {kind}\n  default: " + str(
        parameter.default
    )


def check_beam(options: Mapping[str, Any], where: str) -> None:
    """Compare options with ESPnet's beam search, by name and by type.

    Raises:
        UsageError: One is unknown, of another type, out of range, or a file that is missing.
    """
    with quiet_import():
        from espnet2.bin.asr_inference import Speech2Text

    _check_search(Speech2Text, options, where)


def check_translation(options: Mapping[str, Any], where: str) -> None:
    """Compare options with ESPnet's beam search over translations, as :func:`check_beam` does."""
    with quiet_import():
        from espnet2.bin.st_inference import Speech2Text

    _check_search(Speech2Text, options, where)


def named_files(options: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that options of a search name, e.g. those of a language model."""
    return {k: Path(v) for k, v in options.items() if _is_file(k, v)}


def check_lm(options: Mapping[str, Any], tokens: list[str] | None, where: str) -> None:
    """Refuse a language model of other tokens, whose scores ESPnet would give to wrong tokens.

    Args:
        options: Of a search; the model is not checked where its configuration is still missing.
        tokens: Token list of the recogniser; None: not known.
        where: Where the options stand.

    Raises:
        UsageError: The token lists differ, or only half of the language model is named.
    """
    given = {key for key in (LM_CONFIG, LM_FILE) if options.get(key)}
    if len(given) == 1:
        (other,) = {LM_CONFIG, LM_FILE} - given
        raise UsageError(f"a language model needs {LM_CONFIG} and {LM_FILE}", f"{where}.{other}")
    if not given or tokens is None or not (path := Path(options[LM_CONFIG])).is_file():
        return
    own = read_section(path, "a training's configuration", DataError).get("token_list") or []
    if own != tokens:
        how = "train it (task: lm) with the token list of the recogniser"
        what = f"the language model has another token list ({difference(own, tokens)})"
        raise UsageError(what, path, how)


def _is_file(key: str, value: Any) -> bool:
    return key.endswith(("_file", "_config")) and isinstance(value, str)


def _check_search(cls: Any, options: Mapping[str, Any], where: str) -> None:
    check_options(cls, options, where)
    parameters = inspect.signature(cls).parameters
    for key, value in options.items():
        place, default = f"{where}.{key}", parameters[key].default
        if isinstance(default, bool | int | float) and not _same_kind(value, default):
            raise UsageError(f"{key} must be like {default!r}, not {value!r}", place)
        if key in ("beam_size", "nbest") and value < 1:
            raise UsageError(f"{key} must be at least 1, not {value}", place)
        if key == "ctc_weight" and not 0 <= value <= 1:
            raise UsageError(f"{key} must be from 0 to 1, not {value}", place)
        if _is_file(key, value) and Path(value).parts[:1] != ("exp",) and not Path(value).exists():
            raise UsageError("there is no such file", f"{place}: {value}")


def _same_kind(value: Any, default: bool | int | float) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    kinds = int | float if isinstance(default, float) else int
    return isinstance(value, kinds) and value == value  # not NaN
