"""Rules for env files: each color alone, against the template, and blue against green."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from urllib.parse import urlsplit

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.masking import MASK, STARS, names_secret
from cutover.core.text import near
from cutover.core.verdict import Finding
from cutover.env.envfile import read_env_file
from cutover.system import process
from cutover.system.compose import Rendered, named_files, override_beside, render
from cutover.system.files import is_private
from cutover.system.registry import reference_fault

Values = Mapping[str, Mapping[str, str]]
"""Color → its variables."""
GIT_DEADLINE_S = 10.0
FLOATING = re.compile(
    r"|alpha|beta|canary|current|dev|devel|develop|development|edge|head|latest|lts|main|master|mainline|next|nightly"
    r"|preview|prod|production|qa|rc|release|snapshot|stable|stage|staging|test|testing|trunk|uat|unstable"
    r"|v\d{1,3}|latest[._-].*|.*[._-]latest",
    re.IGNORECASE,
)
"""Tags that are moved to other images. `v1.2.3`, `1234` and `main-4f1c2aa` name one build."""
PLACEHOLDER = re.compile(
    r"\.{3}|(?-i:TO-?DO)|fixme|placeholder|x{3,}"
    r"|(?:\S*[-_.])?(?:change|replace)[-_ ]?(?:me|this|it)(?:[-_.]\S*|!)?",
    re.IGNORECASE,
)
"""Matched against a whole value, user, password or host: a generated password may contain such letters."""
TODO = re.compile(r"to-?do", re.IGNORECASE)
"""A placeholder of a secret; elsewhere a name that a service may have, unless it is in capitals."""
BRACKETS = re.compile(
    r"(?:^|(?<=[/:@=._-]))(?:<[a-z][a-z0-9 ._/-]*>|\.{3}(?=$))(?=$|[/:@?._-])", re.IGNORECASE
)
"""`<owner>` or a final `...` as one part of a name."""
REFERENCE = re.compile(r"^(?:op|vault|file)://|\{\{\s*(?:op://|vault://|file://|env:)")
URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s,]*", re.IGNORECASE)
PATTERN = re.compile(
    r"[;|][a-z][a-z0-9+.-]*://|:(?:\*|\$?\{[^{}]*\}|\$\w+|%\(\w+\)\w)(?=[/?#]|$)", re.IGNORECASE
)
"""A list of URLs, like `http://+:80;https://+:443`, or a port that stands for others: `http://localhost:*`."""
NEED_A_HOST = frozenset({"http", "https", "ws", "wss"})
"""Other schemes have a default host (`postgresql:///db`) or none at all (`sqlite:///x`)."""
OF_EACH_SHELL = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "HOSTNAME", "LANG", "TERM", "SHLVL",
})  # fmt: skip
"""Variables that are exported in any shell, and are others in a container."""
ENCODE = "percent-encode what the password holds (@ : / ? # % and spaces)"


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One key: what may be shown of its value in each color, and how the values compare."""

    key: str
    shown: Mapping[str, str]
    word: str
    """`same`, `differs`, `differs, as it should`, or `missing`."""


@dataclass(frozen=True, slots=True)
class LintReport:
    """The findings in the env files of all colors, and the comparison of the colors."""

    colors: tuple[str, ...]
    findings: Sequence[Finding] = ()
    rows: Sequence[ParityRow] = ()


