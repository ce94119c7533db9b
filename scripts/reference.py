"""Write docs/reference.md from the code: python -m scripts.reference.

The tables come from docstrings, help texts and the schema of cutover.toml; the sentences between them are in
reference.md.j2. `tests/repo/test_reference.py` fails if the page is not what this program writes.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from annotated_types import Ge, Gt, Le
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cutover.cli.main import cutover
from cutover.core.config import Settings, url_config
from cutover.core.config_schema import UNITS
from cutover.core.result import EXIT_MEANINGS, EXIT_NAMES
from cutover.plugin import fixtures, hookspecs, options
from cutover.release.notify import HookEvent, hook_variables

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference.md"
LONGEST_DEFAULT = 160
VARIABLE = re.compile(
    r"(?:CUTOVER|DOCKER|GHCR|GITHUB|VAULT|XDG)_[A-Z_]*[A-Z]|NO_COLOR|FORCE_COLOR|SSH_AUTH_SOCK"
)
# The environment variables that the code reads; a name that is missing here, or not in the code, is an error.
VARIABLES = {
    "CUTOVER_CONFIG": "the `cutover.toml` to use; `--cutover-config` overrides it",
    "CUTOVER_STATE_DIR": "overrides `state_dir`",
    "CUTOVER_REPORTS": "overrides `reports`",
    "CUTOVER_WHO": "who releases, for the lock and the journal; default: `GITHUB_ACTOR`, `SUDO_USER`, the login",
    "CUTOVER_APPROVED_TAG": "approves the switch to this tag, in place of the prompt of `[approval] required`",
    "CUTOVER_STEP_LOCK_S": "how many seconds the undo script waits for a step that still runs; default 600",
    "CUTOVER_GUARD_TRIES": "how often the guard of a dead session tries to revert; default 120",
    "CUTOVER_GUARD_PAUSE_S": "seconds between these tries; default 5",
    "DOCKER_HOST": "the address of the engine",
    "DOCKER_CONTEXT": "the context of the docker CLI, if `DOCKER_HOST` is not set",
    "DOCKER_CONFIG": "the folder of the docker CLI's configuration",
    "DOCKER_TLS_VERIFY": "as for the docker CLI",
    "DOCKER_CERT_PATH": "as for the docker CLI",
    "GHCR_USERNAME": "the user to pull with from `ghcr.io`; without it, the stored login of `docker login`",
    "GHCR_TOKEN": "the token of that user",
    "GHCR_HOST": "the registry that user and token are for, in place of `ghcr.io`",
    "GITHUB_ACTIONS": "`true`: failed checks are also printed as annotations",
    "GITHUB_STEP_SUMMARY": "the file that the job summary is appended to",
    "GITHUB_TOKEN": "the token of `cutover report comment`",
    "GITHUB_API_URL": "the API that this token is sent to; GitHub Actions sets it",
    "GITHUB_SERVER_URL": "the server whose tickets may be commented on; GitHub Actions sets it",
    "GITHUB_REPOSITORY": "names the run that a comment links to; GitHub Actions sets it",
    "GITHUB_RUN_ID": "as `GITHUB_REPOSITORY`",
    "GITHUB_ACTOR": "as `CUTOVER_WHO`",
    "SSH_AUTH_SOCK": "the agent of ssh, for `--hosts` and `[platform] nodes`",
    "NO_COLOR": "no colors",
    "FORCE_COLOR": "colors also where the output is no terminal",
    "VAULT_ADDR": "the Vault of `cutover env render`",
    "VAULT_TOKEN": "its token",
    "VAULT_ROLE_ID": "AppRole, in place of a token",
    "VAULT_SECRET_ID": "as `VAULT_ROLE_ID`",
    "VAULT_NAMESPACE": "the namespace of the Vault",
    "VAULT_CACERT": "the file of the authority that signed its certificate",
    "XDG_STATE_HOME": "where the state directory is for a user other than root; default `~/.local/state`",
}
COMMON_OPTIONS = {"config", "as_json", "help", "version"}
TYPES = {
    "Period": "duration above 0s", "Regex": "regular expression", "tuple[Regex, ...]": "list of regular expressions",
    "UrlPath": "path of a URL", "HttpUrl": "URL", "Token": "text", "Variable": "name of a variable",
    "tuple[Name, ...]": "list of names", "tuple[HostName, ...]": "list of names",
    "tuple[Batch, ...]": "list of numbers or shares", "tuple[Period, ...]": "list of durations above 0s",
    "tuple[Token, ...]": "list of texts",
    "tuple[DifferenceKind, ...]": "list of kinds, see compare.md", "dict[str, HostName]": "table of names",
    "dict[ResponseHeader, HeaderValue]": "table of texts", "dict[ResponseHeader, str]": "table of texts",
    "dict[HostName, FrontUrl]": "table of URLs",
    "str": "text", "int": "integer", "float": "number", "bool": "true or false", "Json": "any value",
    "Duration": "duration", "ConfigPath": "path",
    "tuple[ConfigPath, ...]": "list of paths", "tuple[str, ...]": "list of texts",
    "dict[str, str]": "table of texts", "JsonTable": "table", "str | bool": "text, true or false",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """One key of cutover.toml."""

    name: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table of cutover.toml; the keys outside of any table have no heading."""

    heading: str
    text: str
    keys: list[Key]


