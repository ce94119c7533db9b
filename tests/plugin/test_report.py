from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cutover.core.evidence import load_evidence
from tests.plugin.project import Project

SECRET = 'canary"&<7f3a>'
WAYS = """\
    environment: {DB_PASSWORD: "${DB_PASSWORD:-}", API_TOKEN: leak-literal-91, SITE_NAME: nginx}
    env_file: [service.env]
    command: [serve, --auth-token, leak-command-92, --redis=redis://:leak-dsn-99@cache/0]
    labels: {"acme.token": leak-label-93}
    healthcheck: {test: [CMD, check, --password=leak-health-94]}
    volumes: ["./mounted.conf:/etc/app.conf:ro"]
    secrets: [one]
    configs: [two]
  worker:
    image: none/worker:1
    environment: {QUEUE_PASSWORD: leak-worker-95}
secrets:
  one: {file: ./secret.txt}
configs:
  two: {content: "password = leak-config-96"}
"""
MOUNTED = {
    "service.env": "SESSION_SECRET=leak-env-file-97\n",
    "secret.txt": "leak-secret-98\n",
    "mounted.conf": "api_key: leak-mounted-90\n",
}
LEAKED = sorted(set(re.findall(r"leak-[a-z-]+-\d\d", WAYS + str(MOUNTED))))
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: base64.b64encode(f"ana:{text}".encode()).decode(),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: text.encode().hex(),
)
SPELLED = {spell(each) for each in LEAKED for spell in SPELLINGS}
LEAKING = f"""
import pytest
from cutover.core.verdict import no


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>"])
def test_leaks(target, name):
    print({SECRET!r})
    assert name == {SECRET!r}


def test_answers_wrongly(target, assert_verdict):
    assert_verdict(no("database", "refused " + {SECRET!r}, seen={SECRET!r}, body={{"dsn": {SECRET!r}}}))


def test_says_all(target, assert_verdict):
    said = {sorted(SPELLED)!r}
    print(said)
    assert_verdict(no("said", "nginx said " + " ".join(said), seen=" ".join(said), body=said))


def test_says_all_by_itself(target):
    print({sorted(SPELLED)!r})
    pytest.fail("site nginx " + " ".join({sorted(SPELLED)!r}))


def test_skips(target):
    pytest.skip({SECRET!r})


def test_passes_without_expect(target):
    pass
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A reverted session whose tests print a secret of the env file: the project and the output."""
    root = tmp_path_factory.mktemp("project")
    project = Project.at(root)
    with (project.folder / ".env.green").open("a", encoding="utf-8") as env:
        env.write(f"DB_PASSWORD='{SECRET}'\n")
    compose = project.folder / "docker-compose.yml"
    text = compose.read_text(encoding="utf-8")
    compose.write_text(f"{text}{WAYS}", encoding="utf-8")
    for name, content in MOUNTED.items():
        (project.folder / name).write_text(content, encoding="utf-8")
    project.test(LEAKING)
    done = project.run(GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(root / "summary.md"))
    assert done.returncode == 1, done.stdout + done.stderr
    return project, done.stdout + done.stderr


def folder_of(project: Project) -> Path:
    """Where the report is."""
    return project.folder / "reports" / "latest"


def test_no_secret_is_in_any_file_or_line(session: tuple[Project, str]) -> None:
    """Terminal, page, JUnit, evidence and job summary are masked in every escaped form."""
    project, printed = session
    files = [file for file in folder_of(project).rglob("*") if file.is_file()]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    texts |= {
        "terminal": printed,
        "summary": (project.folder.parent / "summary.md").read_text(encoding="utf-8"),
    }
    assert {"report.html", "junit.xml", "evidence.jsonl", "undo.sh", "journal.jsonl"} <= set(texts)
    for name, text in texts.items():
        assert "canary" not in text, name
        assert "7f3a" not in text, name
        for spelled in SPELLED:
            assert spelled not in text, name


def test_nothing_else_is_masked(session: tuple[Project, str]) -> None:
    """Ordinary values, the tag, the project and the path of the report are printed as they are."""
    printed = session[1]
    assert len(LEAKED) == 10
    assert "site nginx ***" in printed
    for said in ("cutover trap", "green", "reports/"):
        assert said in printed


def test_the_report_is_whole(session: tuple[Project, str]) -> None:
    """The page has result, reason, undo, journal and pytest-html's table."""
    page = (folder_of(session[0]) / "report.html").read_text(encoding="utf-8")
    for said in (
        "ROLLED BACK",
        'id="failed"',
        "refused ***",
        'id="undo"',
        'id="journal"',
        'id="results-table"',
    ):
        assert said in page
    assert "<img" not in page.replace('<img src="" />', "")
    assert "could not be made" not in page


