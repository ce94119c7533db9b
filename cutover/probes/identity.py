"""Whether what answers is the very container that was deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutover.container import Container
from cutover.engine import EngineSilent, inspect, published_by
from cutover.verdict import Verdict, no, unknown, yes

EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  addresses that we read, not ones that we bind


@dataclass(frozen=True, slots=True)
class Expected:
    """Who should be there; what is empty is not compared."""

    image: str = ""
    """The image ID: a moved tag recreates with the same config hash."""
    container: str = ""
    config_hash: str = ""
    port: int = 0
    """The host port that the target is asked on."""


def identity(container_id: str, expected: Expected) -> Verdict:
    """Ask the engine who *container_id* is and who owns the port."""
    try:
        seen = inspect(container_id)
        owners = published_by(expected.port) if expected.port else []
    except EngineSilent as error:
        return unknown("identity", str(error))
    return judge_identity(seen, owners, expected)


def judge_identity(seen: Container | None, owners: Sequence[Container], expected: Expected) -> Verdict:
    """Yes when image, container, configuration and the owner of the port are all as expected."""
    if seen is None:
        return no(
            "identity", f"container {expected.container[:12]} is gone", expected=expected.container[:12]
        )
    problems = [
        f"runs {what} {short(is_)}, expected {short(should)}"
        for what, is_, should in (
            (f"image {seen.image_name}", seen.image, expected.image),
            ("as container", seen.id, expected.container),
            ("configuration", seen.config_hash, expected.config_hash),
        )
        if should and is_ != should
    ]
    problems += [_port_problem(seen, owners, expected.port)] if expected.port else []
    evidence: dict[str, Any] = {
        "container": seen.short, "name": seen.name, "image": short(seen.image), "image_name": seen.image_name,
        "config_hash": short(seen.config_hash), "ports": _flat(seen.ports),
    }  # fmt: skip
    found = [problem for problem in problems if problem]
    if found:
        return no("identity", "; ".join(found), **evidence)
    return yes("identity", f"{seen.image_name} in {seen.name} ({seen.short}){_on(expected.port)}", **evidence)


def _on(port: int) -> str:
    return f", which alone has port {port}" if port else ""


def _port_problem(seen: Container, owners: Sequence[Container], port: int) -> str:
    """Why *seen* is not the one that answers on *port*; empty when it is."""
    mine = _addresses(seen, port)
    others = [each for each in owners if each.id != seen.id and _overlap(_addresses(each, port), mine)]
    if others:
        return f"port {port} belongs to another container: {others[0].name} ({others[0].image_name})"
    return "" if mine else f"{seen.name} ({seen.status}) does not publish port {port}"


def _overlap(theirs: set[str], mine: set[str]) -> bool:
    """Whether a request to one of *my* addresses may reach *them*; who has none loses to anybody."""
    return not mine or bool(theirs & mine) or bool((theirs | mine) & EVERYWHERE)


def _addresses(container: Container, port: int) -> set[str]:
    bindings = [each for group in container.ports.values() for each in group or ()]
    return {each.get("HostIp", "") for each in bindings if str(each.get("HostPort")) == str(port)}


def _flat(ports: Mapping[str, Any]) -> dict[str, str]:
    return {
        inner: ", ".join(f"{each.get('HostIp', '')}:{each.get('HostPort', '')}" for each in group or ())
        or "-"
        for inner, group in ports.items()
    }


def short(name: str) -> str:
    """An ID or hash as people compare it: its first twelve characters, with the algorithm left out."""
    return name.removeprefix("sha256:")[:12] or "(none)"
