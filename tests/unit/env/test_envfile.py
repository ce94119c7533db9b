"""Env files: read back by the real Compose (no engine is needed), and rewritten by a release."""

from __future__ import annotations

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutover.core.errors import ConfigError
from cutover.env import envfile
from cutover.env.envfile import set_env_value

VALUES = (
    *(
        "",
        "plain",
        "two words",
        " both ends ",
        "a#b",
        "a # b",
        "# all comment",
        "a=b",
        "export A=1",
        "{{ x }}",
    ),
    *(
        "$HOME",
        "${HOME}",
        "$$",
        "pa$wd",
        "!",
        "`x`",
        "\\",
        "end\\",
        "\\'",
        "a\\nb",
        "a\nb",
        "tab\there",
        "cr\r",
    ),
    *("it's", '"', "'", "é 漢", "'single' and \"double\" $x \\"),
)


def test_compose_reads_back_what_was_written(tmp_path: Path) -> None:
    """Each value is read back exactly: quotes, dollars, blanks, hashes, newlines, and 500 random ones."""
    draw = random.Random(815)  # noqa: S311 - the same values in each run
    letters = "abn$ '\"\\#{}=\n`!%&\t\r:/@é"
    drawn = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(500)]
    values = {f"K{number}": value for number, value in enumerate((*VALUES, *drawn))}
    path = tmp_path / "pa$th.env"
    path.write_text(envfile.format_env_file(values, head=["a comment"]), newline="")
    assert envfile.read_env_file(path) == values


def test_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    """Keys have the order of the file, although Compose sorts them."""
    path = tmp_path / "x.env"
    path.write_text("# B=0\nZ=1\nexport B=2\nA=3\n")
    assert list(envfile.read_env_file(path).items()) == [("Z", "1"), ("B", "2"), ("A", "3")]


@pytest.mark.parametrize("text", ["A=1\nB C=2\n", "A='open\n"])
def test_says_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    """The error for a malformed file names the file."""
    path = tmp_path / "x.env"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.env"):
        envfile.read_env_file(path)


def test_refuses_what_no_environment_can_carry() -> None:
    """A NUL character is refused before anything is written."""
    with pytest.raises(ValueError, match="NUL"):
        envfile.quote_value("a\0b")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\nNAME=caf\xe9\n", "line 2: byte 0xe9 is not UTF-8: save the file as UTF-8"),
        ("A=1\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
        (b"A=1\nB=a\0b\n", "line 2: holds a NUL character"),
    ],
)
def test_names_the_line_of_a_wrong_byte(tmp_path: Path, content: bytes, said: str) -> None:
    """Compose would replace the byte, and the container would get another value than the file has."""
    (tmp_path / "x.env").write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        envfile.read_env_file(tmp_path / "x.env")
    assert str(raised.value).startswith(f"{tmp_path}/x.env: {said}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("IMAGE_TAG=sha-1\n", "IMAGE_TAG=sha-2\n"),
        ("A=1\nIMAGE_TAG=sha-1\nB=2\n", "A=1\nIMAGE_TAG=sha-2\nB=2\n"),
        ("IMAGE_TAG=sha-1 # written by a release\nB=2\n", "IMAGE_TAG=sha-2 # written by a release\nB=2\n"),
        ("export IMAGE_TAG='sha-1'\n", "export IMAGE_TAG='sha-2'\n"),
        ('  IMAGE_TAG = "sha-1"  # now', '  IMAGE_TAG = "sha-2"  # now'),
        ("IMAGE_TAG: sha-1\n", "IMAGE_TAG: sha-2\n"),
        ("IMAGE_TAG=\n", "IMAGE_TAG=sha-2\n"),
        ("IMAGE_TAG= # none yet\n", "IMAGE_TAG= sha-2\n"),  # for Compose the value is `# none yet`
        ("IMAGE_TAG=sha-1\nIMAGE_TAG=sha-0\n", "IMAGE_TAG=sha-2\nIMAGE_TAG=sha-2\n"),
        ("\ufeffIMAGE_TAG=sha-1\r\nB=2\r\n", "\ufeffIMAGE_TAG=sha-2\r\nB=2\r\n"),
        ("\ufeffB=2\r\n", "\ufeffB=2\r\nIMAGE_TAG=sha-2\r\n"),
        ("CERT='a\nIMAGE_TAG=x\n'\nIMAGE_TAG=sha-1", "CERT='a\nIMAGE_TAG=x\n'\nIMAGE_TAG=sha-2"),
        ('CERT="a\\"\nIMAGE_TAG=x"\nB=it\'s\nIMAGE_TAG=sha-1\n', 'CERT="a\\"\nIMAGE_TAG=x"\nB=it\'s\nIMAGE_TAG=sha-2\n'),
        ("# it's IMAGE_TAG=sha-0\nMY_IMAGE_TAG=x", "# it's IMAGE_TAG=sha-0\nMY_IMAGE_TAG=x\nIMAGE_TAG=sha-2\n"),
        ("IMAGE_TAG\nB=2\n", "IMAGE_TAG\nB=2\nIMAGE_TAG=sha-2\n"),  # the name alone passes on a variable of the shell
        ("", "IMAGE_TAG=sha-2\n"),
        ("IMAGE_TAG=sha-2\n", "IMAGE_TAG=sha-2\n"),
    ],
)  # fmt: skip
def test_names_the_release_that_runs(tmp_path: Path, before: str, after: str) -> None:
    """Only the value of the key changes, and Compose reads it back; a file without the key gets it."""
    path = tmp_path / ".env"
    path.write_bytes(before.encode())
    set_env_value(path, "IMAGE_TAG", "sha-2")
    assert path.read_bytes() == after.encode()
    assert envfile.read_env_file(path)["IMAGE_TAG"] == "sha-2"