def test_tests_without_expect_are_checks_too(session: tuple[Project, str]) -> None:
    """Each test is in the evidence once, with its outcome, whether it used `expect` or a plain assert."""
    checks = load_evidence(folder_of(session[0]) / "evidence.jsonl").checks
    found = {check.verdict.question: str(check.verdict.outcome) for check in checks}
    assert found == {
        "test_leaks": "no",
        "database": "no",
        "said": "no",
        "test_says_all_by_itself": "no",
        "test_skips": "unknown",
        "test_passes_without_expect": "yes",
    }
    assert len(checks) == 6
    page = (folder_of(session[0]) / "report.html").read_text(encoding="utf-8")
    assert "smoke[green]</td><td>1 passed, 4 failed, 1 unknown" in page


COUNTED = """
import pytest
from cutover.core.verdict import no, not_asked, yes


def test_asks_twice(target, assert_verdict):
    assert_verdict([yes("restarts", "none"), yes("unchanged", "the same")])


def test_asserts(target):
    pass


def test_cannot_ask(target, assert_verdict):
    assert_verdict(not_asked("tls", "no certificate"))


def test_only_reported(target, assert_verdict):
    assert_verdict(no("leak", "grows", slope="3 MB/h"))


def test_endpoint(target, endpoint):
    raise AssertionError("no endpoint is configured")
"""


def test_one_count_is_said_everywhere(project: Project) -> None:
    """A check is a test with all its verdicts: pytest, the last lines and all files count the same."""
    with (project.folder / "cutover.toml").open("a", encoding="utf-8") as config:
        config.write('[checks]\nreport_only = ["leak"]\n')
    project.test(COUNTED)
    summary = project.folder.parent / "summary.md"
    done = project.run(GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 2 skipped" in done.stdout
    assert "smoke[green]    2 passed" in done.stdout
    assert "Verified by 2 checks" in done.stdout
    said = "2 passed, 3 not asked"
    assert f'"cutover.checks" value="{said}"' in (folder_of(project) / "junit.xml").read_text("utf-8")
    assert said in summary.read_text("utf-8")
    page = (folder_of(project) / "report.html").read_text("utf-8")
    assert f">{said}</small>" in page
    assert ">3 checks</small>" in page
    result = load_evidence(folder_of(project) / "evidence.jsonl").facts["result"]
    assert result["passed"] == 2
    assert "NOTSET" not in page + done.stdout


@pytest.mark.parametrize(
    "arguments", [("--deploy=sha-2",), ("nope",), ("--switch", "--deploy=sha-2"), ("-v", "nope")]
)
def test_the_reason_of_a_refusal_is_read_last(project: Project, arguments: tuple[str, ...]) -> None:
    """A session that is refused counts nothing and names no file of the folder that is deleted."""
    project.test("def test_good(target):\n    pass\n")
    done = project.run(*arguments)
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stderr.startswith("ERROR: ")
    for said in ("no tests ran", "generated", "Generated", "reports/"):
        assert said not in done.stdout
    assert not [*(project.folder / "reports").iterdir()]


def test_a_file_that_stays_is_named(project: Project) -> None:
    """A refused session deletes its own folder only: a file that was asked for is written and named."""
    project.test("import nope\n")
    done = project.run("--junitxml=own.xml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "own.xml" in done.stdout
    assert "report.html" not in done.stdout
    assert "No module named 'nope'" in done.stdout
    assert (project.folder / "own.xml").is_file()


def test_the_machines_read_the_same(session: tuple[Project, str]) -> None:
    """Evidence, JUnit and job summary have the same result."""
    project, printed = session
    rows = [
        json.loads(line) for line in (folder_of(project) / "evidence.jsonl").read_text("utf-8").splitlines()
    ]
    facts = {row["key"]: row["value"] for row in rows if row["kind"] == "fact"}
    suite = ET.parse(folder_of(project) / "junit.xml").find("testsuite/properties")  # noqa: S314 - our own file
    assert suite is not None
    found = {each.get("name"): each.get("value") for each in suite}
    assert facts["result"]["status"] == found["cutover.status"] == "ROLLED BACK"
    assert "pytest" in facts["versions"]
    summary = (project.folder.parent / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("## ↩️ ROLLED BACK: trap")
    assert "::error title=ROLLED BACK::" in printed
