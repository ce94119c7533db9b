"""Several services per color: deployed, identified and reverted together; workers follow the traffic."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.releases import build
from examples.stand import GOOD, Stand, pause, tags

pytestmark = pytest.mark.engine
NEXT, THIRD, BAD, LOUD, LATE = "sha-2222222", "sha-3333333", "sha-bad0c0c", "sha-10ad000", "sha-1a7e000"
QUIET_S = 10.0
"""So long the watch sees no error: right after the switch, their number decides before their kind does."""
# The api of each is as good as any other. The worker of BAD ends a second after each start; that of LOUD has
# crashes in its log from the beginning, that of LATE from the moment when it gets a signal.
WORKER = f"""\
  worker:
    <<: *hardened
    image: ${{IMAGE_REPO}}:${{IMAGE_TAG}}
    entrypoint:
      - sh
      - -c
      - |
        crash() {{ while sleep 0.2; do echo "CRITICAL cannot read the queue"; done; }}
        case $$BUILT_AS in
          {BAD}) sleep 1; exit 3 ;;
          {LOUD}) crash ;;
          {LATE}) trap crash USR1; while :; do sleep 0.2; done ;;
        esac
        exec sleep infinity
    deploy: {{replicas: 2}}
    healthcheck: {{disable: true}}
    networks: [shared]

"""
BEFORE = "  # The shared services run once"
Make = Callable[..., Stand]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Returns a function that makes a stand with a worker beside the api; removed afterwards."""
    made: list[Stand] = []

    def stand(line: str, *, proxied: bool) -> Stand:
        one = Stand(tmp_path, f"svc{uuid.uuid4().hex[:6]}", proxied=proxied)
        made.append(one)
        one.make()
        file = one.folder / "deploy" / "docker-compose.yml"
        text = file.read_text()
        assert text.count(BEFORE) == 1
        file.write_text(text.replace(BEFORE, WORKER + BEFORE))
        one.config.write_text(f"{line}\n{one.config.read_text()}")
        return one

    yield stand
    for each in made:
        each.remove()


def runs(stand: Stand, color: str) -> dict[str, str]:
    """Service → running tag, for one color."""
    label = f"label=com.docker.compose.project={stand.project(color)}"
    shown = '{{.Label "com.docker.compose.service"}} {{.Image}}'
    rows = stand.docker("ps", "--filter", label, "--format", shown).splitlines()
    return {row.split()[0]: tags(row.split()[1:])[0] for row in rows}


def test_a_color_whose_second_service_crashes_is_reverted(make: Make) -> None:
    """If the worker crashes, api and worker are reverted together, although the api passes every check."""
    stand = make('services = ["api", "worker"]', proxied=False)
    done = stand.release(GOOD, "blue")
    assert done.code == 0, done.out
    assert runs(stand, "blue") == {"api": GOOD, "worker": GOOD}
    done = stand.release(BAD, "blue")
    assert done.code == 1, done.out
    assert "ROLLED BACK" in done.out
    assert runs(stand, "blue") == {"api": GOOD, "worker": GOOD}
    # What is paused when somebody releases is no empty place: it is put back like anything else.
    pause(f"{stand.project('blue')}-api-1")
    done = stand.release(BAD, "blue")
    assert done.code == 1, done.out
    assert runs(stand, "blue") == {"api": GOOD, "worker": GOOD}


def test_a_worker_that_logs_crashes_is_reverted(make: Make) -> None:
    """Gate and watch read the log of every replica; a replica that is not running fails the gate."""
    # Their number would be enough as well, and which of the two is sure first depends on how old the other color is.
    stand = make('services = ["api", "worker"]\nchecks.report_only = ["log errors"]', proxied=True)
    done = stand.release(GOOD, "live")
    assert done.code == 0, done.out
    worker = f"{stand.project('green')}-worker-"

    def crash_in_the_watch() -> None:
        evidence = stand.folder / "reports" / "latest" / "evidence.jsonl"
        while stand.ask().get("version") != LATE or '"name": "drain ' not in evidence.read_text():
            time.sleep(0.1)  # poll: a step of another process raises no event here
        time.sleep(QUIET_S)
        stand.docker("kill", "--signal=USR1", f"{worker}1", f"{worker}2")

    threading.Thread(target=crash_in_the_watch, daemon=True).start()
    for tag, why in (
        (LOUD, rf"smoke/test_logs\.py::test_no_error_spike\[idle\]: .*{worker}\d: \d+ crashes of a new kind"),
        (
            LATE,
            r"new errors: worker \d: crashes of a new kind in \d+ s: \d+ × CRITICAL cannot read the queue",
        ),
    ):
        build(tag)
        done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=40s")
        assert done.code == 1, done.out
        assert "ROLLED BACK" in done.out
        assert re.search(why, " ".join(done.out.split())), done.out
        saved = sorted((stand.folder / "reports" / "latest").glob("green-worker-*.log"))
        assert ["cannot read the queue" in each.read_text() for each in saved] == [True, True]
        assert runs(stand, "blue") == {"api": GOOD, "worker": GOOD}
    stand.docker("kill", f"{stand.project('blue')}-worker-2")
    done = stand.pytest("smoke", "--target=live")
    assert done.code == 1, done.out
    assert f"{stand.project('blue')}-worker-2" in done.out


def test_consumers_run_where_the_traffic_goes(make: Make) -> None:
    """Workers run on one color only: the new one after a switch, the old one after a rollback or revert."""
    stand = make('workers = ["worker"]', proxied=True)

    def cutover(tag: str, code: int) -> None:
        build(tag)
        done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=6s")
        assert done.code == code, done.out
        assert ("ROLLED BACK" in done.out) == bool(code)

    done = stand.release(GOOD, "live")
    assert done.code == 0, done.out
    cutover(NEXT, 0)
    assert (runs(stand, "blue"), runs(stand, "green")) == ({"api": GOOD}, {"api": NEXT, "worker": NEXT})
    cutover(THIRD, 0)
    assert (runs(stand, "blue"), runs(stand, "green")) == ({"api": THIRD, "worker": THIRD}, {"api": NEXT})
    back = stand.cutover("rollback")
    assert back.code == 0, back.out
    assert (runs(stand, "blue"), runs(stand, "green")) == ({"api": THIRD}, {"api": NEXT, "worker": NEXT})
    cutover(BAD, 1)
    assert (runs(stand, "blue"), runs(stand, "green")) == ({"api": THIRD}, {"api": NEXT, "worker": NEXT})
