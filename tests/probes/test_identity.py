from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cutover.container import Container
from cutover.probes.identity import Expected, judge_identity
from cutover.verdict import Outcome
from tests.probes.inspected import ID, IMAGE, OTHER, container

YES, NO = Outcome.YES, Outcome.NO
ALL = Expected(image=IMAGE, container=ID, config_hash="d" * 64, port=8001)


def port(number: int, host: str = "127.0.0.1") -> dict[str, Any]:
    """`NetworkSettings.Ports` of a container that publishes *number*."""
    return {"8000/tcp": [{"HostIp": host, "HostPort": str(number)}]}


RIGHT = container(ports=port(8001))
STRANGER = container(id_="e" * 64, name="stranger", ports=port(8001))
ELSEWHERE = container(id_="e" * 64, name="stranger", ports=port(8001, "10.0.0.7"))


@pytest.mark.parametrize(
    ("seen", "owners", "expected", "outcome", "reason"),
    [
        (RIGHT, [RIGHT], ALL, YES, "recall_green-api-1 (cccccccccccc), which alone has port 8001"),
        (RIGHT, [RIGHT], Expected(), YES, "recall:sha-2 in"),
        (None, [], ALL, NO, "container cccccccccccc is gone"),
        (RIGHT, [RIGHT], Expected(image=OTHER), NO, "recall:sha-2 aaaaaaaaaaaa, expected bbbbbbbbbbbb"),
        (RIGHT, [RIGHT], Expected(container="e" * 64), NO, "as container cccccccccccc, expected eeee"),
        (RIGHT, [RIGHT], Expected(config_hash="f" * 64), NO, "configuration dddddddddddd, expected ffff"),
        (container(), [STRANGER], ALL, NO, "port 8001 belongs to another container: stranger (recall:sha-2)"),
        (RIGHT, [RIGHT, STRANGER], ALL, NO, "belongs to another container: stranger"),
        (RIGHT, [RIGHT, ELSEWHERE], ALL, YES, "which alone has port 8001"),
        (container(ports=port(8001, "0.0.0.0")), [ELSEWHERE], ALL, NO, "another container"),
        (container(), [], ALL, NO, "recall_green-api-1 (running) does not publish port 8001"),
        (container(ports=port(8002)), [], ALL, NO, "does not publish port 8001"),
        (container(ports={"8000/tcp": None}), [], ALL, NO, "does not publish port 8001"),
    ],
)  # fmt: skip
def test_identity(
    seen: Container | None, owners: Sequence[Container], expected: Expected, outcome: Outcome, reason: str
) -> None:
    """Image, container, configuration and port must all be the release's own; each stranger is named."""
    verdict = judge_identity(seen, owners, expected)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_every_difference_is_told() -> None:
    """A container that is wrong in two ways says both."""
    verdict = judge_identity(RIGHT, [RIGHT], Expected(image=OTHER, config_hash="f" * 64))
    assert verdict.reason.count("expected") == 2
