"""Masking of secrets in everything that is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutover.core.masking import Mask, Secret


@pytest.mark.parametrize(
    ("key", "value", "masked"),
    [
        ("DB_PASSWORD", "canary-1", True),
        ("LOG_FORMAT", "canary-1", True),
        ("DB_PASSWORD", "482913", True),
        ("SMS_TOKEN", "4829130", True),
        ("API_KEY", "00482913", True),
        ("PIN", "482913", True),
        ("DB_PASSWORD", "48291", False),
        ("API_HTTP_PORT", "482913", False),
        ("MAX_BYTES", "10485760", False),
        ("KEYS_PER_PAGE", "100000", False),
        ("IMAGE_TAG", "canary-1", False),
        ("DB_NAME", "db", False),
    ],
)
def test_masks_what_an_env_file_holds(key: str, value: str, *, masked: bool) -> None:
    """Every value except public ones is masked; a number only if its key names a secret and it is too long for a port."""
    mask = Mask()
    mask.learn_environment({key: value}, ("IMAGE_TAG",))
    assert mask(f"said {value}.") == ("said ***." if masked else f"said {value}.")


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
            "password *** of ***",
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


def test_a_secret_prints_as_stars() -> None:
    """Only `reveal` returns the value."""
    secret = Secret("geheim")
    assert (str(secret), repr(secret), f"{secret}", secret.reveal()) == ("***", "***", "***", "geheim")
