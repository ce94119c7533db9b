"""A release is one pytest session: setup deploys, the tests decide, teardown keeps or reverts.

The names below are what a team's own checks use. They are imported on first use, because every pytest session of an
environment imports this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutover.core.target import Target
    from cutover.core.verdict import AssertVerdict, Outcome, Verdict, no, not_asked, unknown, yes
    from cutover.watch.check import Source, WatchCheck

__version__ = "0.1.0"
__all__ = [
    "AssertVerdict",
    "Outcome",
    "Source",
    "Target",
    "Verdict",
    "WatchCheck",
    "no",
    "not_asked",
    "unknown",
    "yes",
]

_MODULES = {
    "Target": "cutover.core.target",
    "Source": "cutover.watch.check",
    "WatchCheck": "cutover.watch.check",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cutover' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES.get(name, "cutover.core.verdict")), name)
