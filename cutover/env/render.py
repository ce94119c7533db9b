"""Writes an env file from a template with references: all of it or nothing, readable by its owner only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cutover.durable import write_atomically
from cutover.env import dotenv
from cutover.env.references import Sources, Unresolved, filled, references

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

HEAD = "Written by `cutover env render` from {name}: change that one, and render again."


@dataclass(frozen=True, slots=True)
class Missing:
    """A reference that led to nothing: the key that holds it, the reference, and why."""

    key: str
    reference: str
    reason: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.key}: {self.reference}: {self.reason}"


def resolve(
    template: Mapping[str, str], sources: Sources, *, kept: Mapping[str, str] | None = None
) -> tuple[dict[str, str], list[Missing]]:
    """The template's values with each reference replaced, and what could not be; *kept* values win."""
    found: dict[str, str] = {}
    missing: list[Missing] = []
    for key, value in template.items():
        for reference in references(value):
            try:
                found[reference] = found.get(reference) or sources.fetch(reference)
                dotenv.quoted(found[reference])
            except (Unresolved, ValueError) as error:
                missing.append(Missing(key, reference, str(error)))
    if missing:
        return {}, missing
    return {key: filled(value, found) for key, value in template.items()} | dict(kept or {}), []


def render(template: Path, out: Path, sources: Sources, *, keep: Collection[str] = ()) -> list[Missing]:
    """Write *out* from *template*; with anything missing nothing is written. Keys of *keep* stay as they are.

    A release rewrites the tag in the colour's env file; rendering again must not put an older one back.
    """
    kept = {}
    if out.is_file():
        kept = {key: value for key, value in dotenv.read(out).items() if key in keep}
    asked = dotenv.read(template)
    values, missing = resolve(asked, sources, kept={key: kept[key] for key in kept if key in asked})
    if not missing:
        write_atomically(out, dotenv.written(values, head=[HEAD.format(name=template.name)]))
    return missing