# --- checks that read files -------------------------------------------------------------------------------------
def lint_env_files(settings: Settings, environment: Mapping[str, str]) -> LintReport:
    """Check the env file of each color; *environment* is that of the caller. A finding never contains a value."""
    where = {color: str(near(each.env_file)) for color, each in settings.colors.items()}
    findings: list[Finding] = []
    values_of: dict[str, Mapping[str, str]] = {}
    template: Mapping[str, str] = {}
    if settings.env_template is not None:
        try:
            template = read_env_file(settings.env_template)
        except ConfigError as error:
            findings.append(Finding(str(settings.source), f"env_template: {error}", "correct env_template"))
    for color in settings.colors:
        values, found = _lint_color(settings, color, environment)
        findings += found
        if values is not None:
            values_of[color] = values
            findings += incomplete(values, template, where[color])

    own = (settings.env_keys.port, "COMPOSE_PROJECT_NAME", "COLOR")
    database = (settings.database.url_key,) if settings.database else ()
    shared = dict.fromkeys([*database, *(each.url_key for each in settings.dependencies if each.url_key)])
    findings += compare_colors(values_of, where, apart=own, shared=shared)
    env_keys, rows = settings.env_keys, list[ParityRow]()
    if len(values_of) > 1:
        rows = parity_rows(values_of, public=env_keys.public, apart=(*own, env_keys.tag))
    return LintReport(tuple(settings.colors), [*dict.fromkeys(findings)], rows)


def lint_release(settings: Settings, rendered: Rendered, environment: Mapping[str, str]) -> list[str]:
    """Return the findings for one rendered color, one line each; *environment* is that of the caller."""
    where, values = str(settings.colors[rendered.color].env_file), rendered.variables
    template = read_env_file(settings.env_template) if settings.env_template else {}
    found = (
        incomplete(values, template, where),
        _lint_values(settings, values, environment, where, rendered.color),
        _lint_rendered(settings, rendered, where),
    )
    return [*map(str, chain(*found))]


def _lint_color(
    settings: Settings, color: str, environment: Mapping[str, str]
) -> tuple[Mapping[str, str] | None, list[Finding]]:
    # The variables are None if the file cannot be read.
    path = settings.colors[color].env_file
    where = str(near(path))
    if not path.is_file():
        todo = f"write it from the template (colors.{color}.env_file)"
        return None, [Finding(where, "no such file", todo)]
    findings = [*_lint_access(path, where)]
    try:
        values = read_env_file(path)
    except ConfigError as error:
        return None, [*findings, Finding(where, str(error).removeprefix(f"{path}: "), "correct the line")]
    MASK.learn_environment(values, settings.env_keys.public, settings.env_keys.masked)
    findings += _lint_values(settings, values, environment, where, color)
    try:
        findings += [*_lint_rendered(settings, render(settings, color), where)]
    except ConfigError as error:
        findings.append(Finding(where, str(error).removeprefix(f"{path}: "), "correct it"))
    return values, findings


def _lint_values(
    settings: Settings, values: Mapping[str, str], environment: Mapping[str, str], where: str, color: str
) -> Iterator[Finding]:
    yield from placeholders(values, where)
    for key, value in values.items():
        if fault := url_fault(value):
            yield Finding(where, f"{key} is no URL that can be read: {fault[0]}", fault[1])
    yield from exported(values, environment, where)
    if len(settings.colors) > 1:
        yield from own_data(values, settings.data_profiles, where, color)
    yield from unmerged(settings, values, environment, where)


def _lint_rendered(settings: Settings, rendered: Rendered, where: str) -> Iterator[Finding]:
    service, services = settings.service, rendered.model["services"]
    if service not in services:
        what = f"services names {service!r}, which {settings.compose_file} does not have"
        yield Finding(str(settings.source), what, f"it has {', '.join(services)}")
        return
    for each in settings.services:
        if each in services and (fault := reference_fault(rendered.image(each))):
            yield Finding(where, f"service {each!r}: {fault}", "correct its image")
    yield from unpinned(rendered.image(service), rendered.tag(service), where, settings.env_keys.tag)
    if not rendered.port(service):
        what = f"service {service!r} publishes no port"
        yield Finding(str(settings.compose_file), what, "publish one on 127.0.0.1")


def _lint_access(path: Path, where: str) -> Iterator[Finding]:
    us, owner, word = os.geteuid(), path.stat().st_uid, shlex.quote(where)
    if owner not in {us, 0}:
        yield Finding(where, f"belongs to user {owner}", f"chown {us} {word} && chmod 600 {word}")
    elif not is_private(path):
        mode = f"mode {path.stat().st_mode & 0o777:04o}"
        yield Finding(where, f"{mode}, others may read it", f"chmod 600 {word}")
    if is_tracked(path):
        yield Finding(where, "is tracked by git", f"git rm --cached {word}, and renew what it holds")


