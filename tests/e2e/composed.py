"""compose.yml without containers: its services of the image `ragline`, each as a process of this machine.

Command, entry point, environment, health check and grace period are those of compose.yml and deploy/Dockerfile. What a
container changes is put right by name: other services' addresses, the ports of one's own, and the folders.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from deploy.part_of_lock import part_of_lock
from ragline.dev_stack.home import free_port, is_free
from tests.stack import eventually

ROOT = Path(__file__).resolve().parents[2]
IN_IMAGE = Path(__file__).with_name("in_image.py")
IMAGES_HOME, IMAGES_PORT, ANY_ADDRESS = "/var/lib/ragline", "8080", "0.0.0.0"
_VARIABLE = re.compile(r"\$\{(\w+)(?::?[-?]([^}]*))?\}")
_WITHOUT = re.compile(r"--without ([\w-]+)")


@dataclass
class Composition:
    """`variables` are those of .env; `addresses` say what stands for `kafka:9092` and its like."""

    folder: Path
    variables: Mapping[str, str]
    addresses: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = _VARIABLE.sub(lambda found: self.variables.get(found[1], found[2]), (ROOT / "compose.yml").read_text())
        for name, address in self.addresses.items():
            assert name in text
            text = text.replace(name, address)
        self.services: dict[str, Any] = yaml.safe_load(text)["services"]
        self.image = _image_environment()
        self.home, self.tmp = self.folder / "home", self.folder / "tmp"
        self.home.mkdir()
        self.tmp.mkdir()
        self.hidden = self.folder / "not-in-the-image.txt"
        self.hidden.write_text("\n".join(sorted(_modules_outside_the_image())))
        taken: set[int] = set()
        self.ports = {name: free_port(taken=taken) for name in self.services}

    def start(self, name: str) -> None:
        """Starts the service. Holds before: what it depends on is there."""
        service = self.services[name]
        command = [*service.get("entrypoint", ["ragline"]), *service["command"]]
        with self.log_file(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                self._in_image(name, command),
                cwd=self.home,
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, name: str, *, within_s: float) -> None:
        """Starts a service that ends, and waits until it is `service_completed_successfully`."""
        self.start(name)
        assert self.running.pop(name).wait(timeout=within_s) == 0, self.log(name)

    def wait_healthy(self, name: str, *, within_s: float) -> None:
        """Runs the service's health check until it passes; not before somebody listens, which costs less to ask."""
        process, check = self.running[name], self.services[name]["healthcheck"]["test"]
        assert check[0] == "CMD"

        def passes() -> bool:
            assert process.poll() is None, self.log(name)
            return not is_free(self.ports[name]) and self.check(name, check[1:]).returncode == 0

        eventually(passes, within_s=within_s, why=lambda: self.log(name))

    def check(self, name: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        """A command beside the service, in the same container as it were."""
        at = [argument.replace(f"127.0.0.1:{IMAGES_PORT}", f"127.0.0.1:{self.ports[name]}") for argument in command]
        return subprocess.run(
            self._in_image(name, at),
            cwd=self.home,
            env=self._environment(name),
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> dict[str, int]:
        """SIGTERM for all at once, as `docker compose stop`; exit codes. Raises: TimeoutExpired beyond the grace."""
        began = time.monotonic()
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.running.items():
            grace_s = float(str(self.services[name]["stop_grace_period"]).removesuffix("s"))
            codes[name] = process.wait(timeout=grace_s - (time.monotonic() - began))
        self.running.clear()
        return codes

    def abandon(self) -> None:
        """Ends everything, whatever state it is in."""
        for process in self.running.values():
            process.kill()
            process.wait()
        self.running.clear()

    def log_file(self, name: str) -> Path:
        """What the service writes."""
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        """The end of what the service wrote."""
        return f"{name}:\n{self.log_file(name).read_text(errors='replace')[-3000:]}"

    def _in_image(self, name: str, command: list[str]) -> list[str]:
        writable = [self.tmp]
        if any(str(mount).endswith(f":{IMAGES_HOME}") for mount in self.services[name].get("volumes", ())):
            writable.append(self.home)
        return [sys.executable, str(IN_IMAGE), ":".join(map(str, writable)), str(self.hidden), *command]

    def _environment(self, name: str) -> dict[str, str]:
        """What a container has: nothing of this process's own. `TMPDIR` stands for a /tmp of the container's own."""
        container = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.tmp)}
        told = {key: str(value) for key, value in self.services[name]["environment"].items()}
        port = str(self.ports[name])
        ours = {
            "RAGLINE_EDGE__PORT": port,
            "RAGLINE_TELEMETRY__METRICS_PORT": port,
            "RAGLINE_TELEMETRY__METRICS_HOST": "127.0.0.1",
        }
        return (
            container | self.image | told | ours | {"RAGLINE_HOME": str(self.home), "RAGLINE_EDGE__HOST": "127.0.0.1"}
        )


def _image_environment() -> dict[str, str]:
    """The last stage's ENV, but for the PATH."""
    stage = (ROOT / "deploy/Dockerfile").read_text().rpartition("\nFROM ")[2]
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", stage, re.MULTILINE)
    found = dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())
    assert found["RAGLINE_HOME"] == IMAGES_HOME
    assert found["RAGLINE_EDGE__HOST"] == ANY_ADDRESS
    return {name: value for name, value in found.items() if name != "PATH"}


def _modules_outside_the_image() -> set[str]:
    """Top-level modules of installed packages that the image leaves out."""
    left_out = frozenset(_WITHOUT.findall((ROOT / "deploy/Dockerfile").read_text()))
    held = {
        _normal(name) for name in part_of_lock((ROOT / "requirements.lock").read_text(), "ragline", without=left_out)
    }
    inside, outside = {"ragline"}, set[str]()
    for distribution in metadata.distributions():
        name = _normal(distribution.name)
        modules = {
            file.parts[0].removesuffix(".py").partition(".")[0]
            for file in distribution.files or ()
            if file.suffix in {".py", ".so"} and not file.parts[0].startswith("..")
        }
        (inside if name in held or name == "ragline" else outside).update(modules)
    return outside - inside


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
