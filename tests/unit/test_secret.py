"""What is starred out of everything that is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.secret import Mask


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
    """Each value but public ones; a number only where its key speaks of a secret and it is too long for a port."""
    mask = Mask()
    mask.learn_environment({key: value}, ("IMAGE_TAG",))
    assert mask(f"said {value}.") == ("said ***." if masked else f"said {value}.")


def test_what_goes_into_json_is_masked_before_it_is_quoted() -> None:
    """Texts at any depth, names that a service chose, and a number that is a secret; digits of a time stay a number."""
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