def test_a_byte_that_is_not_text_is_kept(tmp_path: Path) -> None:
    """A file that was edited after the preflight is rewritten all the same."""
    path = tmp_path / ".env"
    path.write_bytes(b"NAME=caf\xe9\r\nIMAGE_TAG=sha-1\r\n")
    set_env_value(path, "IMAGE_TAG", "sha-2")
    assert path.read_bytes() == b"NAME=caf\xe9\r\nIMAGE_TAG=sha-2\r\n"


QUOTED = st.text("ab\n\r\\#= é'\"", max_size=8)
STATEMENTS = st.one_of(
    st.sampled_from(["IMAGE_TAG=sha-1", "export IMAGE_TAG='sha-1'", '\tIMAGE_TAG : "sha-1" # it\'s', "IMAGE_TAG =sha-1 \t"]),
    st.sampled_from(["", "  ", "# IMAGE_TAG=x", "#'", '# "', "NAME", "export", "exported=1", "B=#", "B= # c", "B=a#b #'"]),
    st.builds("A='{}'".format, QUOTED.map(lambda text: text.replace("'", "\\'"))),
    st.builds('C="{}"'.format, QUOTED.map(lambda text: text.replace('"', '\\"'))),
    st.builds("D={}".format, st.text("ab\\#= \t'\"é\xa0\u2028", max_size=8)),
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATEMENTS, max_size=6), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n", " \n"]))
def test_compose_reads_the_same_but_for_the_tag(rows: list[str], end: str, last: str) -> None:
    """Any file that Compose can read: the other variables stay, and setting the old tag again restores each byte."""
    before = end.join(rows) + last
    with TemporaryDirectory() as folder:
        path = Path(folder) / ".env"
        path.write_bytes(before.encode())
        try:
            values = envfile.read_env_file(path)
        except ConfigError:
            return
        if "" in values:  # a name alone in a last line without an end: Compose takes it for a value
            return
        set_env_value(path, "IMAGE_TAG", "sha-2")
        assert envfile.read_env_file(path) == values | {"IMAGE_TAG": "sha-2"}
        if "IMAGE_TAG" in values:
            set_env_value(path, "IMAGE_TAG", "sha-1")
            assert path.read_bytes() == before.encode()


def test_a_link_stays_a_link_with_its_owner_and_mode(tmp_path: Path) -> None:
    """A symbolic link stays a link, and the target keeps owner and mode."""
    target, link = tmp_path / "secrets" / "green", tmp_path / ".env.green"
    target.parent.mkdir()
    target.write_text("IMAGE_TAG=sha-1\n")
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 12345, 54321)
    before = target.stat()
    link.symlink_to(target)
    set_env_value(link, "IMAGE_TAG", "sha-2")
    after = target.stat()
    assert link.is_symlink()
    assert target.read_text() == "IMAGE_TAG=sha-2\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [each.name for each in target.parent.iterdir()] == ["green"]
