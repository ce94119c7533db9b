"""Measure scripts/demo on a fresh machine: Debian 12 with Python, as root without systemd, run twice.

The machine is a container with its own Docker engine and only python3 installed. Debian packages come from the base
image's mirror, Python packages from a folder with the pinned wheels. In the second run Docker is already installed.
"""

from __future__ import annotations

import argparse
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import write
from benchmarks.common import say, table
from tests.helpers.ssh_server import RIGHTS

ROOT = Path(__file__).parents[1]
SCRIPT = """
mount -o remount,bind,rw /sys/fs/cgroup
for group in /sys/fs/cgroup/*; do mount -o remount,bind,rw "$group" 2>/dev/null || :; done
apt-get -qq update && apt-get -qq install --no-install-recommends python3 >/dev/null 2>&1
cp -r /checkout /srv/cutover
cd /srv/cutover
for run in 1 2; do
    echo "--- run $run"
    date +%s.%N
    scripts/demo
    echo "--- exit $?"
    date +%s.%N
done
"""
STEP = re.compile(r"^((?:venv|engine|apt|compose|base image): .+) \.\.\. ([\d.]+) s$", re.MULTILINE)
RUN = re.compile(r"^--- run \d\n([\d.]+)\n(.*?)^--- exit (\d+)\n([\d.]+)$", re.MULTILINE | re.DOTALL)
LAST = re.compile(r"^\d of \d as they must, in (\d+) s$", re.MULTILINE)


def wheels(folder: Path) -> None:
    """Download the packages pinned in constraints.txt to *folder*."""
    words = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest")
    subprocess.run((*words, str(folder), "-r", str(ROOT / "constraints.txt")), check=True)


def demo_twice(checkout: Path, packages: Path) -> str:
    """Output of the container that runs the demo twice."""
    name = f"cutover-bench-fresh-{secrets.token_hex(3)}"
    mounts = (f"{name}:/var/lib/docker", f"{checkout}:/checkout:ro", f"{packages}:/wheels:ro")
    volumes = tuple(word for mount in mounts for word in ("--volume", mount))
    pip = ("--env", "PIP_NO_INDEX=1", "--env", "PIP_FIND_LINKS=/wheels")
    words = ("docker", "run", "--rm", "--name", name, *RIGHTS, *volumes, *pip, "debian:bookworm-slim")
    try:
        done = subprocess.run(
            (*words, "sh", "-c", SCRIPT), capture_output=True, text=True, check=False, timeout=1200
        )
    finally:
        subprocess.run(("docker", "rm", "--force", name), capture_output=True, check=False)
        subprocess.run(("docker", "volume", "rm", "--force", name), capture_output=True, check=False)
    return done.stdout + done.stderr


def told(printed: str, where: str) -> str:
    """Markdown text of the section."""
    rows = []
    for number, (began, said, code, ended) in enumerate(RUN.findall(printed), 1):
        acts = LAST.search(said)
        for step, seconds in STEP.findall(said):
            # Replace root's home directory: the page must not contain paths of the machine.
            rows.append(
                (number, step.replace(str(Path("~root").expanduser()), "~"), f"{float(seconds):.1f} s")
            )
        rows.append(
            (number, "all acts" if acts else "**the acts did not end**", f"{acts[1]} s" if acts else "")
        )
        rows.append((number, f"**in all, exit {code}**", f"{float(ended) - float(began):.0f} s"))
    return "\n".join(
        [
            "## A fresh machine",
            "",
            f"`python -m benchmarks.bench_fresh` · {where}",
            "",
            "`scripts/demo` twice on a bare Debian 12 (a container with nothing but python3, root, no systemd, an",
            "engine of its own). Wheels from a folder, Debian's packages from a mirror near by.",
            "",
            *table(("run", "step", "took"), rows),
        ]
    )


def main() -> int:
    """Measure, print and write the results; 0 only if both runs exited with 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    where = write.machine()
    with tempfile.TemporaryDirectory(prefix="bench-fresh-") as folder:
        packages, checkout = Path(folder, "wheels"), Path(folder, "checkout")
        wheels(packages)
        subprocess.run(("git", "clone", "--quiet", str(ROOT), str(checkout)), check=True)
        printed = demo_twice(checkout, packages)
    codes = [code for _, _, code, _ in RUN.findall(printed)]
    if codes != ["0", "0"]:
        say(printed[-5000:])
        return 1
    text = told(printed, where)
    say(text)
    if not options.dry:
        write.section("fresh", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
