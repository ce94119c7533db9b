"""Dependencies are asked in their own protocol; a failure for both colors is not a no."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome, yes
from cutover.watch import dependency_inside
from cutover.watch.check import Source, at_once
from cutover.watch.dependencies import (
    DependencyAnswer,
    DependencyAnswers,
    DependencySource,
    alerts_check,
    dependency_checks,
    judge_dependency,
)

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
GOOD, SLOW, DOWN = (
    DependencyAnswer(2.0),
    DependencyAnswer(1500.0),
    DependencyAnswer(error="Connection refused"),
)
NEARLY = DependencyAnswer(1000.2)
UNSET = DependencyAnswer(why_not="DATABASE_URL is not set in the container")


@pytest.mark.parametrize(
    ("streak", "live", "old", "outcome", "reason"),
    [
        (0, GOOD, None, YES, "2 ms"),
        (0, GOOD, DependencyAnswer(3.0), YES, "2 ms, 3 ms from the old color"),
        (0, GOOD, DOWN, YES, "2 ms, Connection refused from the old color"),
        (1, DOWN, GOOD, NOT_ASKED, "Connection refused, once; 2 in a row are a no"),
        (2, DOWN, GOOD, NO, "expected an answer within 1000 ms, got Connection refused, 2 ms from the old color"),
        (2, DOWN, None, NO, "expected an answer within 1000 ms, got Connection refused"),
        (9, DOWN, DOWN, NOT_ASKED, "fails for both colors: Connection refused: not this release"),
        (9, SLOW, SLOW, NOT_ASKED, "reported: dependency db fails for both colors: 1500 ms: not this release"),
        (2, SLOW, GOOD, NO, "expected an answer within 1000 ms, got 1500 ms, 2 ms from the old color"),
        (2, NEARLY, GOOD, NO, "expected an answer within 1000 ms, got 1001 ms, 2 ms from the old color"),
        (2, DOWN, NEARLY, NOT_ASKED, "fails for both colors: Connection refused"),
        (2, DOWN, UNSET, NO, "got Connection refused, DATABASE_URL is not set in the container from the old color"),
        (0, UNSET, GOOD, NOT_ASKED, "DATABASE_URL is not set in the container"),
        (0, None, GOOD, NOT_ASKED, "the container does not run"),
    ],
)  # fmt: skip
def test_dependency(
    streak: int, live: DependencyAnswer | None, old: DependencyAnswer | None, outcome: Outcome, reason: str
) -> None:
    """Two bad answers in a row for the live color alone are a no."""
    verdict = judge_dependency("db", streak, live, old, 1.0)
    assert (verdict.question, verdict.outcome) == ("dependency db", outcome)
    assert reason in verdict.reason


def asking(
    live: list[DependencyAnswers | Exception | None], old: DependencyAnswers | None = None
) -> DependencySource:
    """A source whose live color gives the answers *live* one after the other."""
    rest = list(live)

    def ask() -> DependencyAnswers | None:
        answer = rest.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return DependencySource(ask, (lambda: old) if old else None, 1.0, Evidence(), start=at_once)


def test_streaks_and_silence() -> None:
    """Bad answers in a row are counted for each dependency; a silent engine is unknown."""
    source = asking(
        [
            {"db": DOWN, "cache": GOOD},
            {"db": DOWN, "cache": GOOD},
            {"db": GOOD, "cache": GOOD},
            EngineUnavailable("mute"),
        ]
    )
    db, cache = dependency_checks(("db", "cache"), source)
    outcomes = [(db.verdict().outcome, cache.verdict().outcome)]
    for now in range(4):
        for check in (db, cache):
            check.poll(float(now))
        outcomes.append((db.verdict().outcome, cache.verdict().outcome))
    assert outcomes == [(NOT_ASKED, NOT_ASKED), (NOT_ASKED, YES), (NO, YES), (YES, YES), (UNKNOWN, UNKNOWN)]
    assert (db.source.polls, db.name) == (4, "dependency db")


@pytest.mark.parametrize(
    ("before", "now", "excuse", "excuse_of_times"),
    [
        (GOOD, GOOD, "", ""),
        (GOOD, DOWN, "Connection refused", "Connection refused"),
        (GOOD, SLOW, "", "1500 ms"),
        (SLOW, SLOW, "", ""),
        (SLOW, DOWN, "Connection refused", "Connection refused"),
        (DOWN, DOWN, "", ""),
        (DOWN, SLOW, "", ""),
        (GOOD, UNSET, "", ""),
        (None, DOWN, "Connection refused", "Connection refused"),
        (GOOD, None, "", ""),
    ],
)
def test_the_trouble_of_the_old_color(
    before: DependencyAnswer | None, now: DependencyAnswer | None, excuse: str, excuse_of_times: str
) -> None:
    """The text names the dependency that fails for the old color since the switch, or is slow if that counts."""
    answers: list[DependencyAnswers | None] = [
        None if before is None else {"db": GOOD, "ai": before},
        *2 * [None if now is None else {"db": GOOD, "ai": now}],
    ]
    source = DependencySource(lambda: None, lambda: answers.pop(0), 1.0, Evidence(), start=at_once)
    assert source.before == ({"db": GOOD, "ai": before} if before else {})
    for slow, text in ((False, excuse), (True, excuse_of_times)):
        expected = f"dependency ai fails for the old color too ({text})" if text else ""
        assert source.trouble_of_old(slow=slow) == expected


def test_without_an_old_color_no_dependency_is_in_trouble() -> None:
    """Nobody is asked then."""
    assert asking([]).trouble_of_old(slow=True) == ""


@contextmanager
def server(*answers: bytes) -> Iterator[int]:
    """The port of a server that sends one of *answers* for each message, then closes the connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(60)
            for answer in answers:
                self.request.recv(4096)
                self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