def tables() -> Iterator[Table]:
    """Each table, the keys outside of any table first."""
    nested = {name: found for name, field in Settings.model_fields.items() if (found := table_in(field))}
    outside = [name for name in Settings.model_fields if name not in nested and name != "source"]
    yield Table("", "", list(keys_of(Settings, outside)))
    for model in nested.values():
        heading, _, text = inspect.cleandoc(model.__doc__ or "").partition(": ")
        yield Table(heading, text[:1].upper() + text[1:], list(keys_of(model, list(model.model_fields))))


def table_in(field: FieldInfo) -> type[BaseModel] | None:
    """The model that the field holds, also in a list or a mapping."""
    for part in parts_of(field.annotation):
        if inspect.isclass(part) and issubclass(part, BaseModel):
            return part
    return None


def parts_of(annotation: Any) -> Iterator[Any]:
    """The annotation and everything in its brackets."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from parts_of(part)


def keys_of(model: type[BaseModel], names: list[str]) -> Iterator[Key]:
    """The keys *names*; raises LookupError for one without a docstring."""
    (body,) = (
        each.body for each in ast.parse(inspect.getsource(model)).body if isinstance(each, ast.ClassDef)
    )
    for field, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if not isinstance(field, ast.AnnAssign) or ast.unparse(field.target) not in names:
            continue
        name = ast.unparse(field.target)
        found = after.value if isinstance(after, ast.Expr) else None
        text = " ".join(str(found.value).split()) if isinstance(found, ast.Constant) else ""
        if not text:
            raise LookupError(f"{model.__name__}.{name} has no docstring")
        info = model.model_fields[name]
        written = ast.unparse(field.annotation).replace("schema.", "")
        default = default_of(info, is_duration="Duration" in written or "Period" in written)
        yield Key(info.alias or name, values_of(written.removesuffix(" | None"), info), default, text)


def values_of(written: str, info: FieldInfo) -> str:
    """The allowed values, from the annotation as it is written and the bounds of the field."""
    if written.startswith("Literal"):
        literal = next(
            (each for each in get_args(info.annotation) if get_origin(each) is Literal), info.annotation
        )
        return ", ".join(f'`"{each}"`' for each in get_args(literal))
    if written.startswith("dict[Literal"):
        return "table of texts: " + ", ".join(f"`{each}`" for each in get_args(get_args(info.annotation)[0]))
    bounds = [
        f"{word} {limit:g}"
        for kind, name, word in ((Ge, "ge", "from"), (Gt, "gt", "above"), (Le, "le", "to"))
        for each in info.metadata
        if isinstance(each, kind) and isinstance(limit := getattr(each, name), int | float)
    ]
    return " ".join([TYPES[written], *bounds])


def default_of(info: FieldInfo, *, is_duration: bool) -> str:
    """The default as the file would have it; empty for none."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value in (None, "", (), {}):
        return ""
    text = in_toml(in_units(value) if is_duration else value)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "built in"


