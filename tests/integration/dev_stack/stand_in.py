"""A whole stack of small programs under the real supervisor: `python stand_in.py supervise HOME READY_FILE […]`.

The same file is each of its children: `edge PORT`, `role TOUCH`, `bootstrap`.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import subprocess
import sys
import time
from pathlib import Path

ME = (sys.executable, str(Path(__file__).resolve()))


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def edge(port: int) -> None:
    http.server.HTTPServer(("127.0.0.1", port), _Healthy).serve_forever()


def role(touch: Path, *, with_child: bool) -> None:
    if with_child:  # what a sandboxed parser would be
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    touch.write_text("ready")
    time.sleep(600)


def bootstrap(home: Path) -> None:
    given = json.loads(sys.stdin.read() or "null")
    if given is not None:
        (home / "bootstrapped.json").write_text(json.dumps(given))


def supervise(arguments: argparse.Namespace) -> None:
    from ragline.dev_stack.errors import DevStackError
    from ragline.dev_stack.narrator import Narrator
    from ragline.dev_stack.roles import Commands
    from ragline.dev_stack.supervisor import DevOptions, Supervisor
    from ragline.settings import load_settings

    broken = (sys.executable, "-c", "import sys; sys.exit('setting models: broken on purpose')")
    commands = Commands(
        edge=lambda port: (*ME, "edge", str(port)),
        worker=lambda touch: broken if arguments.broken_worker else (*ME, "role", str(touch), "--with-child"),
        relay=lambda touch: (*ME, "role", str(touch)),
        bootstrap=(*ME, "bootstrap", str(arguments.home)),
    )
    options = DevOptions(
        home=arguments.home,
        port=arguments.port,
        n_edges=arguments.edges,
        ready_file=arguments.ready_file,
        embedded=arguments.embedded,
        commands=commands,
    )
    try:
        asyncio.run(Supervisor(options, load_settings(home=arguments.home), Narrator()).run())
    except DevStackError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("edge").add_argument("port", type=int)
    as_role = parts.add_parser("role")
    as_role.add_argument("touch", type=Path)
    as_role.add_argument("--with-child", action="store_true")
    parts.add_parser("bootstrap").add_argument("home", type=Path)
    whole = parts.add_parser("supervise")
    whole.add_argument("home", type=Path)
    whole.add_argument("ready_file", type=Path)
    whole.add_argument("--embedded", action="store_true")
    whole.add_argument("--broken-worker", action="store_true")
    whole.add_argument("--edges", type=int, default=1)
    whole.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    match arguments.part:
        case "edge":
            edge(arguments.port)
        case "role":
            role(arguments.touch, with_child=arguments.with_child)
        case "bootstrap":
            bootstrap(arguments.home)
        case _:
            supervise(arguments)


if __name__ == "__main__":
    main()
