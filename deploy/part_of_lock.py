"""`python part_of_lock.py LOCK ROOT [--without NAME]…`: the part of requirements.lock that ROOT needs, hashes and all.

ROOT is `ragline` (what it runs with, nothing that only its developers use) or a package. The image is built with this,
so that one lock serves developers and image; it runs with a bare Python. What only NAME needs is left out as well.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT_OF_ALL = "ragline (pyproject.toml)"
_PIN = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==")


def part_of_lock(lock: str, root: str, *, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """What `root` needs, by package: its pins as they stand in `lock` (one a Python version, where they differ).

    Raises: KeyError if `lock` does not know `root`.
    """
    pins, needed_by = _pins(lock)
    found = {ROOT_OF_ALL} if root == "ragline" else {root}
    if not any(root == name or found & who for name, who in needed_by.items()):
        raise KeyError(root)
    while more := {name for name, who in needed_by.items() if who & found} - found - without:
        found |= more
    return {name: pin for name, pin in pins.items() if name in found}


def _pins(lock: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Every pin with its hashes, and who needs it: uv writes that below it, as comments."""
    pins: dict[str, str] = {}
    needed_by: dict[str, set[str]] = {}
    name = ""
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name = pin[1]
            pins.setdefault(name, "")
            needed_by.setdefault(name, set())
        if name and line.startswith("    #"):
            needed_by[name].add(line.strip("# ").removeprefix("via").strip())
        elif name:
            pins[name] += f"{line}\n"
    return pins, needed_by


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("root")
    parser.add_argument("--without", action="append", default=[])
    given = parser.parse_args()
    print(*part_of_lock(given.lock.read_text(), given.root, without=frozenset(given.without)).values(), sep="", end="")