STARTING = b"E\x00\x00\x00\x40SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"


@pytest.mark.parametrize(
    ("kind", "url", "answers", "said"),
    [
        ("tcp", "tcp://127.0.0.1:{}", (b"",), None),
        ("postgres", "postgresql+psycopg://u:p@127.0.0.1:{}/recall", (b"N", b"R\x00\x00\x00\x17"), None),
        (
            "postgres",
            "postgresql://127.0.0.1:{}/recall",
            (b"N", STARTING),
            "the database system is starting up",
        ),
        (
            "postgres",
            "postgresql://127.0.0.1:{}/recall",
            (b"H",),
            "not PostgreSQL: it answered an SSLRequest with b'H'",
        ),
        (
            "postgres",
            "postgresql://127.0.0.1:{}/recall",
            (b"",),
            "it closed the connection without an answer",
        ),
        (
            "postgres",
            "postgresql://127.0.0.1:{}/recall",
            (b"N", b""),
            "it closed the connection without an answer",
        ),
        (
            "postgres",
            "postgresql://127.0.0.1:{}/recall",
            (b"Ecould not fork new process\n\x00",),
            "could not fork new process",
        ),
        ("redis", "redis://127.0.0.1:{}/0", (b"",), "it closed the connection without an answer"),
        ("redis", "redis://127.0.0.1:{}/0", (b"+PONG\r\n",), None),
        ("redis", "redis://127.0.0.1:{}/0", (b"-NOAUTH Authentication required.\r\n",), None),
        ("redis", "redis://127.0.0.1:{}/0", (b"-LOADING Redis is loading\r\n",), "LOADING Redis is loading"),
        ("http", "http://127.0.0.1:{}/v1", (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), None),
        ("http", "http://127.0.0.1:{}", (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",), None),
        ("http", "http://127.0.0.1:{}", (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",), "status 503"),
        ("http", "http://127.0.0.1:{}", (b"",), "RemoteDisconnected"),
        ("http", "http://127.0.0.1:{}", (b"+OK\r\n\r\n",), "not HTTP: BadStatusLine"),
        ("http", "http://127.0.0.1:{}/@ana", (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), None),
    ],
)
def test_each_protocol_is_spoken(kind: str, url: str, answers: tuple[bytes, ...], said: str | None) -> None:
    """A correct reply is an answer; an error reply or another protocol is an error with its text."""
    with server(*answers) as port:
        found = dependency_inside.ask_one({"name": "x", "kind": kind, "url": url.format(port), "path": ""})
    assert found.get("error") == said
    assert ("ms" in found) is (said is None)


def test_no_answer_says_why_and_tells_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection, an unknown host and an unset variable have different texts, none with a password."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("DATABASE_URL", f"postgresql://u:hunter22@127.0.0.1:{port}/recall")
        monkeypatch.delenv("REDIS_URL", raising=False)
        wanted: list[dict[str, Any]] = [
            {"name": "db", "kind": "postgres", "url_key": "DATABASE_URL"},
            {"name": "cache", "kind": "redis", "url_key": "REDIS_URL"},
            {"name": "ai", "kind": "http", "url": "http://no-such-host.invalid:80"},
        ]
        found = dependency_inside.ask_all(wanted)
    assert found == {
        "db": {"error": "Connection refused"},
        "cache": {"why_not": "REDIS_URL is not set in the container"},
        "ai": {"error": "its host name is not known here"},
    }


@pytest.mark.parametrize(
    ("kind", "url", "lacking"),
    [
        ("tcp", "tcp://cache", "port"),
        ("tcp", "tcp://cache:0", "port"),
        ("tcp", "tcp://:6379", "host"),
        ("postgres", "postgresql:///recall?host=/run/postgresql", "host"),
    ],
)
def test_a_url_that_leads_nowhere_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, kind: str, url: str, lacking: str
) -> None:
    """A TCP service has no usual port, and a URL without a host no TCP service: nobody is asked, and none fails."""
    monkeypatch.setenv("THE_URL", url)
    found = dependency_inside.ask_one({"name": "x", "kind": kind, "url_key": "THE_URL"})
    assert found == {"why_not": f"the URL in THE_URL names no {lacking}"}


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("postgres", "postgresql://app:ab#cd@db:5432/x"),
        ("postgres", "postgresql://app:12#cd@db:5432/x"),
        ("postgres", "postgresql://app:p/w@db:5432/x"),
        ("postgres", "postgresql://app:1/w@db:5432/x"),
        ("postgres", "postgresql://app:1?w@db:5432/x"),
        ("postgres", "postgresql://h1:5432,h2:5432/x"),
        ("postgres", "postgresql://app:pw@h1,h2:5432/x"),
        ("postgres", "postgresql://h1,h2/x"),
        ("postgres", "postgresql://[::1/x"),
        ("redis", "redis://h1:6379,h2:6379/0"),
        ("redis", "redis://:p#w@cache:6379/0"),
        ("redis", "redis://cache:99999/0"),
        ("tcp", "tcp://a..b:80"),
        ("tcp", f"tcp://{'a' * 70}:80"),
        ("http", "http://ai:port/"),
        ("http", "http://127.0.0.1:9/a b"),
    ],
)
def test_a_url_that_only_the_service_can_read_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, kind: str, url: str
) -> None:
    """A driver may accept it: nobody is asked, so neither color has a dependency that fails."""
    monkeypatch.setenv("THE_URL", url)
    found = dependency_inside.ask_one({"name": "x", "kind": kind, "url_key": "THE_URL"})
    assert found == {"why_not": "the URL in THE_URL cannot be read"}


def test_the_alerts_keep_the_last_answer() -> None:
    """Not asked before the first answer and after a reset."""
    check = alerts_check(Source(lambda: yes("alerts", "fine"), start=at_once))
    assert check.verdict().outcome is NOT_ASKED
    check.poll(0.0)
    assert (check.verdict().outcome, check.source.polls) == (YES, 1)
    check.reset()
    assert check.verdict().outcome is NOT_ASKED
