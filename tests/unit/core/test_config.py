"""Find `cutover.toml` and resolve its paths."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cutover.core.config import CONFIG_PATHS, find_config, load_config
from cutover.core.errors import ConfigError

TOML = 'project = "p"\n[colors.blue]\nenv_file = ".env.blue"\n'


@pytest.mark.parametrize("name", CONFIG_PATHS)
def test_reports_lie_beside_the_file_unless_it_says_otherwise(tmp_path: Path, name: str) -> None:
    """The default reports folder is beside the file; the file and CUTOVER_REPORTS override it."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOML)
    found = find_config(None, {}, tmp_path)
    assert load_config(found).reports == path.resolve().parent / "reports"
    path.write_text('reports = "../reports"\n' + TOML)
    assert load_config(found).reports == path.resolve().parent.parent / "reports"
    assert load_config(found, {"CUTOVER_REPORTS": "/elsewhere"}).reports == Path("/elsewhere")


def test_the_shipped_file_reports_at_the_top_of_the_repository() -> None:
    """A session writes its reports to the top of the repository and not to `deploy/`."""
    root = Path(__file__).parents[3]
    assert load_config(root / "deploy" / "cutover.toml").reports == root / "reports"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors write one."""
    path = tmp_path / "cutover.toml"
    path.write_text(TOML, encoding="utf-8-sig")
    assert load_config(path).project == "p"


BASE = 'project = "shop"\n[colors.blue]\nenv_file = ".env.blue"\n'
# the name of the mistake: what is added below `BASE` or put before it, and what the line must say
BAD_VALUES = {
    "a pattern that does not compile": ('[logs]\npattern = "("', ("logs.pattern", "regular expression", "'('")),
    "one of several patterns": ('[logs]\nignore = ["ok", "["]', ("logs.ignore.1", "regular expression")),
    "a path over two lines": ('[[endpoints]]\npath = "/a\\r\\nX: y"', ("endpoints.0.path", "begin with /")),
    "a path without a slash": ('[[endpoints]]\npath = "metrics"', ("endpoints.0.path", "begin with /", "metrics")),
    "an empty path": ('[[endpoints]]\npath = ""', ("endpoints.0.path", "at least 1")),
    "a method with a space": ('[[endpoints]]\npath = "/"\nmethod = "GE T"', ("endpoints.0.method", "GE T")),
    "a header over two lines": (
        '[[endpoints]]\npath = "/"\nheaders = { a = "b\\nc" }', ("endpoints.0.headers.a", "pattern"),
    ),
    "a date in JSON": (
        "[version]\njson = { made = { at = [1, 2026-01-31] } }",
        ("version.json: JSON has no dates, times, inf or nan, and made.at.1 is 2026-01-31",),
    ),
    "a time in JSON": ("[ready]\njson = { at = 07:32:00 }", ("ready.json: JSON has no", "and at is 07:32:00")),
    "a number without an end in JSON": (
        '[[endpoints]]\npath = "/"\njson = [inf]', ("endpoints.0.json: JSON has no", "and 0 is inf"),
    ),
    "a body that is no JSON": (
        '[[endpoints]]\npath = "/"\nsend = nan', ("endpoints.0.send: JSON has no", "and this is nan; write it as text"),
    ),
    "a header of requests": (
        '[[endpoints]]\npath = "/"\nheaders = { Authorization = "Bearer canary-1" }',
        ("endpoints.0.headers.Authorization: 'Authorization' is sent in requests", "a check of your own"),
    ),
    "a header of requests in readiness": (
        '[ready]\nheader = { X-API-Key = "canary-1" }', ("ready.header.X-API-Key: 'X-API-Key' is sent in requests",),
    ),
    "a timeout of nothing": ('[ready]\ntimeout = "0s"', ("ready.timeout", "longer than 0s")),
    "a timeout of nothing in the gate": ('[gate]\nrequest_timeout = "0ms"', ("gate.request_timeout", "longer than 0s")),
    "a duration of twenty digits": ('[gate]\nmin_uptime = "12345678901234567890s"', ("gate.min_uptime", "at most 30d")),
    "a duration of a float": ("[watch]\nduration = 10.0", ("watch.duration", "10.0 is no duration")),
    "a duration without an end": ("[watch]\nduration = inf", ("watch.duration", "inf is no duration")),
    "a duration that is no number": ("[gate]\nstart_timeout = nan", ("gate.start_timeout", "nan is no duration")),
    "a number without an end": ("[slo]\ntls_min_days = inf", ("slo.tls_min_days", "finite number", "got inf")),
    "digits of another script": ('[gate]\nmin_uptime = "\u0663s"', ("gate.min_uptime", "no duration")),
    "a proxy over FTP": ('[proxy]\ndriver = "nginx"\nurl = "ftp://x"', ("proxy.url", "http:// or https://")),
    "a port out of range": ('[proxy]\ndriver = "nginx"\nurl = "http://x:99999"', ("proxy.url", "99999", "Port")),
    "an empty label": ('[proxy]\ndriver = "nginx"\nurl = "http://a..b:80"', ("proxy.url", "a..b", "names no host", "1 to 63")),
    "a long label": (
        f'[proxy]\ndriver = "nginx"\nurl = "http://{"a" * 70}"', ("proxy.url", "names no host", "1 to 63"),
    ),
    "a URL without a host": ('[proxy]\ndriver = "nginx"\nurl = "http://"', ("proxy.url", "no host")),
    "a header name with a space": (
        '[proxy]\ndriver = "nginx"\nurl = "http://x"\ncolor_header = "X Color"', ("proxy.color_header", "X Color"),
    ),
    "a dependency without a URL": ('[[dependencies]]\nname = "db"\nkind = "tcp"', ("dependencies.0", "url_key")),
    "a dependency of another scheme": (
        '[[dependencies]]\nname = "db"\nkind = "postgres"\nurl = "mysql://db/x"',
        ("dependencies.0", "postgres:// or postgresql://"),
    ),
    "a TCP dependency without a port": (
        '[[dependencies]]\nname = "db"\nkind = "tcp"\nurl = "tcp://cache"',
        ("dependencies.0: url: 'tcp://cache' names no port", "write it like tcp://127.0.0.1:8080"),
    ),
    "a hook without a command": ("[hooks]\ncommand = []", ("hooks.command", "at least 1")),
    "one endpoint twice": (
        '[[endpoints]]\npath = "/a"\n[[endpoints]]\npath = "/a"\nstatus = 404', ("endpoints name GET /a twice", "a name of its own"),
    ),
    "one name for two endpoints": (
        '[[endpoints]]\npath = "/a"\nname = "a"\n[[endpoints]]\npath = "/b"\nname = "a"', ("endpoints name a twice",),
    ),
    "one name for two dependencies": (
        '[[dependencies]]\nname = "db"\nkind = "tcp"\nurl_key = "A"\n[[dependencies]]\nname = "db"\nkind = "http"\nurl_key = "B"',
        ("dependencies name db twice", "a name of its own"),
    ),
    "a variable that is none": ('[env_keys]\ntag = "IMAGE TAG"', ("env_keys.tag", "IMAGE TAG")),
    "a watch longer than the guard waits": ('[watch]\nduration = "3h"', ("watch of 3 h", "release_timeout (2 h)")),
    "limits in the wrong order": ('[slo]\np50 = "2s"\np95 = "1s"', ("slo.p50 is 2s", "slo.p95 (1s)")),
    "one env file for both": ('[colors.green]\nenv_file = ".env.blue"', ("colors.green.env_file", "its own")),
    "one Compose project for both": (
        '[colors.green]\nenv_file = ".env.green"\nproject = "shop_blue"', ("colors.green.project", "shop_blue"),
    ),
    "a Compose project in capitals": ('[colors.green]\nenv_file = "x"\nproject = "Shop"', ("colors.green.project", "Shop")),
}  # fmt: skip
BAD_TOP_VALUES = {
    "one service twice": ('services = ["web", "web"]', ("web twice",)),
    "a worker that is a service": ('services = ["web"]\nworkers = ["web"]', ("web twice",)),
    "a service with a space": ('services = ["we b"]', ("services.0", "we b")),
    "a network with a space": ('shared_network = "a b"', ("shared_network", "a b")),
    "workers on a Swarm": (
        'platform = { kind = "swarm" }\nworkers = ["mail"]',
        ('kind = "swarm" cannot do workers',),
    ),
    "fronts without a proxy": (
        'platform = { fronts = { web-1 = "http://10.0.0.1" } }',
        ("fronts needs [proxy]", "here is no proxy"),
    ),
    "a front that is no name": (
        'platform = { fronts = { "web 1" = "http://10.0.0.1" } }',
        ("platform.fronts", "is no ssh name of a host"),
    ),
    "a front without a URL": ('platform = { fronts = { web-1 = "" } }', ("platform.fronts.web-1",)),
    "a guard without patience": ('release_timeout = "0s"', ("release_timeout", "longer than 0s")),
}


def refusal(path: Path, text: str) -> str:
    """The error of a file with *text*."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"CUTOVER_STATE_DIR": str(path.parent / "state")})
    return str(caught.value)


