"""The proxy's certificate: how long it is still good, and whether its clients trust it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cutover.core.config import Settings
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes

DAY_S = 86400.0
DEADLINE_S = 5.0
SEQUENCE, CONTEXT_0 = 0x30, 0xA0
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18


def tls(settings: Settings, clock: Callable[[], float] = time.time) -> Verdict:
    """Fetch the proxy's certificate and judge the days that are left of it."""
    url = urlsplit(settings.proxy.url) if settings.proxy else urlsplit("")
    if url.scheme != "https" or settings.proxy is None:
        return not_asked("tls", "the proxy's url is not https")
    host, port, verify = url.hostname or "", url.port or 443, settings.proxy.verify
    try:
        certificate = fetched(host, port)
        trouble = distrust(host, port, verify) if verify is not False else ""
    except OSError as error:
        return unknown("tls", f"{host}:{port} shows no certificate: {error}", expected="a certificate")
    return judge_tls(ends(certificate), clock(), settings.slo.tls_days, trouble)


def fetched(host: str, port: int) -> bytes:
    """The certificate that the server shows to anybody, in DER; raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # an expired one is what we look for
    with (
        socket.create_connection((host, port), DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as server,
    ):
        return server.getpeercert(binary_form=True) or b""


def distrust(host: str, port: int, verify: str | bool) -> str:
    """Why a client that verifies would refuse; empty when it would not. Raises OSError."""
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    try:
        with (
            socket.create_connection((host, port), DEADLINE_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def judge_tls(until: float, now: float, least_days: float, trouble: str) -> Verdict:
    """No when a client refuses the certificate, or fewer than *least_days* are left of it."""
    days = (until - now) / DAY_S
    end = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
    expected, seen = f"at least {least_days:g} days left", f"{days:.0f} days left"
    if days <= 0:
        return no("tls", f"the certificate has expired on {end}", expected=expected, seen=seen)
    if trouble:
        return no("tls", f"clients refuse the certificate: {trouble}", expected="a trusted one", seen=trouble)
    if days < least_days:
        return no("tls", f"expected {expected}, got {seen} (until {end})", expected=expected, seen=seen)
    return yes("tls", f"{seen} (until {end})", expected=expected, seen=seen)


def ends(certificate: bytes) -> float:
    """The moment (epoch) after which a DER certificate is no longer valid.

    The standard library reads this only from certificates that it trusts, and one that it does not trust any
    more is the one to look at.
    """
    _tag, body = next(_items(certificate))
    _tag, signed = next(_items(body))
    fields = [value for tag, value in _items(signed) if tag != CONTEXT_0]  # the version may be left out
    _begin, (tag, text) = list(_items(fields[3]))  # serial, algorithm, issuer, validity
    form = "%y%m%d%H%M%SZ" if tag == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode(), form).replace(tzinfo=UTC).timestamp()


def _items(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element in a row."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        yield tag, der[at : at + length]
        at += length
