"""compose.yml and the Dockerfile say what the program understands. (They are not started here: no containers.)"""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from ragline.cli.main import app
from ragline.settings import Settings
from tests.lint.tree import PACKAGES, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("image") == "ragline"}


def _is_setting(variable: str) -> bool:
    fields: Any = Settings.model_fields
    for name in variable.removeprefix("RAGLINE_").lower().split("__"):
        if name not in fields:
            return False
        fields = getattr(fields[name].annotation, "model_fields", {})
    return True


def test_every_variable_is_a_setting() -> None:
    named = {name for service in OURS.values() for name in service["environment"] if name.startswith("RAGLINE_")}
    named |= set(re.findall(r"RAGLINE_\w+", DOCKERFILE))
    assert len(named) > 5
    assert {name for name in named if not _is_setting(name)} == set()


def test_every_command_is_one() -> None:
    commands = set(getattr(get_command(app), "commands"))  # noqa: B009 - click's group has them
    asked = {service["command"][0] for service in OURS.values() if "entrypoint" not in service}
    assert asked == {"init", "edge", "worker", "relay"}
    assert asked <= commands


def test_every_variable_of_compose_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yml").read_text()))
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked == example


def test_what_is_waited_for_and_mounted_exists_and_tells_its_health() -> None:
    for service in COMPOSE["services"].values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in COMPOSE["services"][other]
        for mount in service.get("volumes", ()):
            assert mount.partition(":")[0] in COMPOSE["volumes"]


def test_the_image_holds_every_package_and_runs_as_nobody_in_particular() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied == set(PACKAGES)
    assert "USER ragline" in DOCKERFILE
    assert all(service["read_only"] for service in OURS.values())