def is_tracked(path: Path) -> bool:
    """Whether git tracks *path*; False without git or outside of a repository."""
    argv = ("git", "-c", "safe.directory=*", "ls-files", "--error-unmatch", "--", path.name)
    return process.run(argv, deadline_s=GIT_DEADLINE_S, cwd=str(path.parent)).ok


# --- rules ------------------------------------------------------------------------------------------------------
def is_placeholder(value: str, *, secret: bool = False) -> bool:
    """Whether *value*, or its user, password or host, is the placeholder of a template; *secret*: of a secret."""
    user_to_host = _credentials(value)
    secrets = [*user_to_host[1:-1], *([value] if secret else [])]
    if any(map(PLACEHOLDER.fullmatch, (value, *user_to_host))) or any(map(TODO.fullmatch, secrets)):
        return True
    rest, found = BRACKETS.subn("", value)
    return bool(found) and not re.search(r"\s", rest)  # `Shop <shop>` is a real value


def _credentials(value: str) -> list[str]:
    _, separator, rest = value.partition("://")
    if not separator:
        return []
    user, _, host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    return [*user.split(":", 1), host.rsplit(":", 1)[0]]


def incomplete(values: Mapping[str, str], template: Mapping[str, str], where: str) -> Iterator[Finding]:
    """Yield a finding for each key of *template* that is not in *values*. An empty value is allowed.

    A value that must not be empty is declared in the Compose file: `${DATABASE_URL:?}`.
    """
    for key in (each for each in template if each not in values):
        close = difflib.get_close_matches(key, values.keys() - template.keys(), n=1)
        todo = f"is {close[0]} meant?" if close else "add it"
        yield Finding(where, f"{key} is missing, the template has it", todo)


def placeholders(values: Mapping[str, str], where: str) -> Iterator[Finding]:
    """Yield a finding for each value that is still a placeholder or a reference."""
    for key, value in values.items():
        if REFERENCE.search(value):
            yield Finding(where, f"{key} still holds a reference", "write it by `cutover env render`")
        elif is_placeholder(value, secret=names_secret(key)):
            yield Finding(where, f"{key} still holds its placeholder", "give it its value")


def unpinned(image: str, tag: str, where: str, tag_key: str) -> Iterator[Finding]:
    """Yield a finding for a tag that is moved to other images."""
    if "@sha256:" not in image and FLOATING.fullmatch(tag):
        what = f"{tag_key}={tag or '(empty)'} is not pinned"
        yield Finding(where, what, "use a tag that never moves, like sha-<commit>")


def url_fault(value: str) -> tuple[str, str] | None:
    """Return what is wrong with a URL and what to do, without any part of the URL; None if nothing is.

    A value that is not exactly one URL (a list, a pattern, a policy, a `jdbc:` name, a path) is not judged.
    """
    if not URL.fullmatch(value) or PATTERN.search(value):
        return None
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "its port is no number up to 65535", f"correct the port; if it has none, {ENCODE}"
    if parts.netloc.count("@") > 1:
        return "there is more than one @ before its path", ENCODE
    if not parts.netloc and parts.scheme in NEED_A_HOST:
        return "it names no host", "write scheme://host"
    return ("its port is 0", "name the port") if port == 0 else None


def exported(values: Mapping[str, str], environment: Mapping[str, str], where: str) -> Iterator[Finding]:
    """Yield a finding for each variable of the shell that would override the file in a manual `docker compose`."""
    for key, value in values.items():
        if key not in OF_EACH_SHELL and environment.get(key, value) != value:
            what = f"{key} is exported in this shell with another value, which would win"
            yield Finding(where, what, f"unset {key}")


