"""Which values are numbers that can be drawn."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value can be drawn: a result.json may hold null, and an estimate nan."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
