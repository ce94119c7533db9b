"""The schema of `cutover.toml`: no key without an effect; durations."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import BaseModel

from cutover.core import config_schema
from cutover.core.config import Settings

ROOT = Path(__file__).parents[3]


def last_name(node: ast.AST) -> str:
    """The name that an expression ends with: `endpoints` of `settings.endpoints[0]` and `self.endpoints.values()`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name not in {"items", "values", "model_copy"}:
            return name
        case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Call(func=inner):
            return last_name(inner)
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(body=first) | ast.NamedExpr(value=first):
            return last_name(first)
    return ""


class Module:
    """What a module annotates, binds and reads, by the last names of the expressions."""

    def __init__(self, path: Path) -> None:
        self.annotated: list[tuple[str, set[str]]] = []
        self.bound: list[tuple[str, str]] = []
        self.read: list[tuple[str, str]] = []
        nodes = [*ast.walk(ast.parse(path.read_bytes()))]
        texts = [
            each.value for each in nodes if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        for node in nodes:
            match node:
                case ast.arg(arg=name, annotation=ast.expr() as hint):
                    self._annotate(name, hint)
                case ast.AnnAssign(target=target, annotation=hint):
                    self._annotate(last_name(target), hint)
                case ast.ClassDef(name=name, bases=[ast.Name(id="Section") | ast.Attribute(attr="Section")]):
                    self.annotated.append(("self", {name}))
                case ast.Assign(targets=[target], value=value) | ast.NamedExpr(target=target, value=value):
                    self._bind(target, value)
                case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                    self._bind(target, value)
                case ast.Attribute(value=value, attr=key):
                    self.read.append((last_name(value), key))
                case ast.Call(func=ast.Name(id="getattr"), args=[value, _, *_]):
                    self.read += [(last_name(value), text) for text in texts]

    def _annotate(self, name: str, hint: ast.expr) -> None:
        self.annotated.append((name, {each.id for each in ast.walk(hint) if isinstance(each, ast.Name)}))

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        names = (each for each in ast.walk(target) if isinstance(each, ast.Name | ast.Attribute))
        self.bound += [(last_name(each), last_name(value)) for each in names]


MODULES = [
    Module(path)
    for folder in ("cutover", "smoke", "checks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def tables() -> dict[type[BaseModel], set[str]]:
    """Each table with the keys of the file that hold it; `Endpoint` is held by `endpoints`."""
    found: dict[type[BaseModel], set[str]] = {Settings: set()}
    for name, field in Settings.model_fields.items():
        for table in models_in(field.annotation):
            found.setdefault(table, set()).add(name)
    return found


def models_in(annotation: object) -> list[type[BaseModel]]:
    """The tables in an annotation like `tuple[Endpoint, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for part in getattr(annotation, "__args__", ()) for each in models_in(part)]


def keys_read(table: type[BaseModel], keys: set[str]) -> set[str]:
    """The attributes that are read of *table*, which *keys* of the file hold."""
    fields = keys | {
        name
        for module in MODULES
        for name, hints in module.annotated
        if table.__name__ in hints and name != "self"
    }
    read: set[str] = set()
    for module in MODULES:
        own = {name for name, hints in module.annotated if name == "self" and table.__name__ in hints}
        names = fields | own
        for _ in range(2):  # a name that is bound to a bound name
            names |= {name for name, value in module.bound if value in names}
        read |= {key for value, key in module.read if value in names}
    return read


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.__name__)
def test_every_key_is_read(table: type[BaseModel]) -> None:
    """A documented key that nothing reads would be accepted without an effect."""
    assert set(table.model_fields) - keys_read(table, tables()[table]) == set()


def test_a_key_that_is_not_read_is_found() -> None:
    """A key does not count as read because another object has an attribute of that name: snapshots have a `head`."""
    assert "head" not in keys_read(config_schema.Migrate, {"migrate"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("90s", 90.0), ("1m30s", 90.0), ("2h", 7200.0), ("1.5d", 129600.0)]
)
def test_reads_a_duration(text: str, seconds: float) -> None:
    """A duration is a number of units, or several."""
    assert config_schema.parse_duration(text) == seconds


@pytest.mark.parametrize("value", [5, 5.0, True, "", "5", "5 s", "5 parsecs", "1m 30s", "s"])
def test_refuses_a_duration_without_a_unit(value: object) -> None:
    """The message shows the value, the units, and an example."""
    with pytest.raises(ValueError, match=r"is no duration: write it with a unit \(ms, s, m, h, d\), like"):
        config_schema.parse_duration(value)
