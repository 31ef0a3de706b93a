# SPDX-License-Identifier: Apache-2.0
"""Values of recipe.yaml as options of ESPnet's parser."""

import yaml

# Options of ESPnet's parser that are given once per value; any other list follows its option.
REPEATED = {
    "fold_length", "train_shape_file", "valid_shape_file", "train_data_path_and_name_and_type",
    "valid_data_path_and_name_and_type", "stream_data_path_and_name_and_type",
    "stream_shape_file", "stream_batch_size", "stream_batch_bins",
}  # fmt: skip


def option(key: str, value: object) -> list[str]:
    """Write a value as ESPnet's parser wants it; a section becomes ``--key sub=value`` pairs."""
    if isinstance(value, dict):
        return [x for k, v in value.items() for x in (f"--{key}", f"{k}={_yaml(v)}")]
    if isinstance(value, list):
        words = [",".join(map(str, v)) if isinstance(v, list) else str(v) for v in value]
        if key in REPEATED:
            return [x for word in words for x in (f"--{key}", word)]
        return [f"--{key}", *words]
    if isinstance(value, bool):
        value = str(value).lower()
    return [f"--{key}", "null" if value is None else str(value)]


def _yaml(value: object) -> str:
    """One line of YAML; JSON's 1e-05 would be text to ESPnet."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip()
