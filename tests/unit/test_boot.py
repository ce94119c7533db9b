"""Whether this host reverts a half-done release after a reboot."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.preflight import recovers_at_boot


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("cutover-recover.service", "ExecStart=/srv/recall/.venv/bin/cutover recover\n", True),
        ("root", "@reboot cd /srv/recall && .venv/bin/cutover recover\n", True),
        ("other.service", "ExecStart=/usr/bin/true\n", False),
        (None, "", False),
    ],
)
def test_a_unit_or_a_crontab_is_found(tmp_path: Path, name: str | None, text: str, found: bool) -> None:
    """The shipped unit or an @reboot line, whatever the file is called."""
    if name:
        (tmp_path / name).write_text(text)
    assert recovers_at_boot((str(tmp_path), str(tmp_path / "none"))) is found
