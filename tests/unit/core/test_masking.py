"""Masking of secrets in everything that is written."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import markupsafe
import pytest

from cutover.core.errors import ConfigError
from cutover.core.evidence import Check
from cutover.core.masking import MASK, Mask, Secret, printable, secrets_in, secrets_of
from cutover.core.result import Reason, SessionResult, Status
from cutover.core.verdict import no
from cutover.report.terminal import Look, check_lines, last_lines

RANDOM = "s3kR9xQ2mZ7vT4bN8cW1"
SLACK = "aBcDeFgHiJkLmNoPqRsTuV1x"


@pytest.mark.parametrize(
    ("key", "value", "hidden"),
    [
        ("DB_PASSWORD", "canary-1", "canary-1"),
        ("POSTGRES_PASSWORD", "geheim", "geheim"),
        ("apiKey", "canary-1", "canary-1"),
        ("SECRET_KEY_BASE", "canary-1", "canary-1"),
        ("TOKEN_OLD", "canary-1", "canary-1"),
        ("MYSQL_PWD", "canary-1", "canary-1"),
        ("PGPASSWORD", "canary-1", "canary-1"),
        ("LDAP_BIND_PW", "canary-1", "canary-1"),
        ("ODBC", "Uid=sa;Pwd=/canary-1", "/canary-1"),
        ("PWD", "canary-1", "canary-1"),
        ("DB_PASSWORD", "482913", "482913"),
        ("API_KEY", "00482913", "00482913"),
        ("PIN", "482913", "482913"),
        ("DB_PASSWORD", "48291", ""),
        ("DATABASE_URL", "postgresql://ana:geheim@db/x", "geheim"),
        ("SENTRY_DSN", "https://4f1c2aab9@sentry.example/7", "4f1c2aab9"),
        ("SLACK_WEBHOOK_URL", f"https://hooks.slack.com/services/T01ABCDEF/B02GHIJKL/{SLACK}", SLACK),
        ("SIGNING_KEY_URL", "https://kms.example/v1/AbCdEfGhIjKlMnOp/short", "AbCdEfGhIjKlMnOp"),
        ("CI_SECRET_URL", "https://ci.example.com/hook/build-me-please-2", "build-me-please-2"),
        ("CI_SECRET_URL", "https://ci.example.com/?job=build-me-please-2&page=2", "build-me-please-2"),
        ("CI_WEBHOOK", "https://ci.example.com/hook/build-me/?wait=1", "build-me"),
        ("CI_URL", "https://ci.example.com/hook/build-me-please-2", ""),
        ("CI_URL", f"https://ci.example.com/services/{SLACK[:-1]}", ""),
        ("HOOK", f"https://hooks.example/T0/{RANDOM}", RANDOM),
        ("CALLBACK", "https://a.example/x?token=canary-1&page=2", "canary-1"),
        ("ODBC", "host=db user=ana password=canary-1", "canary-1"),
        ("GOOGLE_CREDENTIALS", '{"type": "service_account", "client_secret": "canary-1"}', "canary-1"),
        ("LICENSE", RANDOM, RANDOM),
        ("LICENSE", f"lic_live_{RANDOM}", f"lic_live_{RANDOM}"),
        ("SITE_NAME", "nginx", ""),
        ("LOG_FORMAT", "canary-1", ""),
        ("APP_VERSION", "sha-4f1c2aa9be01d2c3b4a5968778695a4b3c2d1e0f", ""),
        ("GIT_COMMIT", "4f1c2aa9be01d2c3b4a5968778695a4b3c2d1e0f", ""),
        ("BASE", "debian@sha256:4f1c2aa9be01d2c3b4a5968778695a4b3c2d1e0f4f1c2aa9be01d2c3b4a59687", ""),
        ("TENANT", "0b2d6f2e-8a1c-4d0e-9f3b-2c1d4e5f6a7b", ""),
        ("PASSWORD_FILE", "/run/secrets/db", ""),
        ("TOKEN_TTL", "86400000", ""),
        ("ACCESS_TOKEN_EXPIRE_SECONDS", "604800", ""),
        ("JWT_EXPIRATION", "86400000", ""),
        ("JWT_EXPIRES_IN", "30days", ""),
        ("TOKEN_LIMIT", "128000", ""),
        ("OPENAI_MAX_TOKENS", "128000", ""),
        ("MAX_OUTPUT_TOKENS", "128000", ""),
        ("TOKENS_PER_MINUTE", "150000", ""),
        ("JWT_ALGORITHMS", "HS256", ""),
        ("SECRETS_MANAGER_REGION", "eu-west-1", ""),
        ("PWD", "/srv/nginx", ""),
        ("OLDPWD", "/srv/nginx", ""),
        ("TOKENIZER", "cl100k", ""),
        ("MONKEY_ISLAND", "guybrush", ""),
        ("PUBLIC_KEY", "canary-1", ""),
        ("API_HTTP_PORT", "482913", ""),
        ("KEYS_PER_PAGE", "100000", ""),
        ("IMAGE_TAG", RANDOM, ""),
        ("DEBUG_TOKEN", "true", ""),
    ],
)
def test_hides_what_an_env_file_holds_by_its_name_or_its_look(key: str, value: str, hidden: str) -> None:
    """A value is masked if its key names a secret or if it looks random; what does not is shown."""
    mask = Mask()
    mask.learn_environment({key: value}, ("IMAGE_TAG",))
    text = f"said {hidden or value}, and /srv/nginx/latest."
    assert mask(text) == (text.replace(hidden, "***") if hidden else text)


def test_the_configuration_has_the_last_word_on_a_key() -> None:
    """`[env_keys] masked` and `unmasked` decide before name and look."""
    mask = Mask()
    mask.learn_environment({"COLOR_KEY": "turquoise", "SITE": "intern-7"}, ("COLOR_KEY",), ("SITE",))
    assert mask("turquoise intern-7") == "turquoise ***"


def test_names_that_are_shown_stay_whatever_has_the_same_value() -> None:
    """A password that is also a tag, a project or a folder does not make lines unreadable."""
    mask = Mask()
    mask.learn(["recall", "hunter22"])
    mask.show(["recall"])
    assert mask("recall hunter22 reports/recall") == "recall *** reports/recall"


@pytest.mark.parametrize("secret", [f"can/{RANDOM}", "canary-0815 ü&<'\"", "p@ss/w:rd+1"])
@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text,
        lambda text: f"prefix{text}suffix",
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
        lambda text: "Authorization: Basic " + base64.b64encode(f"ana:{text}".encode()).decode(),
        lambda text: base64.b64encode(f'{{"a":1,"k":"{text}","b":2}}'.encode()).decode(),
        lambda text: base64.b64encode(f"x{text}yz".encode()).decode(),
        lambda text: base64.b64encode(f"xy{text}yz".encode()).decode(),
        lambda text: quote(text, safe=""),
        quote_plus,
        lambda text: re.sub("%..", lambda found: found[0].lower(), quote_plus(text)),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: json.dumps({"k": text}),
        lambda text: json.dumps(json.dumps({"k": text})),
        lambda text: json.dumps({"k": text}).replace("&", "\\u0026").replace("<", "\\u003c"),
        html.escape,
        lambda text: html.escape(json.dumps(text)),
        lambda text: json.dumps(html.escape(text)),
        lambda text: str(markupsafe.escape(text)),
        lambda text: repr([text]),
    ],
)
def test_no_spelling_leaves_a_secret(secret: str, spell: Callable[[str], str]) -> None:
    """Masked text holds no four letters in a row of the secret, as it is spelled."""
    assert_masked(secret, spell(secret))


@pytest.mark.parametrize("secret", [f"can/{RANDOM}", "canary-0815 ü&<'\""])
@pytest.mark.parametrize("cut", [lambda text: f"{text[:14]}…", lambda text: f"it was '{text[:15]}"])
def test_a_long_secret_is_known_by_its_beginning(secret: str, cut: Callable[[str], str]) -> None:
    """What cut it leaves no four letters in a row of it."""
    assert_masked(secret, cut(secret))


def assert_masked(secret: str, spelled: str) -> None:
    """Assert that *spelled*, which holds *secret*, is masked and nothing else of it is lost."""
    mask = Mask()
    mask.learn([secret])
    masked = mask(spelled)
    assert "***" in masked
    assert mask(masked) == masked
    assert len(masked) <= len(spelled) - min(8, len(secret)) + 3
    for start in range(3, len(secret) - 6):
        assert secret[start : start + 4] not in masked


def test_a_word_that_is_only_a_part_of_another_stays() -> None:
    """A short password is masked as a word, a number as a number."""
    mask = Mask()
    mask.learn(["test", "482913"])
    assert (
        mask("test latest tests user%3Atest%40db 482913 1482913.5")
        == "*** latest tests user%3A***%40db *** 1482913.5"
    )


def test_a_beginning_that_goes_on_as_another_word_stays() -> None:
    """Only where it is cut a long value is known by its beginning."""
    mask = Mask()
    mask.learn(["recall-production-0815"])
    assert mask("recall-production-database recall-production…") == "recall-production-database ***…"


def test_masking_takes_time_by_the_length_of_the_text() -> None:
    """Sixty secrets in 1 MB of log take less than two seconds."""
    mask = Mask()
    mask.learn(f"{RANDOM}{n}/ü" for n in range(60))
    text = "2026-01-31T12:00:00Z INFO GET /api/items?page=2 200 in 12 ms by 10.0.0.7\n" * 14_000
    mask(text[:100])
    before = time.process_time()
    assert mask(text) == text
    assert time.process_time() - before < 2


def test_what_goes_into_json_is_masked_before_it_is_quoted() -> None:
    """Strings at any depth, keys of a service, and a number that is a secret are masked; other numbers stay."""
    mask = Mask()
    mask.learn(["559800", 'so"me'])
    given = {
        "at": 1455980055.5,
        "pin": 559800,
        "rows": [["a", 'so"me', Path("/559800")]],
        "it's 559800": None,
    }
    assert mask.within(given) == {
        "at": 1455980055.5,
        "pin": "***",
        "rows": [["a", "***", "/***"]],
        "it's ***": None,
    }


# --- secrets ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("hunter22", "a hunter22 b", "a *** b"),
        ("hunter22", "hunter2", "hunter2"),
        ("abc", "abc", "abc"),
        ("prod", "prod", "prod"),
        ("p@ss/w", "p%40ss%2Fw p%40ss/w", "*** ***"),
        ("pa$$x", "pa$$$$x", "***"),
        ('a"b\\c', json.dumps({"k": 'a"b\\c'}), '{"k": "***"}'),
        ("gr\u00fcn1", json.dumps({"k": "gr\u00fcn1"}), '{"k": "***"}'),
        ("a<b>&c", "<p>a&lt;b&gt;&amp;c</p>", "<p>***</p>"),
        ("it's5", "echo 'it'\"'\"'s5'", "echo '***'"),
        (
            "postgresql://u:geheim@db/x",
            "password geheim of postgresql://u:geheim@db/x",
            "password *** of postgresql://u:***@db/x",
        ),
        ("secret1\nsecret2", "secret1\nsecret2", "***"),
        ("", "text", "text"),
    ],
)
def test_a_mask_takes_each_spelling_out(secret: str, text: str, shown: str) -> None:
    """A secret is masked in the spellings of URLs, JSON, HTML, shells and Compose; short words are not."""
    mask = Mask()
    mask.learn([secret])
    assert mask(text) == shown


def test_a_longer_secret_goes_before_its_part() -> None:
    """If a secret contains another one, no part of the longer one is left."""
    mask = Mask()
    mask.learn(["hunter", "hunter22"])
    assert mask("hunter22 hunter") == "*** ***"


def test_a_password_in_a_url_needs_no_teaching() -> None:
    """The password of any URL is masked, user and host are not."""
    assert (
        Mask()("redis://:geheim@cache:6379 https://ana:geheim@host/x")
        == "redis://:***@cache:6379 https://ana:***@host/x"
    )


def test_public_values_of_an_env_file_are_shown() -> None:
    """Tag, port and other numbers are not masked."""
    mask = Mask()
    mask.learn_environment(
        {"IMAGE_TAG": "sha-1234567", "API_HTTP_PORT": "18000", "KEY": "geheim"}, ("IMAGE_TAG",)
    )
    assert mask("sha-1234567 18000 geheim") == "sha-1234567 18000 ***"


RAW_PASSWORDS = [
    "hunter'22xyz",
    'hunter"22xyz',
    "pa<ss>word9",
    "pa[ss]word9",
    "pass(word)9{x}",
    "pa%27ssword",
    "pass@word9",
    "pass:word9",
    "pa,ss;word9",
    "pa\\ss|word`9",
    "12345'xyz",
]
IN_A_VALUE = ["pass/word9", "pass#word9", "pass?word9", "correct horse", "pa/ss@wo'rd9"]
"""In a text these are no URL: a value is one as a whole."""


@pytest.mark.parametrize("password", [*RAW_PASSWORDS, *IN_A_VALUE])
@pytest.mark.parametrize(
    "url",
    ["postgres://app:{}@db/app?x=a%40b", "redis://:{}@cache:6379/0", "jdbc:postgresql://app:{}@db:5432/app"],
)
@pytest.mark.parametrize("key", ["DATABASE_URL", "DB_DSN", "APP_SECRET"])
def test_the_password_of_a_url_may_have_any_letter(key: str, url: str, password: str) -> None:
    """Alone in a log it is masked, as it is spelled and decoded, under whatever name the URL is known."""
    mask = Mask()
    mask.learn_environment({key: url.format(password)})
    for each in (password, unquote(password)):
        assert each not in mask(f"auth failed for user app with <{each}>.")
    explicit = Mask()
    explicit.learn([url.format(password)])
    assert password not in explicit(f"auth failed with <{password}>.")


@pytest.mark.parametrize("password", [each for each in RAW_PASSWORDS if "@" not in each])
def test_what_is_masked_in_a_url_is_masked_alone(password: str) -> None:
    """A text without a key: what would be stars in the URL is a secret elsewhere too."""
    text = f"serve --db redis://:{password}@cache:6379/0 --verbose"
    assert password in secrets_in(text)
    assert password not in Mask()(text)


@pytest.mark.parametrize(
    "value",
    [
        "http://api:8080/users/@me",
        "http://api:8080 ana@example.com",
        "kafka://a:9092,b:9092/x@y",
        "https://example.com/a:b/@me",
        "https://ana@example.com/x:y@z",
        "http://[::1]:8080/x",
    ],
)
def test_a_port_is_no_password(value: str) -> None:
    """What only looks like a password stays, in whatever variable it is."""
    assert secrets_of("API_URL", value) == set()


def test_a_secret_prints_as_stars() -> None:
    """Only `reveal` returns the value."""
    secret = Secret("geheim")
    assert (str(secret), repr(secret), f"{secret}", secret.reveal()) == ("***", "***", "***", "geheim")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07and \x9b1mbold", "red and bold"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\r\nb\rc\0\x07\x7f\u202ed", "a\nb c    d"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("::stop-commands::x", ":\u200b:stop-commands::x"),
        ("said\n  ::add-mask::a", "said\n  :\u200b:add-mask::a"),
        ("refused: ::set-env name=PATH::.", "refused: :\u200b:set-env name=PATH::."),
        ("a ##[set-env name=PATH]b", "a ##\u200b[set-env name=PATH]b"),
        ("\x1b[1m::stop-commands::x", ":\u200b:stop-commands::x"),
        ("#\x1b[0m#[group]", "##\u200b[group]"),
        (
            "smoke/test_ready.py::test_ready[green] at [::1]:80",
            "smoke/test_ready.py::test_ready[green] at [::1]:80",
        ),
        ("hun\x1b[0mter22", "***"),
    ],
)
def test_what_is_printed_has_neither_codes_nor_commands(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Escape codes are taken out before masking; commands of a CI are broken up."""
    monkeypatch.setattr(MASK, "values", frozenset({"hunter22"}))
    assert printable(text) == shown


def test_a_wrapped_line_begins_with_no_command() -> None:
    """Wherever a reason of a service is wrapped, no line is a command of GitHub."""
    verdict = no("ready", "x" * 37 + " ::stop-commands::a ##[command]b \x1b[31m" + "y " * 60)
    check = Check(1, "smoke/test_ready.py::test_ready", "green", 0, verdict, 0.1, 0.0)
    for width in range(60, 120):
        for line in check_lines(check, Look(width=width)):
            assert not line.strip().startswith("::")
            assert "##[" not in line
            assert "\x1b" not in line
    result = SessionResult(Status.GATE_FAILED, "recall", 1, reasons=(Reason("", "a\n::stop-commands::x"),))
    assert not [line for line in last_lines(result) if line.strip().startswith("::")]


def test_no_error_brings_a_code_to_a_terminal() -> None:
    """The text of an error is what a person or a service wrote."""
    assert str(ConfigError("tag '\x1b[31msha-1' is none\n::stop-commands::x")) == (
        "tag 'sha-1' is none\n:\u200b:stop-commands::x"
    )
