"""The shipped proxy configurations with the ports and folders of a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cutover.proxy.nginx import SENTINEL
from tests.helpers.color_servers import REPOSITORY

PROXY = REPOSITORY / "deploy" / "proxy"


def create_marker(marker: Path, color: str) -> None:
    """Create a marker directory that names *color*; an existing one is left alone."""
    if marker.exists():
        return
    marker.mkdir(parents=True)
    marker.chmod(0o755)
    (marker / SENTINEL).touch()
    (marker / color).touch()


def replaced(name: str, words: dict[str, str]) -> str:
    """Text of a shipped file with *words* replaced; asserts that each occurs, so that no replacement is lost."""
    text = (PROXY / name).read_text(encoding="utf-8")
    for word, other in words.items():
        assert word in text, f"{name} has no {word!r}"
        text = text.replace(word, other)
    return text


def nginx(  # replaces what the comments of the file mark as "yours"
    folder: Path, ports: dict[str, int], port: int, marker: Path, *, tls: tuple[Path, Path] | None = None
) -> Path:
    """Write nginx's files to *folder*, to run as the current user; return the path of the main file."""
    listen = f"listen 127.0.0.1:{port}"
    if tls:
        listen += f" ssl; ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}"
    (folder / "cutover.conf").write_text(
        replaced(
            "nginx/cutover.conf",
            {
                "127.0.0.1:8000": f"127.0.0.1:{ports['blue']}",
                "127.0.0.1:8001": f"127.0.0.1:{ports['green']}",
                "listen 127.0.0.1:8080": listen,
                "/var/log/nginx/cutover.log": f"{folder}/access.log",
                "/var/lib/cutover/recall-live": str(marker),
            },
        )
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # www-data cannot read a folder of a test
    main = replaced(
        "nginx/nginx.conf",
        {"pid /tmp/nginx.pid;": f"{user}pid {folder}/nginx.pid;", "/tmp/nginx-": f"{folder}/nginx-"},
    )
    (folder / "nginx.conf").write_text(main)
    return folder / "nginx.conf"


def nginx_words(binary: str, main: Path) -> tuple[str, ...]:
    """Command line of nginx in the foreground, as in the container."""
    return (binary, "-c", str(main), "-g", "daemon off;")


def traefik(folder: Path, ports: dict[str, int], port: int, *, tls: tuple[Path, Path] | None = None) -> Path:
    """Write Traefik's files to *folder* with blue live; return the path of the static configuration."""
    places = {
        "127.0.0.1:8000": f"127.0.0.1:{ports['blue']}",
        "127.0.0.1:8001": f"127.0.0.1:{ports['green']}",
    }
    secure = ""
    if tls:
        places["entryPoints: [web]\n"] = "entryPoints: [web]\n      tls: {}\n"
        secure = f"\ntls:\n  certificates:\n    - certFile: {tls[0]}\n      keyFile: {tls[1]}\n"
    for name in ("cutover.yml.blue", "cutover.yml.green"):
        (folder / name).write_text(replaced(f"traefik/{name}", places) + secure)
    shutil.copy(folder / "cutover.yml.blue", folder / "cutover.yml")
    static = replaced(
        "traefik/traefik.yml",
        {
            "127.0.0.1:8080": f"127.0.0.1:{port}",
            "/etc/traefik/cutover.yml": str(folder / "cutover.yml"),
            "/var/log/traefik/access.log": str(folder / "access.log"),
        },
    )
    (folder / "traefik.yml").write_text(static)
    return folder / "traefik.yml"


def haproxy(folder: Path, ports: dict[str, int], port: int) -> tuple[Path, Path]:
    """Write HAProxy's file and the switch script to *folder*; return both paths."""
    places = {
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        "127.0.0.1:8000": f"127.0.0.1:{ports['blue']}",
        "127.0.0.1:8001": f"127.0.0.1:{ports['green']}",
        "/run/haproxy/admin.sock": str(folder / "admin.sock"),
        "/etc/haproxy/live.map": str(folder / "live.map"),
    }
    (folder / "haproxy.cfg").write_text(replaced("haproxy/haproxy.cfg", places))
    (folder / "live.map").write_text("live blue\n")
    script = folder / "switch.sh"
    own = {key: places[key] for key in ("/run/haproxy/admin.sock", "/etc/haproxy/live.map")}
    script.write_text(replaced("haproxy/switch.sh", own))
    script.chmod(0o755)
    return folder / "haproxy.cfg", script


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate for *name* and 127.0.0.1, and its key."""
    certificate, key = folder / "tls.pem", folder / "tls.key"
    subprocess.run(
        (
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate),
        ),
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key
