"""The rehearsal: on a restored copy the new image upgrades, and the live image passes its gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutover.compose import Rendered
    from cutover.data import Data
    from cutover.verdict import Verdict


def rehearse(data: Data, new: Rendered, live: Rendered, live_image: str = "") -> list[Verdict]:
    """The verdicts of the upgrade and of the gate, in order; the first no ends it."""
    raise NotImplementedError((data, new, live, live_image))
