"""A Vault or OpenBao, asked through hvac, which is loaded only when a reference leads there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cutover.env.references import Unresolved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEADLINE_S = 10
Client = Any  # hvac ships no annotations


def client(environment: Mapping[str, str]) -> Client:
    """A signed-in client from VAULT_ADDR and VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID."""
    try:
        import hvac
    except ImportError as error:
        raise Unresolved("hvac is not installed: pip install 'pytest-cutover[vault]'") from error
    address = environment.get("VAULT_ADDR")
    if not address:
        raise Unresolved("VAULT_ADDR is not set")
    made = hvac.Client(
        url=address,
        token=environment.get("VAULT_TOKEN") or "",
        namespace=environment.get("VAULT_NAMESPACE") or None,
        verify=environment.get("VAULT_CACERT") or True,
        timeout=DEADLINE_S,
    )
    if not made.token:
        _sign_in(made, environment)
    return made


def _sign_in(made: Client, environment: Mapping[str, str]) -> None:
    """Sign in by AppRole; raises Unresolved naming what is missing or refused."""
    role, secret = environment.get("VAULT_ROLE_ID"), environment.get("VAULT_SECRET_ID")
    if not role or not secret:
        raise Unresolved("neither VAULT_TOKEN nor VAULT_ROLE_ID with VAULT_SECRET_ID is set")
    _bounded(lambda: made.auth.approle.login(role_id=role, secret_id=secret), "the AppRole was refused")


def read(made: Client, mount: str, path: str) -> Mapping[str, Any]:
    """The keys of one secret of a KV engine, version 2 or 1; raises Unresolved."""
    from hvac.exceptions import InvalidPath

    kv = made.secrets.kv
    try:
        answer = _bounded(
            lambda: kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
        )
        found: Mapping[str, Any] = answer["data"]["data"]
    except InvalidPath:
        try:
            found = _bounded(lambda: kv.v1.read_secret(path, mount_point=mount))["data"]
        except InvalidPath:
            raise Unresolved(f"there is no secret {path!r} in {mount!r}") from None
    return found


def _bounded(
    ask: Callable[[], Client], refused: str = "permission denied: look at VAULT_TOKEN and its policy"
) -> Client:
    """The answer of one request; all but "no such path" becomes a reason in one line."""
    from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, VaultError
    from requests.exceptions import RequestException

    try:
        return ask()
    except InvalidPath:
        raise
    except (Forbidden, InvalidRequest) as error:
        raise Unresolved(refused) from error
    except VaultError as error:
        raise Unresolved(f"the Vault answered {type(error).__name__}") from error
    except RequestException as error:
        raise Unresolved(f"the Vault at VAULT_ADDR does not answer ({type(error).__name__})") from error
