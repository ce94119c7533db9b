from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cutover.core.masking import MASK
from cutover.core.verdict import no, yes
from cutover.evidence import Evidence, load_evidence
from cutover.report.facts import result_of
from cutover.report.page import MOST_BYTES, finish_page, page_title, render_page
from tests.report.endings import RELEASED, TAKEN_BACK
from tests.report.sessions import Session, good, taken_back, undo_failed

EVIL = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\x1b[31m\x00"
LOADS = {"src", "srcset", "data", "action", "formaction", "poster", "background", "ping"}


class Elements(HTMLParser):
    """Collects what a browser would make of a page: elements with their attributes, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page_of(session: Session) -> str:
    """The page of a session that stands alone."""
    return render_page(session.evidence, session.result, session.undo, list(session.journal))


@pytest.mark.parametrize("session", [good, taken_back, undo_failed])
def test_the_page_loads_nothing(session: Callable[[], Session]) -> None:
    """A report is one file: no element asks for another, and its policy forbids it too."""
    page = page_of(session())
    for tag, attributes in Elements(page).found:
        assert not LOADS & set(attributes), (tag, attributes)
        assert attributes.get("href", "data:,") == "data:,"
        assert tag not in {"iframe", "object", "embed", "base", "form"}
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://127", "")


def test_the_first_screen_answers_before_it_explains() -> None:
    """Verdict, from and to, who and when, run of show, proof, what failed, checks, charts, undo, journal: in order."""
    page = page_of(taken_back())
    order = ["TAKEN BACK", "Users saw 31 failed requests", 'class="fromto"', "ana@runner-7</dd>", 'id="show"']
    order += [
        'id="proof"',
        'id="failed"',
        'id="checks"',
        'id="sides"',
        'id="watch"',
        'id="undo"',
        'id="journal"',
    ]
    order += ['id="versions"']
    main = page[page.index("<main") :]
    places = [main.index(each) for each in order]
    assert places == sorted(places)


def test_times_are_local_beside_utc() -> None:
    """A reader in Tokyo and one in a CI log find the same moment."""
    assert "2025-09-04 09:50:00 JST (00:50:00 UTC)" in page_of(good())


def test_what_failed_shows_expected_and_seen() -> None:
    """A failed check stands open with what was expected, what was seen, and its evidence."""
    page = page_of(taken_back())
    part = page[page.index('id="failed"') : page.index('id="checks"')]
    for said in ("at most 1 %", "31 of 642", "no such column: memories.kind", '<details class="bad no" open'):
        assert said in part


def test_before_and_after_are_told_apart_by_test() -> None:
    """The same test before and after the switch shares a row, and one that changed its answer is marked."""
    page = page_of(taken_back())
    part = page[page.index('id="sides"') : page.index('id="watch"')]
    assert "before the switch: green" in part
    assert "after: live" in part
    assert part.count('class="differs"') == 1
    assert "6 of 7 checks answered the same" in part


def _evil(evidence: Evidence) -> None:
    for key in ("project", "target", "who", "command", "release"):
        evidence.fact(key, EVIL)
    for key in ("from", "to"):
        evidence.fact(key, {"colour": EVIL, "tag": EVIL, "digest": EVIL})
    evidence.fact("versions", {EVIL: EVIL})
    evidence.fact("logs", {EVIL: EVIL})
    evidence.fact("not asked", [[EVIL, EVIL]])
    evidence.fact("proof", {"timeline": [[0, 3, 1, 1]], "to": EVIL, "requests": 4})
    evidence.step(EVIL, EVIL, EVIL, 1.0, EVIL)
    for stage in (0, 1):
        verdict = no(EVIL, EVIL, expected=EVIL, seen=EVIL, **{EVIL: EVIL, "deep": {EVIL: [EVIL]}})
        evidence.check(f"smoke/test_x.py::test[{EVIL}]", EVIL, stage, verdict, 0.1)
    evidence.sample(f"{EVIL} seconds", EVIL, 1.0)
    evidence.sample(f"{EVIL} seconds", EVIL, 2.0)


def test_nothing_that_a_service_says_becomes_markup() -> None:
    """Whatever bodies, log lines, node ids, tags or colours contain is shown as text."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    _evil(evidence)
    page = render_page(evidence, TAKEN_BACK, EVIL, [{"at": EVIL, "event": EVIL, EVIL: {EVIL: EVIL}}])
    elements = Elements(page).found
    assert [tag for tag, _attributes in elements].count("script") == 1
    assert not any(tag == "img" or any(name.startswith("on") for name in names) for tag, names in elements)
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert "\x00" not in page


def test_secrets_are_stars_in_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value from an env file is in no part of the page, whoever said it."""
    secret = 'p"a&ss<word>'
    monkeypatch.setattr(MASK, "values", set())
    evidence = Evidence(clock=lambda: 1756947000.0)
    evidence.fact("command", f"pytest --x={secret}")
    evidence.fact("logs", {"green": f"connecting with {secret}"})
    evidence.check("t", "green", 0, no("db", f"refused {secret}", seen=secret, body=[secret]), 0.1)
    evidence.step("T-0", "switch", f"with {secret} and postgres://u:{secret}@db/x", 0.1)
    MASK.learn([secret])
    page = render_page(evidence, TAKEN_BACK, f"echo {secret}", [{"event": "do", "text": secret}])
    for shown in (secret, "p&quot;a&amp;ss", "p&#34;a&amp;ss", 'p\\"a&amp;ss'):
        assert shown not in page
    assert "***" in page


@pytest.mark.parametrize(
    "others", ["", "<html>by somebody else</html>", '<body><p data-jsonblob="{"></p></body>']
)
def test_without_pytests_page_ours_stands_alone(others: str, tmp_path: Path) -> None:
    """Where pytest-html wrote nothing, or nothing that can be made safe, the report is ours alone."""
    file = tmp_path / "report.html"
    file.write_text(others, encoding="utf-8")
    made = taken_back()
    finish_page(file, made.evidence, made.result, made.undo, list(made.journal))
    assert file.read_text(encoding="utf-8") == page_of(made)
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_page_of_a_flood_stays_small_and_says_what_is_missing() -> None:
    """Whatever a service logs, the report stays below 3 MB and says that it was shortened."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    for number in range(3000):
        verdict = (no if number % 10 == 0 else yes)("q", "r" * 500, body="b" * 20_000)
        evidence.check(f"smoke/test_x.py::test[{number}]", "green", 0, verdict, 0.1)
        evidence.sample("p95 seconds", "green", float(number))
    page = render_page(evidence, TAKEN_BACK, "x" * 10**6, [{"event": "e", "text": "y" * 5000}] * 5000)
    assert len(page.encode()) <= MOST_BYTES
    for said in (
        "letters left out",
        "more check",
        "older entries left out",
        "was shortened to stay below 3 MB",
    ):
        assert said in page


@pytest.mark.parametrize("session", [good, taken_back, undo_failed])
def test_the_same_page_comes_from_the_files(session: Callable[..., Session], tmp_path: Path) -> None:
    """What a session left in its folder makes the very page that it would have made itself."""
    made = session(tmp_path / "evidence.jsonl")
    again = load_evidence(tmp_path / "evidence.jsonl")
    assert again.lost == 0
    assert result_of(again) == made.result
    assert render_page(again, result_of(again), made.undo, list(made.journal)) == page_of(made)


def test_a_session_that_died_claims_nothing(tmp_path: Path) -> None:
    """From a file cut in the middle of a line: what was seen last, and that nobody said how it ended."""
    good(tmp_path / "evidence.jsonl")
    lines = (tmp_path / "evidence.jsonl").read_text(encoding="utf-8").splitlines()
    cut = [line for line in lines if '"result"' not in line]
    (tmp_path / "evidence.jsonl").write_text("\n".join([*cut, '{"kind": "step", "na']), encoding="utf-8")
    evidence = load_evidence(tmp_path / "evidence.jsonl")
    page = render_page(evidence, result_of(evidence))
    assert evidence.lost == 1
    assert "the session died before it could say how it ended" in page
    assert "its last step was retire blue" in page
    assert "RELEASED" not in page[: page.index('id="show"')]
    assert "1 line of the evidence could not be written or read" in page


def test_an_empty_session_still_makes_a_page() -> None:
    """A session that died before its first step has a report too."""
    page = render_page(Evidence(), result_of(Evidence()))
    assert "it left no step" in page
    assert page_title(Evidence(), RELEASED) == "RELEASED · recall"
