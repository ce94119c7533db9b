from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from cutover.core.evidence import Evidence, load_evidence
from cutover.core.masking import MASK
from cutover.core.result import Reason
from cutover.core.verdict import no, yes
from cutover.report.escape import TemplateCache
from cutover.report.facts import result_of
from cutover.report.page import MOST_BYTES, finish_page, page_title, render_page
from tests.unit.report.elements import LOADS, Elements
from tests.unit.report.endings import RELEASED, ROLLED_BACK
from tests.unit.report.sessions import Session, good, reverted, rollback_failed

EVIL = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\x1b[31m\x00"


def page_of(session: Session) -> str:
    """The page of a session, without pytest-html's table."""
    return render_page(session.evidence, session.result, session.undo, list(session.journal))


@pytest.mark.parametrize("session", [good, reverted, rollback_failed])
def test_the_page_loads_nothing(session: Callable[[], Session]) -> None:
    """No element of the page loads another file, and the content policy forbids it."""
    page = page_of(session())
    for tag, attributes in Elements(page).found:
        assert not LOADS & set(attributes), (tag, attributes)
        assert attributes.get("href", "data:,") == "data:,"
        assert tag not in {"iframe", "object", "embed", "base", "form"}
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://127", "")


def test_the_first_screen_answers_before_it_explains() -> None:
    """The parts of the page come in order of importance."""
    page = page_of(reverted())
    order = [
        "ROLLED BACK",
        "Users saw 31 failed requests",
        'class="fromto"',
        "ana@runner-7</dd>",
        'id="show"',
    ]
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
    """Times are shown in the team's zone with UTC beside it."""
    assert "2025-09-04 09:50:00 JST (00:50:00 UTC)" in page_of(good())


def test_what_failed_shows_expected_and_seen() -> None:
    """A failed check is expanded, with expected, seen and evidence."""
    page = page_of(reverted())
    part = page[page.index('id="failed"') : page.index('id="checks"')]
    for said in ("at most 1 %", "31 of 642", "no such column: memories.kind", '<details class="bad no" open'):
        assert said in part


def test_a_reason_refers_to_its_check_by_id() -> None:
    """A reason that stands for a recorded check names its id and is not listed again beside it."""
    made = reverted()
    (reason,) = made.result.reasons
    page = page_of(made)
    assert f"<small>#{reason.checks[0]}</small></li>" in page[page.index('class="todo"') :]
    assert "<ul>" not in page[page.index('id="failed"') : page.index('id="checks"')]
    other = replace(made.result, reasons=(Reason("", "no-go: ana"),))
    assert "<li> no-go: ana</li>" in render_page(made.evidence, other)


def test_before_and_after_are_told_apart_by_test() -> None:
    """The same check before and after the switch is one row; different outcomes are marked."""
    page = page_of(reverted())
    part = page[page.index('id="sides"') : page.index('id="watch"')]
    assert "before the switch: green" in part
    assert "after: live" in part
    assert part.count('class="differs"') == 1
    assert "6 of 7 checks answered the same" in part
    assert "test_ready" not in part  # the others are in the list of every check
    same = page_of(good())
    assert (
        "Each has the same outcome on both sides" in same[same.index('id="sides"') : same.index('id="watch"')]
    )


def test_a_test_is_one_row_with_all_its_verdicts() -> None:
    """A test that asked twice is one row and one check; the worst verdict is its outcome."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    for verdict in (yes("restarts", "none for 8 s"), no("unchanged", "started anew")):
        evidence.check("smoke/test_whole.py::test_no_restart[green]", "green", 0, verdict, 0.1)
    evidence.check("deploy::healthy", "green", 0, yes("healthy", "after 3.1 s"), 3.1)
    page = render_page(evidence, ROLLED_BACK)
    part = page[page.index('id="checks"') :]
    assert '<small class="note">1 failed</small>' in part
    assert part.count("<code>smoke/test_whole.py::test_no_restart[green]</code>") == 1
    assert "restarts: none for 8 s" in part
    assert "unchanged: started anew" in part
    assert ">step<" in part


def test_what_was_not_asked_is_listed_once() -> None:
    """What was not asked has a place of its own; a verdict that was only reported keeps its details there."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    evidence.check("smoke/test_ready.py::test_ready[green]", "green", 0, yes("ready", "status 200"), 0.1)
    reported = no("leak", "grows", slope="3 MB/h").reported("[checks] report_only")
    evidence.check("checks/test_watch.py::test_stays_well[leak-live]", "live", 2, reported, 0.1)
    evidence.fact(
        "not asked", [["smoke/test_version.py::test_version[green]", "cutover.toml has no version"]]
    )
    page = render_page(evidence, RELEASED)
    checks = page[page.index('id="checks"') : page.index('id="not-asked"')]
    unasked = page[page.index('id="not-asked"') :]
    assert "1 passed, 2 not asked" in checks
    assert "leak" not in checks
    assert "2 checks" in unasked
    assert "3 MB/h" in unasked
    assert unasked.count("test_stays_well[leak-live]") == 1


@pytest.mark.parametrize(("session", "expanded"), [(good, False), (reverted, True), (rollback_failed, True)])
def test_the_undo_is_expanded_where_it_was_run(session: Callable[[], Session], *, expanded: bool) -> None:
    """A good release did not need its undo script."""
    assert ('<details class="paper" open><summary>undo.sh' in page_of(session())) is expanded


def _evil(evidence: Evidence) -> None:
    for key in ("project", "target", "who", "command", "release"):
        evidence.fact(key, EVIL)
    for key in ("from", "to"):
        evidence.fact(key, {"color": EVIL, "tag": EVIL, "digest": EVIL})
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
    """Whatever bodies, log lines, node ids, tags or colors contain is shown as text."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    _evil(evidence)
    page = render_page(evidence, ROLLED_BACK, EVIL, [{"at": EVIL, "event": EVIL, EVIL: {EVIL: EVIL}}])
    elements = Elements(page).found
    assert [tag for tag, _attributes in elements].count("script") == 1
    assert not any(tag == "img" or any(name.startswith("on") for name in names) for tag, names in elements)
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert "\x00" not in page


def test_secrets_are_stars_in_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known secrets are masked in every part of the page."""
    secret = 'p"a&ss<word>'
    monkeypatch.setattr(MASK, "values", set())
    evidence = Evidence(clock=lambda: 1756947000.0)
    evidence.fact("command", f"pytest --x={secret}")
    evidence.fact("logs", {"green": f"connecting with {secret}"})
    evidence.check("t", "green", 0, no("db", f"refused {secret}", seen=secret, body=[secret]), 0.1)
    evidence.step("T-0", "switch", f"with {secret} and postgres://u:{secret}@db/x", 0.1)
    MASK.learn([secret])
    page = render_page(evidence, ROLLED_BACK, f"echo {secret}", [{"event": "do", "text": secret}])
    for shown in (secret, "p&quot;a&amp;ss", "p&#34;a&amp;ss", 'p\\"a&amp;ss'):
        assert shown not in page
    assert "***" in page


@pytest.mark.parametrize(
    "others", ["", "<html>by somebody else</html>", '<body><p data-jsonblob="{"></p></body>']
)
def test_without_pytests_page_ours_stands_alone(others: str, tmp_path: Path) -> None:
    """Without a valid page of pytest-html the report has our part only."""
    file = tmp_path / "report.html"
    file.write_text(others, encoding="utf-8")
    made = reverted()
    finish_page(file, made.evidence, made.result, made.undo, list(made.journal))
    assert file.read_text(encoding="utf-8") == page_of(made)
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_page_of_a_flood_stays_small_and_says_what_is_missing() -> None:
    """The report stays below 3 MB and says what was left out."""
    evidence = Evidence(clock=lambda: 1756947000.0)
    for number in range(3000):
        verdict = (no if number % 10 == 0 else yes)("q", "r" * 500, body="b" * 20_000)
        evidence.check(f"smoke/test_x.py::test[{number}]", "green", 0, verdict, 0.1)
        evidence.sample("p95 seconds", "green", float(number))
    page = render_page(evidence, ROLLED_BACK, "x" * 10**6, [{"event": "e", "text": "y" * 5000}] * 5000)
    assert len(page.encode()) <= MOST_BYTES
    for said in (
        "letters left out",
        "more check",
        "older entries left out",
        "was shortened to stay below 3 MB",
    ):
        assert said in page


@pytest.mark.parametrize("session", [good, reverted, rollback_failed])
def test_the_same_page_comes_from_the_files(session: Callable[..., Session], tmp_path: Path) -> None:
    """The page made from the files equals the page made by the session."""
    made = session(tmp_path / "evidence.jsonl")
    again = load_evidence(tmp_path / "evidence.jsonl")
    assert again.lost == 0
    assert result_of(again) == made.result
    assert render_page(again, result_of(again), made.undo, list(made.journal)) == page_of(made)


def test_a_session_that_died_claims_nothing(tmp_path: Path) -> None:
    """From a truncated file: the last step, and that the session died."""
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
    """Empty evidence gives a page."""
    page = render_page(Evidence(), result_of(Evidence()))
    assert "it left no step" in page
    assert page_title(Evidence(), RELEASED) == "RELEASED · recall"


@pytest.mark.parametrize(
    ("folder", "forbidden", "kept"), [(".", False, 1), (".", True, 0), ("none", False, 0)]
)
def test_the_compiled_template_is_kept_where_python_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, *, forbidden: bool, kept: int
) -> None:
    """A folder that cannot be written and PYTHONDONTWRITEBYTECODE cost time, and no report."""
    monkeypatch.setattr("sys.dont_write_bytecode", forbidden)
    cache = TemplateCache(str(tmp_path / folder), "%s.report")
    for _ in range(2):
        environment = Environment(
            loader=DictLoader({"page": "{{ 1 + 1 }}"}), bytecode_cache=cache, autoescape=True
        )
        assert environment.get_template("page").render() == "2"
    assert len(list(tmp_path.iterdir())) == kept