@pytest.mark.parametrize("name", [*BAD_VALUES, *BAD_TOP_VALUES])
def test_a_bad_value_is_one_line_with_its_key(tmp_path: Path, name: str) -> None:
    """The line names the file, the key, and what was given or is allowed."""
    top, said = BAD_TOP_VALUES.get(name, ("", ()))
    below, words = BAD_VALUES.get(name, ("", said))
    line = refusal(tmp_path / "cutover.toml", f"{top}\n{BASE}{below}\n")
    assert line.startswith(f"{tmp_path / 'cutover.toml'}: ")
    assert "\n" not in line
    assert "canary-1" not in line
    for word in words:
        assert word in line


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Each has a line of its own."""
    text = 'project = "shop"\n[gate]\nsamples = 0\nmin_uptime = 5\n[logs]\npattern = "("\n'
    lines = refusal(tmp_path / "cutover.toml", text).splitlines()
    assert len(lines) == 4
    assert "key 'colors' is missing: add [colors.blue]" in "".join(lines)
    assert "gate.samples" in "".join(lines)


def test_all_contradictions_between_tables_are_told_at_once(tmp_path: Path) -> None:
    """Each table is right by itself: each contradiction has a line of its own."""
    text = f'workers = ["mail"]\n{BASE}[platform]\nkind = "swarm"\n[slo]\np50 = "3s"\np95 = "1s"\n'
    lines = refusal(tmp_path / "cutover.toml", text).splitlines()
    assert len(lines) == 2
    assert "workers" in lines[0]
    assert "slo.p50 is 3s, longer than slo.p95" in lines[1]


def test_a_swarm_may_migrate(tmp_path: Path) -> None:
    """A migration before the release, with a snapshot, is nothing that a Swarm cannot do."""
    path = tmp_path / "cutover.toml"
    path.write_text(
        f'{BASE}[platform]\nkind = "swarm"\n[migrate]\ncommand = ["up"]\n[snapshot]\nenabled = true\n'
    )
    assert load_config(path, {"CUTOVER_STATE_DIR": str(tmp_path / "state")}).migrate is not None


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("state_dir", ""),
        ("reports", ""),
        ("proxy.marker_dir", '[proxy]\ndriver = "nginx"\nurl = "http://x"\n'),
    ],
)
def test_a_file_where_a_folder_is_needed(tmp_path: Path, key: str, table: str) -> None:
    """It is found when the file is read, before anything is asked or made."""
    (tmp_path / "file").touch()
    setting = f'{key.rsplit(".", maxsplit=1)[-1]} = "file/below"\n'
    text = f"{BASE}{table}{setting}" if table else f"{setting}{BASE}"
    path = tmp_path / "cutover.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"{key}: .*/file is a file, and a folder is needed"):
        load_config(path)


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that this user may not search."""
    folder, stat = tmp_path / "closed", Path.stat

    def stat_of_user(path: Path, **options: bool) -> os.stat_result:
        if folder in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    folder.mkdir()
    monkeypatch.setattr(Path, "stat", stat_of_user)
    return folder


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("state_dir", f'state_dir = "closed/x"\n{BASE}'),
        ("reports", f'reports = "closed/below/x"\n{BASE}'),
        ("compose_file", f'compose_file = "closed/x"\n{BASE}'),
        ("compose_overrides", f'compose_overrides = ["closed/x"]\n{BASE}'),
        ("env_template", f'env_template = "closed/x"\n{BASE}'),
        ("colors.blue.env_file", BASE.replace(".env.blue", "closed/x")),
        ("proxy.marker_dir", f'{BASE}[proxy]\ndriver = "nginx"\nurl = "http://x"\nmarker_dir = "closed/x"\n'),
    ],
)
def test_what_this_user_may_not_look_at_is_told(closed: Path, key: str, text: str) -> None:
    """The folder above it is closed: one line with the key, and not a traceback."""
    path = closed.with_name("cutover.toml")
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"{key}: {closed}/.*: permission denied"):
        load_config(path)


def test_a_log_that_this_user_may_not_look_at_is_told_later(closed: Path) -> None:
    """Only a release with a switch needs it, and asks it for requests."""
    path = closed.with_name("cutover.toml")
    path.write_text(f'{BASE}[proxy]\ndriver = "nginx"\nurl = "http://x"\naccess_log = "closed/x"\n')
    assert load_config(path).proxy is not None


def test_a_log_that_cannot_be_read_to_its_end(tmp_path: Path) -> None:
    """A FIFO would be read for ever."""
    os.mkfifo(tmp_path / "access.log")
    proxy = '[proxy]\ndriver = "nginx"\nurl = "http://x"\naccess_log = "access.log"\n'
    assert "no regular file" in refusal(tmp_path / "cutover.toml", BASE + proxy)
