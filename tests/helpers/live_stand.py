"""A stand on which a release is live and verified, for the tests of one module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.stand import Stand


@contextmanager
def live_stand(folder: Path, prefix: str, tag: str, *, extra: str = "") -> Iterator[Stand]:
    """A stand in *folder*, whose name begins with *prefix*, where *tag* is live on blue; removed at the end."""
    made = Stand(folder, f"{prefix}{uuid.uuid4().hex[:6]}", min_uptime="1s", extra=extra)
    try:
        made.make()
        done = made.release(tag, "live")
        assert done.code == 0, done.out
        yield made
    finally:
        made.remove()
