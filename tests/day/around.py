"""What stands around a service on the day: a registry that wants a login, and the shipped monitoring."""

from __future__ import annotations

import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cutover.probes.alerts import alerts
from cutover.settings import Alerts
from examples.building import have
from examples.images import image
from examples.stand import REPOSITORY, Stand, free_ports
from tests.engine.test_monitoring import RULES, RUN_ALL
from tests.engine.test_registry import DOCKERFILE

UNAUTHORIZED = 401


def eventually(until: Callable[[], object], what: str, deadline_s: float = 300) -> None:
    """Return when *until* says yes; raises TimeoutError."""
    deadline = time.monotonic() + deadline_s
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.1)


@contextmanager
def registry(stand: Stand, empty: Path) -> Iterator[str]:
    """Debian's registry with one user, who is NAME with TOKEN of its test; its host and port."""
    empty.mkdir()
    name, reference = f"{stand.name}-registry", have("cutover-registry:2", DOCKERFILE, empty)
    stand.docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::5000", reference)
    try:
        host = stand.docker("port", name, "5000/tcp").split()[0]
        eventually(lambda: _wants_a_login(f"http://{host}/v2/"), "the registry answers", 60)
        yield host
    finally:
        stand.docker("rm", "--force", "--volumes", name, check=False)


def _wants_a_login(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  # our own http://127.0.0.1
    except urllib.error.HTTPError as answer:
        return answer.code == UNAUTHORIZED
    except OSError:
        return False
    return False


class Monitoring:
    """Prometheus, Alertmanager and blackbox exporter with deploy/monitoring, on ports of this day."""

    def __init__(self) -> None:
        self.ports = dict(zip(("prometheus", "alertmanager", "blackbox"), free_ports(3), strict=True))

    @property
    def wanted(self) -> Alerts:
        """What a release asks of them."""
        url = "http://127.0.0.1:{}".format
        return Alerts(
            prometheus=url(self.ports["prometheus"]), alertmanager=url(self.ports["alertmanager"]),
            rules=RULES, receiver="on-call",
        )  # fmt: skip

    @property
    def toml(self) -> str:
        """The same as cutover.toml says it."""
        lines = [
            f'{key} = "{getattr(self.wanted, key)}"' for key in ("prometheus", "alertmanager", "receiver")
        ]
        return "\n".join(["[alerts]", *lines, f"rules = {list(RULES)}", ""])

    def configure(self, stand: Stand) -> Path:
        """The shipped files with this day's ports, asked each second; the rules are as they are shipped."""
        folder = stand.folder / "monitoring"
        shutil.copytree(REPOSITORY / "deploy" / "monitoring", folder)
        changes = {
            "prometheus.yml": {
                "9093": str(self.ports["alertmanager"]), "9115": str(self.ports["blackbox"]), "_interval: 15s": "_interval: 1s",
            },
            "targets/health.yml": {"8080": str(stand.ports["proxy"])},
            "targets/service.yml": {"8000": str(stand.ports["blue"]), "8001": str(stand.ports["green"])},
        }  # fmt: skip
        for name, words in changes.items():
            text = (folder / name).read_text()
            for old, new in words.items():
                text = text.replace(old, new)
            (folder / name).write_text(text)
        for path in (stand.folder, folder, folder / "targets"):
            path.chmod(0o755)  # nobody of ours reads it there
        return folder

    def silent(self) -> bool:
        """Whether all rules are loaded, and none fires."""
        return alerts(self.wanted).ok

    @contextmanager
    def running(self, stand: Stand) -> Iterator[None]:
        """All three in one container until the block ends."""
        mount = ("--volume", f"{self.configure(stand)}:/etc/monitoring:ro", "--workdir", "/etc/monitoring")
        name, said = f"{stand.name}-monitoring", RUN_ALL.format(**self.ports)
        flags = ("--network", "host", "--init", "--memory", "512m", *mount)
        stand.docker("run", "--detach", "--name", name, *flags, image("prometheus"), "sh", "-c", said)
        try:
            yield
        finally:
            stand.docker("rm", "--force", "--volumes", name, check=False)
