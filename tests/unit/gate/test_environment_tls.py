"""The certificate that the proxy really shows is judged, also one that nobody would accept."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.core.verdict import Outcome
from cutover.gate.environment_checks import DAY_S, certificate_end, judge_tls, tls
from tests.helpers.proxy_files import certificate

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("days", "trouble", "outcome", "reason"),
    [
        (90, "", YES, "90 days left (until 2024-02-12)"),
        (14, "", YES, "14 days left (until 2023-11-28)"),
        (13, "", NO, "expected at least 14 days left, got 13 days left (until 2023-11-27)"),
        (13.6, "", NO, "expected at least 14 days left, got 13 days left (until 2023-11-28)"),
        (14.4, "", YES, "14 days left (until 2023-11-29)"),
        (-1, "certificate has expired", NO, "the certificate has expired on 2023-11-13"),
        (90, "self-signed certificate", NO, "clients refuse the certificate: self-signed certificate"),
    ],
)
def test_days_left(days: float, trouble: str, outcome: Outcome, reason: str) -> None:
    """Expired, refused and soon to expire are a no each, and each says which."""
    verdict = judge_tls(NOW + days * DAY_S, NOW, 14, trouble)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@contextmanager
def server(folder: Path) -> Iterator[tuple[int, Path]]:
    """A TLS server with a certificate for two days; its port and the certificate."""
    public, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as one:
                    one.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], public
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def settings(url: str, **proxy: Any) -> Settings:
    """Settings with that proxy."""
    return Settings.model_validate(
        {
            "project": "p",
            "colors": {"blue": {"env_file": ".env"}},
            "proxy": {"driver": "nginx", "url": url, **proxy},
            "slo": {"tls_min_days": 1},
        }
    )


def test_the_shown_certificate_is_asked(tmp_path: Path) -> None:
    """With its own authority it is trusted, without it refused, and an outside name may be left unverified."""
    with server(tmp_path) as (port, public):
        url = f"https://127.0.0.1:{port}"
        assert certificate_end(ssl.get_server_certificate(("127.0.0.1", port))) == pytest.approx(
            time.time() + 2 * DAY_S, abs=3600
        )
        trusted = tls(settings(url, tls_verify=str(public)))
        assert (trusted.outcome, trusted.seen) == (YES, "2 days left")
        refused = tls(settings(url))
        assert refused.outcome is NO
        assert "self-signed certificate" in refused.reason
        assert tls(settings(url, tls_verify=False)).outcome is YES
        later = tls(settings(url, tls_verify=str(public)), clock=lambda: time.time() + 1.5 * DAY_S)
        assert later.outcome is NO


def test_no_certificate_to_be_seen() -> None:
    """Nobody there is unknown, and a proxy without TLS is not asked."""
    assert tls(settings("https://127.0.0.1:9")).outcome is UNKNOWN
    assert tls(settings("http://127.0.0.1:9")).outcome is NOT_ASKED
