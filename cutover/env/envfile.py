"""Env files: read as Compose reads them, written so that Compose reads the same back, with references resolved.

A reference names a secret of 1Password, Vault, a file or a variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cutover.core.errors import ConfigError
from cutover.core.masking import MASK
from cutover.system import process
from cutover.system.compose import read_text, read_variables
from cutover.system.files import write_atomically

BOM = "\ufeff"
SPACE = r"[\t\v\f\r \x85\xa0]"
STATEMENT = re.compile(
    rf"""(?:\s|\#[^\n]*+)*+(?:export\s+)?(?P<key>[^=:\s][^=:\n]*?){SPACE}*+
    (?: \n | \Z | [=:]{SPACE}*+ (?P<value>
        '(?:\\.|[^'\\])*+' | "(?:\\.|[^"\\])*+" | (?!['"])[^\n]*?(?={SPACE}*(?:[ ]\#[^\n]*)?(?:\n|\Z))
    ))""",
    re.DOTALL | re.VERBOSE,
)
"""A statement as the dotenv parser of Compose reads it; without `value` for a name that only passes a variable on."""
ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote_value(value: str) -> str:
    """Return *value* as it is written after `ENV_KEY=`; raises ValueError for a NUL character."""
    if "\0" in value:
        raise ValueError("holds a NUL character, which no environment can carry")
    # Single quotes are literal in every Compose v2; double quotes only for what they cannot hold.
    if not {"'", "\r"} & set(value) and not value.endswith("\\"):
        return f"'{value}'"
    return '"' + "".join(ESCAPES.get(character, character) for character in value) + '"'


def format_env_file(values: Mapping[str, str], *, head: Iterable[str] = ()) -> str:
    """Return the text of an env file with *values*, below the comment lines *head*."""
    rows = [f"# {line}" for line in head]
    rows += [f"{key}={quote_value(value)}" for key, value in values.items()]
    return "\n".join([*rows, ""])


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of *path* in the order of the file; raises ConfigError that names file and line."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    values = read_variables(path)
    in_file = dict.fromkeys(each["key"] for each in statements(read_text(path)))  # Compose sorts by name
    return {key: values[key] for key in [*in_file, *values] if key in values}


def statements(text: str) -> Iterator[re.Match[str]]:
    """Yield each statement that Compose finds in the env file *text*, with `key` and `value`; a value may be quoted."""
    at = len(BOM) if text.startswith(BOM) else 0
    while found := STATEMENT.match(text, at):
        at = found.end()
        if found["value"] is not None:
            yield found


def set_env_value(env_file: Path, key: str, value: str) -> None:
    """Set *key* to *value* in *env_file*, in a new line if it is not there; no other byte changes.

    Comments, order, quotes, line ends, owner and mode of the file are kept.
    """
    old = env_file.read_bytes().decode(errors="surrogateescape")
    new = with_value(old, key, value)
    if new != old:
        content = new.encode(errors="surrogateescape")
        write_atomically(env_file, content, mode=env_file.stat().st_mode & 0o777)


def with_value(text: str, key: str, value: str) -> str:
    """Return the env file *text* in which each statement for *key* has *value*, in the quotes that are there."""
    parts, at = [], 0
    for each in statements(text):
        if each["key"] == key:
            quote = each["value"][:1] if each["value"][:1] in {"'", '"'} else ""
            parts += [text[at : each.start("value")], quote, value, quote]
            at = each.end("value")
    if parts:
        return "".join([*parts, text[at:]])
    end = "\r\n" if "\r\n" in text else "\n"
    before = end if text.removeprefix(BOM) and not text.endswith("\n") else ""
    return f"{text}{before}{key}={value}{end}"


# --- references to secrets -----------------------------------------------------------------------------------
OP_DEADLINE_S = 30.0
VAULT_DEADLINE_S = 10
NOT_FOUND = 127  # exit code of a shell for a missing command
SCHEMES = ("op://", "vault://", "file://", "env:")
# A reference is a whole value, or in double braces inside one: redis://:{{ op://… | url }}@cache/0
# `file:/data/app.db` is no reference but the way Prisma names an SQLite database.
WHOLE = re.compile(rf"(?P<reference>(?:{'|'.join(SCHEMES)})\S.*)")
INSIDE = re.compile(r"\{\{\s*(?P<reference>[^{}|]*[^{}|\s])\s*(?P<url>\|\s*url\s*)?\}\}")
HEAD = "Written by `cutover env render` from {name}: change that one, and render again."
VaultClient = Any  # hvac has no annotations


class UnresolvedReference(Exception):
    """A reference that could not be resolved. The text is the reason and never contains a value."""


def find_references(value: str) -> list[str]:
    """Return the references in one value, in their order."""
    whole = WHOLE.fullmatch(value)
    return [whole["reference"]] if whole else [found["reference"] for found in INSIDE.finditer(value)]


def fill_references(value: str, found: Mapping[str, str]) -> str:
    """Return *value* with each reference replaced by its secret, percent-encoded after `| url`."""
    if WHOLE.fullmatch(value):
        return found[value]

    def fill(match: re.Match[str]) -> str:
        secret = found[match["reference"]]
        return quote(secret, safe="") if match["url"] else secret

    return INSIDE.sub(fill, value)


@dataclass(slots=True)
class SecretSources:
    """Resolves references by the 1Password CLI, a Vault, files, and the environment of the caller."""

    environment: Mapping[str, str]
    _vault: VaultClient = None
    _secrets: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def fetch(self, reference: str) -> str:
        """Return the secret of *reference*, masked from now on; raises UnresolvedReference."""
        sources: dict[str, Callable[[str], str]] = {
            "op://": self._from_op, "vault://": self._from_vault,
            "file://": self._from_file, "env:": self._from_environment,
        }  # fmt: skip
        for scheme, source in sources.items():
            if reference.startswith(scheme):
                value = source(reference)
                MASK.learn([value])
                return value
        raise UnresolvedReference(f"unknown kind of reference: {', '.join(SCHEMES)} are known")

    def _from_environment(self, reference: str) -> str:
        name = reference.removeprefix("env:")
        if not self.environment.get(name):
            raise UnresolvedReference(f"{name} is {'empty' if name in self.environment else 'not set'}")
        return self.environment[name]

    def _from_file(self, reference: str) -> str:
        path = Path("/" + reference.removeprefix("file://").lstrip("/"))
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n")
        except OSError as error:
            raise UnresolvedReference(f"{error.strerror}".lower()) from error
        except UnicodeDecodeError as error:
            raise UnresolvedReference("is no text in UTF-8") from error

    def _from_op(self, reference: str) -> str:
        # OP_* is what the CLI signs in with.
        kept = {key: value for key, value in self.environment.items() if key.startswith(("OP_", "XDG_"))}
        kept["PATH"] = self.environment.get("PATH", process.FIXED_PATH)
        argv = ("op", "read", "--no-newline", reference)
        done = process.run(argv, deadline_s=OP_DEADLINE_S, environment=kept, mask=False)
        if done.code == NOT_FOUND:
            raise UnresolvedReference("the 1Password CLI `op` is not installed here")
        if not done.ok:
            raise UnresolvedReference(f"op: {MASK(done.last_line)}")
        return done.out

    def _from_vault(self, reference: str) -> str:
        place, _, key = reference.removeprefix("vault://").partition("#")
        if not key or "/" not in place.strip("/"):
            raise UnresolvedReference("is not vault://mount/path#key")
        if place not in self._secrets:
            self._vault = self._vault or _vault_client(self.environment)
            self._secrets[place] = _vault_secret(self._vault, *place.strip("/").split("/", 1))
        secret = self._secrets[place]
        if key not in secret:
            raise UnresolvedReference(f"has no key {key!r}, it has {', '.join(sorted(secret)) or 'none'}")
        if not isinstance(secret[key], (str, int, float)):
            raise UnresolvedReference(f"its key {key!r} is no text")
        return str(secret[key])


def _vault_client(environment: Mapping[str, str]) -> VaultClient:
    try:
        import hvac  # an optional dependency
    except ImportError as error:
        raise UnresolvedReference("hvac is not installed: pip install 'pytest-cutover[vault]'") from error
    if not environment.get("VAULT_ADDR"):
        raise UnresolvedReference("VAULT_ADDR is not set")
    client = hvac.Client(
        url=environment["VAULT_ADDR"],
        token=environment.get("VAULT_TOKEN") or "",
        namespace=environment.get("VAULT_NAMESPACE") or None,
        verify=environment.get("VAULT_CACERT") or True,
        timeout=VAULT_DEADLINE_S,
    )
    if not client.token:
        role, secret = environment.get("VAULT_ROLE_ID"), environment.get("VAULT_SECRET_ID")
        if not role or not secret:
            raise UnresolvedReference("neither VAULT_TOKEN nor VAULT_ROLE_ID with VAULT_SECRET_ID is set")
        login = partial(client.auth.approle.login, role_id=role, secret_id=secret)
        _vault_request(login, "the AppRole was refused")
    return client


def _vault_secret(client: VaultClient, mount: str, path: str) -> Mapping[str, Any]:
    from hvac.exceptions import InvalidPath

    # A KV engine of version 2, else of version 1.
    kv = client.secrets.kv
    new = partial(kv.v2.read_secret_version, path, mount_point=mount, raise_on_deleted_version=True)
    with suppress(InvalidPath):
        return dict(_vault_request(new)["data"]["data"])
    with suppress(InvalidPath):
        return dict(_vault_request(partial(kv.v1.read_secret, path, mount_point=mount))["data"])
    raise UnresolvedReference(f"there is no secret {path!r} in {mount!r}")


def _vault_request(
    request: Callable[[], Any], refused: str = "permission denied: look at VAULT_TOKEN and its policy"
) -> Any:
    from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, VaultError
    from requests.exceptions import RequestException

    try:
        return request()
    except InvalidPath:  # for the caller
        raise
    except (Forbidden, InvalidRequest) as error:
        raise UnresolvedReference(refused) from error
    except VaultError as error:
        raise UnresolvedReference(f"the Vault answered {type(error).__name__}") from error
    except RequestException as error:
        why = f"the Vault at VAULT_ADDR does not answer ({type(error).__name__})"
        raise UnresolvedReference(why) from error


def resolve_template(
    template: Mapping[str, str], sources: SecretSources, *, kept: Mapping[str, str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Return the values of *template* with their references resolved, overridden by *kept* for its own keys.

    If a reference cannot be resolved, the values are empty, and the second item says for each which and why.
    """
    found, missing, own = dict[str, str](), list[str](), dict(kept or {})
    for key, value in template.items():
        for reference in find_references(value):
            try:
                found[reference] = found.get(reference) or sources.fetch(reference)
                quote_value(found[reference])
            except (UnresolvedReference, ValueError) as error:
                missing.append(f"{key}: {reference}: {error}")
    if missing:
        return {}, missing
    return {key: own.get(key, fill_references(value, found)) for key, value in template.items()}, []


def render_env_file(
    template: Path, out: Path, sources: SecretSources, *, keep: Collection[str] = ()
) -> list[str]:
    """Write *out* (mode 0600) from *template*, or return why not: each reference that cannot be resolved.

    Keys of *keep* keep their value in *out*: a release has rewritten the tag there, and it must not be reset.
    """
    old = read_env_file(out) if out.is_file() else {}
    kept = {key: value for key, value in old.items() if key in keep}
    values, missing = resolve_template(read_env_file(template), sources, kept=kept)
    if not missing:
        write_atomically(out, format_env_file(values, head=[HEAD.format(name=template.name)]))
    return missing
