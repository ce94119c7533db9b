"""The shipped configurations of the proxies, with the ports and folders of a test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.proxies.servers import REPOSITORY

PROXY = REPOSITORY / "deploy" / "proxy"


def replaced(name: str, words: dict[str, str]) -> str:
    """The text of a shipped file; each of *words* must be there: a test never tests something else."""
    text = (PROXY / name).read_text(encoding="utf-8")
    for word, other in words.items():
        assert word in text, f"{name} has no {word!r}"
        text = text.replace(word, other)
    return text


def nginx(  # the parts that the comments of the file call "yours"
    folder: Path, ports: dict[str, int], port: int, marker: Path, *, tls: tuple[Path, Path] | None = None
) -> Path:
    """nginx's files in *folder*, to be run by whoever runs the test; the path of its main file."""
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
    (folder / "tmp").mkdir(exist_ok=True)
    temporary = "".join(
        f"    {kind}_temp_path {folder}/tmp/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # a folder of a test is closed to www-data
    main = replaced(
        "nginx/nginx.conf",
        {
            "pid /run/nginx.pid;": f"{user}pid {folder}/nginx.pid;",
            "    include cutover.conf;\n": f"{temporary}    include cutover.conf;\n",
        },
    )
    (folder / "nginx.conf").write_text(main)
    return folder / "nginx.conf"


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for *name* and 127.0.0.1 that trusts itself, and its key."""
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
