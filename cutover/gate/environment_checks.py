"""Checks of what both colors share: disk space and inodes, and the proxy's certificate."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from cutover.core.config import Settings
from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.system import docker, process
from cutover.system.http import TlsVerify, tls_context

GIGABYTE = 1e9
DAY_S = 86400.0
TLS_DEADLINE_S = 5.0


# --- disk ---
@dataclass(frozen=True, slots=True)
class DiskRoom:
    """Free and total bytes and inodes of the file system of `path`; 0 `inodes`: it does not count them."""

    path: Path
    device: int
    free: int
    size: int
    inodes_free: int
    inodes: int


def disk_room(path: Path) -> DiskRoom:
    """The room where *path* is or will be created; raises OSError."""
    there = next(each for each in (path, *path.parents) if each.exists())
    found = os.statvfs(there)
    return DiskRoom(
        path, there.stat().st_dev, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize,
        found.f_favail, found.f_files,
    )  # fmt: skip


def disk(settings: Settings, engine_root: Callable[[], Path] = docker.data_root) -> list[Verdict]:
    """One verdict for each file system that a release writes to: state, reports and the engine's data."""
    verdicts, devices, paths = list[Verdict](), set[int](), [settings.state, settings.reports]
    try:
        root = engine_root()
        if root.is_dir():
            paths.append(root)
        else:
            reason = f"{root}, where the engine keeps its data, cannot be seen here"
            verdicts.append(not_asked("disk", reason))
    except EngineUnavailable as error:
        verdicts.append(unknown("disk", str(error)))
    for path in paths:
        try:
            room = disk_room(path)
        except OSError as error:
            verdicts.append(unknown("disk", f"{path}: {error.strerror}"))
            continue
        if room.device not in devices:
            devices.add(room.device)
            verdicts.append(judge_disk(room, settings.slo.disk_free))
    return verdicts


def judge_disk(room: DiskRoom, least: float) -> Verdict:
    """No if less than the share *least* of the space, or of the inodes, is free."""
    share = room.free / room.size if room.size else 0.0
    inodes = room.inodes_free / room.inodes if room.inodes else 1.0
    free = f"{share:.0%} ({room.free / GIGABYTE:.1f} of {room.size / GIGABYTE:.0f} GB)"
    expected = f"{least:.0%} free"
    evidence = {"path": str(room.path), "free_bytes": room.free, "inodes_free": room.inodes_free}
    if share < least:
        reason = f"{room.path}: expected {expected}, got {free}"
        return no("disk", reason, expected=expected, seen=free, **evidence)
    if inodes < least:
        reason = f"{room.path}: expected {least:.0%} of the inodes free, got {inodes:.0%}"
        return no("disk", reason, expected=expected, seen=f"{inodes:.0%} of inodes", **evidence)
    return yes("disk", f"{room.path}: {free} free", expected=expected, seen=free, **evidence)


def most_serious(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that a person must read first."""
    return min(verdicts, key=lambda each: each.rank)


# --- certificate ---
def tls(settings: Settings, clock: Callable[[], float] = time.time) -> Verdict:
    """Fetch the proxy's certificate and judge how many days it is still valid, and whether clients trust it."""
    url = urlsplit(settings.proxy.url) if settings.proxy else urlsplit("")
    if url.scheme != "https" or settings.proxy is None:
        return not_asked("tls", "the proxy's url is not https")
    name, port, verify = url.hostname or "", url.port or 443, settings.proxy.tls_verify
    try:
        # Unlike a verifying client it gets an expired certificate too.
        end = certificate_end(ssl.get_server_certificate((name, port), timeout=TLS_DEADLINE_S))
        refusal = trust_problem(name, port, verify) if verify is not False else ""
    except OSError as error:
        return unknown("tls", f"{name}:{port} shows no certificate: {error}", expected="a certificate")
    return judge_tls(end, clock(), settings.slo.tls_min_days, refusal)


def certificate_end(pem: str) -> float:
    """The end of a certificate's validity (epoch); raises OSError if openssl cannot read it."""
    # The standard library reads the dates of trusted certificates only, and an expired one is not trusted.
    argv = ("openssl", "x509", "-noout", "-enddate")
    done = process.run(argv, deadline_s=TLS_DEADLINE_S, stdin=pem.encode())
    if not done.ok:
        raise OSError(done.last_line)
    return float(ssl.cert_time_to_seconds(done.out.strip().partition("=")[2]))


def trust_problem(name: str, port: int, verify: TlsVerify) -> str:
    """Why a client that verifies refuses the certificate; empty if it accepts it. Raises OSError."""
    try:
        with socket.create_connection((name, port), TLS_DEADLINE_S) as plain:
            tls_context(verify).wrap_socket(plain, server_hostname=name).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


def judge_tls(until: float, now: float, least_days: float, refusal: str) -> Verdict:
    """No if clients refuse the certificate (*refusal*), or if it is valid for fewer than *least_days*."""
    days = (until - now) / DAY_S
    end = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
    expected, seen = f"at least {least_days:g} days left", f"{days:.0f} days left"
    if days <= 0:
        return no("tls", f"the certificate has expired on {end}", expected=expected, seen=seen)
    if refusal:
        reason = f"clients refuse the certificate: {refusal}"
        return no("tls", reason, expected="a trusted one", seen=refusal)
    if days < least_days:
        reason = f"expected {expected}, got {seen} (until {end})"
        return no("tls", reason, expected=expected, seen=seen)
    return yes("tls", f"{seen} (until {end})", expected=expected, seen=seen)
