"""A module that is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """Stands for the module *name*, and imports it at the first question."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """What the module has under that name."""
        return getattr(importlib.import_module(self._name), attribute)
