"""What was committed on a color, as it is remembered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """A release that was committed on a color: what ran, from which file, and whether a whole gate passed on it."""

    color: str
    tag: str
    image: str
    config_hash: str
    container: str
    file: str
    """Name of the release file below `releases/<color>/`."""
    proven: bool
    by: str
    at: str

    def is_running(self, container: str, image: str, config_hash: str) -> bool:
        """Whether exactly this is what runs."""
        return (self.container, self.image, self.config_hash) == (container, image, config_hash)