def unmerged(
    settings: Settings, values: Mapping[str, str], environment: Mapping[str, str], where: str
) -> Iterator[Finding]:
    """Yield a finding for compose files that `docker compose up` would merge and a release would not."""
    base, ours = settings.source.parent, [settings.compose_file, *settings.compose_overrides]
    chosen = "compose_overrides" in settings.model_fields_set
    for origin, variables in ((where, values), ("the shell", environment)):
        named = named_files(variables)
        chosen = chosen or bool(named)
        folders = (settings.compose_file.parent, Path.cwd())
        if named and not any([folder / name for name in named] == ours for folder in folders):
            what = f"COMPOSE_FILE names {', '.join(named)}, and a release uses {_names(ours, base)}"
            further = f", compose_overrides = {json.dumps(named[1:])}" if named[1:] else ""
            todo = f"compose_file = {json.dumps(named[0])}{further} in cutover.toml, or unset COMPOSE_FILE"
            yield Finding(origin, what, todo)
    beside = override_beside(settings.compose_file)
    if beside and not chosen:
        what = f"docker compose merges it onto {settings.compose_file.name}, and a release would not"
        name = json.dumps(_names([beside], base))
        todo = f"compose_overrides = [{name}] in cutover.toml, or compose_overrides = [] to leave it out"
        yield Finding(_names([beside], base), what, todo)


def _names(paths: Sequence[Path], base: Path) -> str:
    return ", ".join(str(near(each, base)) for each in paths)


def own_data(values: Mapping[str, str], profiles: Iterable[str], where: str, color: str) -> Iterator[Finding]:
    """Yield a finding if *color* would start its own empty database."""
    if wanted := sorted(set(values.get("COMPOSE_PROFILES", "").split(",")) & set(profiles)):
        what = f"COMPOSE_PROFILES={','.join(wanted)}: {color} would start its own empty {wanted[0]}"
        yield Finding(where, what, "move it to .env.deploy, both colors share the data")


def compare_colors(
    colors: Values, where: Mapping[str, str], *, apart: Iterable[str], shared: Iterable[str]
) -> Iterator[Finding]:
    """Yield a finding for each key that a color lacks, and for each wrong value.

    Keys of *apart* must differ between two colors; keys of *shared* (URLs of shared data) must not.
    """
    keys = dict.fromkeys(key for values in colors.values() for key in values)
    for name, values in colors.items():
        for key in (each for each in keys if each not in values):
            what = f"{key} is missing, another color has it"
            yield Finding(where[name], what, "add it, or take it from both")
    rules = (
        (apart, True, "the same as", "give each color its own"),
        (shared, False, "another than", "both colors must use the same data"),
    )
    for some, same_is_wrong, what, todo in rules:
        for (one, first), (two, second) in combinations(colors.items(), 2):
            for key in (each for each in some if each in first and each in second):
                given = first[key] or second[key]
                if given and (first[key] == second[key]) is same_is_wrong:
                    yield Finding(where[two], f"{key} is {what} {one}'s", todo)


# --- the colors side by side ------------------------------------------------------------------------------------
def parity_rows(colors: Values, *, public: Collection[str], apart: Collection[str]) -> list[ParityRow]:
    """Return one row for each key of any color. Values are shown only for *public* keys; *apart* keys may differ."""
    rows = []
    for key in dict.fromkeys(key for values in colors.values() for key in values):
        values = {name: found.get(key) for name, found in colors.items()}
        shown = {name: _shown_value(value, public=key in public) for name, value in values.items()}
        word = "differs, as it should" if key in apart else "differs"
        if None in values.values():
            word = "missing"
        elif len(set(values.values())) == 1:
            word = "same"
        rows.append(ParityRow(key, shown, word))
    return rows


def _shown_value(value: str | None, *, public: bool) -> str:
    if value is None:
        return "-"
    if not value:
        return "(empty)"
    return value if public else STARS


def parity_table(rows: Sequence[ParityRow], names: Sequence[str]) -> list[str]:
    """Return the rows as aligned lines below a header."""
    cells = [("key", *names, "")]
    cells += [(row.key, *(row.shown[name] for name in names), row.word) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    pad = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    return ["  ".join(line).rstrip() for line in pad]
