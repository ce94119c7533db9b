"""The questions: in each file a short asker and a pure judge that holds every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cutover.core.verdict import Verdict

Expect = Callable[[Verdict | Iterable[Verdict]], None]
"""What the fixture `expect` is: records verdicts as evidence, fails the test on a no."""
