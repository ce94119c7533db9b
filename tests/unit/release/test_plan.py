"""What a plan shows of the differences between two releases."""

from __future__ import annotations

import json
from typing import Any

from cutover.core.config import Settings
from cutover.release.plan import release_differences
from cutover.system.compose import Rendered

SETTINGS = Settings.model_validate(
    {"project": "p", "services": ["api", "worker"], "colors": {"blue": {"env_file": ".env"}}}
)


def release(tag: str, port: str, **environment: str) -> Rendered:
    """A rendered release of two services."""
    model: dict[str, Any] = {
        "services": {
            "api": {
                "image": f"r/api:{tag}",
                "ports": [{"target": 8000, "published": port}],
                "environment": environment,
            },
            "worker": {"image": "r/worker:sha-1"},
        }
    }
    return Rendered("blue", "p_blue", json.dumps(model), model, {})


def test_shows_what_changes_and_no_value_of_a_secret() -> None:
    """Image, ports and each variable that differs; only public ones with their values."""
    before = release(
        "sha-1", "8001", LOG_LEVEL="info", DATABASE_URL="postgresql://u:old@db/x", GONE="1", SAME="1"
    )
    after = release(
        "sha-2", "8002", LOG_LEVEL="debug", DATABASE_URL="postgresql://u:new@db/x", NEW="2", SAME="1"
    )
    assert list(release_differences(before, after, SETTINGS)) == [
        "image: r/api:sha-1 → r/api:sha-2",
        "ports: 8001 → 8002",
        "environment DATABASE_URL: *** → ***",
        "environment GONE: *** → (none)",
        "environment LOG_LEVEL: info → debug",
        "environment NEW: (none) → ***",
    ]


def test_a_service_that_is_new_is_told() -> None:
    """The release before need not have had each of today's services."""
    before = release("sha-1", "8001")
    del before.model["services"]["worker"]
    assert list(release_differences(before, release("sha-1", "8001"), SETTINGS)) == [
        "worker is new: r/worker:sha-1"
    ]


def test_equal_releases_differ_in_nothing() -> None:
    """No line is no difference."""
    assert list(release_differences(release("sha-1", "8001"), release("sha-1", "8001"), SETTINGS)) == []