def in_units(seconds: float) -> str:
    """A duration in the largest unit of which it is a multiple."""
    fits = [unit for unit, length in UNITS.items() if seconds >= length and (seconds / length).is_integer()]
    return f"{seconds / UNITS[fits[-1]]:g}{fits[-1]}"


def in_toml(value: object) -> str:
    """The value in the syntax of TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {in_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(str(value) if isinstance(value, PurePath) else value, ensure_ascii=False)


# --- the plugin and the commands -------------------------------------------------------------------------------------
def pytest_options() -> Iterator[tuple[str, str]]:
    """Each option of the plugin with its help."""
    parser = pytest.Parser(_ispytest=True)
    options.add_options(parser)
    for each in parser.getgroup("cutover").options:
        attributes = each.attrs()
        metavar = attributes.get("metavar")
        yield f"{each.names()[0]}{f'={metavar}' if metavar else ''}", str(attributes["help"])


def described_fixtures() -> Iterator[tuple[str, str]]:
    """Each fixture with its docstring, in the order of the module."""
    for node in ast.parse(inspect.getsource(fixtures)).body:
        if isinstance(node, ast.FunctionDef) and node.name in options.FIXTURES:
            yield node.name, ast.get_docstring(node) or ""


def hooks() -> Iterator[tuple[str, str]]:
    """Each hook with its arguments, and its docstring."""
    for name in (each for each in vars(hookspecs) if each.startswith("pytest_cutover_")):
        found = getattr(hookspecs, name)
        yield f"{name}({', '.join(inspect.signature(found).parameters)})", inspect.cleandoc(found.__doc__)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `cutover`."""

    usage: str
    text: str
    options: list[tuple[str, str]]


def commands(group: click.Group = cutover, path: str = "cutover") -> Iterator[Command]:
    """Each command, those of a group in place of the group."""
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")
        elif found is not None:
            yield described(found, f"{path} {name}")


def described(command: click.Command, path: str) -> Command:
    """The command with its arguments and its own options."""
    context = click.Context(command)
    arguments = [each.make_metavar(context) for each in command.params if isinstance(each, click.Argument)]
    own = [
        each for each in command.params if isinstance(each, click.Option) and each.name not in COMMON_OPTIONS
    ]
    rows = [
        (f"{each.opts[-1]}{'' if each.is_flag else ' ' + each.make_metavar(context)}", each.help or "")
        for each in own
    ]
    # click's \b stands before a paragraph that is not wrapped.
    text = re.sub(
        "\b\n(.+?)(?=\n\n|$)", r"```text\n\1\n```", inspect.cleandoc(command.help or ""), flags=re.DOTALL
    )
    return Command(" ".join([path, *arguments]), text, rows)


# --- the environment -------------------------------------------------------------------------------------------------
def variables_in_code() -> set[str]:
    """The environment variables that modules and shell scripts of the package name."""
    found: set[str] = set()
    for path in sorted((ROOT / "cutover").rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_bytes()))
        words = {
            node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= {word for word in words if VARIABLE.fullmatch(word)}
    for path in sorted((ROOT / "cutover").rglob("*.sh")):
        found |= set(re.findall(r"\$\{(CUTOVER_[A-Z_]+)", path.read_text(encoding="utf-8")))
    return found


def cell(text: str) -> str:
    """The text as a cell of a table, options in the type of code."""
    line = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(?<![`\w-])--[a-z][a-z-]*", r"`\g<0>`", line)


def page() -> str:
    """The text of docs/reference.md."""
    environment = Environment(
        loader=FileSystemLoader(ROOT / "scripts"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,  # noqa: S701  # Markdown, of our own texts
    )  # fmt: skip
    environment.filters["cell"] = cell
    known = variables_in_code()
    if known != VARIABLES.keys():
        raise ValueError(f"VARIABLES and the code differ: {sorted(known ^ VARIABLES.keys())}")
    return environment.get_template("reference.md.j2").render(
        tables=list(tables()), options=list(pytest_options()), fixtures=list(described_fixtures()),
        hooks=list(hooks()), commands=list(commands()), codes=EXIT_NAMES, meanings=EXIT_MEANINGS,
        variables=VARIABLES, hook_variables=list(hook_variables(url_config(), HookEvent(""), datetime.now(UTC))),
    )  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
