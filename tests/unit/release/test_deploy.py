"""The identity of what was started."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from cutover.core.errors import Failed
from cutover.release.deploy import require_identity
from tests.helpers.containers import container


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, None),
        ({"image_name": "sha256:1"}, None),  # named by its ID: the image is compared all the same
        ({"image_name": "recall/api:sha-1"}, "expected tag sha-2, recall_green-api-1 runs sha-1"),
        ({"image_name": "recall/api:sha-1", "image": "sha256:2"}, "expected tag sha-2"),
        ({"image": "sha256:" + "2" * 64}, "expected image 1, recall_green-api-1 runs 222222222222"),
        ({"config_hash": "f" * 64}, "expected config hash e{12}, recall_green-api-1 has f{12}"),
    ],
)
def test_what_was_started_is_what_was_asked_for(changes: dict[str, str], refused: str | None) -> None:
    """The running container has the tag, the image and the configuration of the release."""
    found = replace(container(), **{"config_hash": "e" * 64, **changes})  # type: ignore[arg-type]
    with pytest.raises(Failed, match=refused) if refused else nullcontext():
        require_identity(found, "sha256:1", "e" * 64, "sha-2")
