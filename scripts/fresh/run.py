"""Commands are words; here they are run, with a deadline, and without a terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from scripts.fresh.steps import StopError, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

Words = tuple[str, ...]
# How the answer of a command begins that was ended by its deadline.
MUTE = "no end after"
# Administrators' tools are not in the PATH of every user who may still look at them.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Done(NamedTuple):
    """How a command ended; code None: it did not within its deadline, or could not be started."""

    code: int | None
    output: str

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0


def which(name: str) -> str | None:
    """Where the tool *name* is, also when only administrators have it in their PATH."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN)))


def ask(words: Words, *, seconds: float, env: Mapping[str, str] | None = None) -> Done:
    """Run *words* and answer how they ended, whatever happens."""
    try:
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**os.environ, **(env or {})},
        )
    except subprocess.TimeoutExpired:
        return Done(None, f"{MUTE} {seconds:.0f} s")
    except OSError as error:
        return Done(None, str(error))
    return Done(done.returncode, done.stdout)


def must(words: Words, *, seconds: float, env: Mapping[str, str] | None = None) -> str:
    """Run *words* and answer what they printed; stop, with the end of it, when they fail."""
    done = ask(words, seconds=seconds, env=env)
    if not done.ok:
        how = "did not end in time" if done.code is None else f"ended with {done.code}"
        raise StopError(f"{shlex.join(words)} {how}\n{tail(done.output)}")
    return done.output
