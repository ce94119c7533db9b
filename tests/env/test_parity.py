"""The colours side by side."""

from __future__ import annotations

from cutover.env.parity import parity, table


def test_shows_the_colours_without_their_secrets() -> None:
    """Each key has its row; only public values and emptiness can be read."""
    colours = {
        "blue": {"TAG": "sha-1", "PORT": "8000", "URL": "canary-1", "KEY": "canary-2", "LEVEL": ""},
        "green": {"TAG": "sha-2", "PORT": "8001", "URL": "canary-1", "KEY": "canary-3", "EXTRA": "canary-4"},
    }
    rows = parity(colours, public=("TAG", "PORT"), apart=("TAG", "PORT"))
    assert table(rows, ("blue", "green")) == [
        "key    blue     green",
        "TAG    sha-1    sha-2  differs, as it should",
        "PORT   8000     8001   differs, as it should",
        "URL    ***      ***    same",
        "KEY    ***      ***    differs",
        "LEVEL  (empty)  -      missing",
        "EXTRA  -        ***    missing",
    ]
    assert "canary" not in str([row.as_json() for row in rows])
