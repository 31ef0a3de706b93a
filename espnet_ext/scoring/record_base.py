# SPDX-License-Identifier: Apache-2.0
"""The types that the parts of a run record are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]

SWEEP = "sweep_"  # how the groups of a sweep begin
RATE_TOLERANCE = 0.05  # percentage points: a writer may round to one decimal


class Model(BaseModel):
    """A part of a record: strict about what it knows, silent about what it does not."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)
