"""The front proxies of deploy/front, run on ports of a test."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support import debian
from tests.support.need import cannot_run
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
FRONT = ROOT / "deploy" / "front"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile", "traefik": "traefik-dynamic.yaml"}
TRAEFIK = ROOT / ".make" / "deploy" / "bin" / "traefik"
LISTENS = {
    "nginx": ("listen 80;", "listen 127.0.0.1:{port};"),
    "haproxy": ("bind :80\n", "bind 127.0.0.1:{port}\n"),
    "caddy": ("http://:80 {{", "http://:{port} {{"),
}

_AROUND_NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  {text}
}}
"""


@contextlib.contextmanager
def fronted(program: str, folder: Path, replicas: Sequence[int]) -> Iterator[int]:
    """Run `program` as deploy/front has it, before replicas on these ports; yields its own port."""
    if program != "traefik":
        debian.require(program)
    elif not TRAEFIK.exists():
        cannot_run("needs Traefik: `make test-deploy` installs it")
    port = free_port()
    path = folder / FILES[program]
    path.write_text(configuration(program, folder, port, replicas))
    command = {
        "nginx": ["nginx", "-c", path, "-p", folder],
        "haproxy": ["haproxy", "-f", path, "-db"],
        "caddy": ["caddy", "run", "--config", path, "--adapter", "caddyfile"],
        "traefik": [
            TRAEFIK,
            f"--providers.file.filename={path}",
            f"--entrypoints.web.address=127.0.0.1:{port}",
            "--entrypoints.web.transport.respondingTimeouts.readTimeout=0",
        ],
    }[program]
    home = os.environ | {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}  # Caddy keeps things there
    with (
        (folder / f"{program}.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=home) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not _is_ready(port):
                assert process.poll() is None, (folder / f"{program}.log").read_text()
                assert time.monotonic() < deadline, f"{program} does not listen"
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    """Whether it passes requests on, be it to replicas that are not there yet. Traefik first listens, then reads its file."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code != 404
    except OSError:
        return False


def configuration(program: str, folder: Path, port: int, replicas: Sequence[int]) -> str:
    """The shipped file, with the test's ports; a file that names more replicas than there are names some twice."""
    text = (FRONT / FILES[program]).read_text()
    if program in LISTENS:  # Traefik is told by its command
        shipped, ours = (each.format(port=port) for each in LISTENS[program])
        assert text.count(shipped) == 1
        text = text.replace(shipped, ours)
    names = sorted(set(re.findall(r"127\.0\.0\.1:808\d", text)))
    for name, replica in zip(names, itertools.cycle(replicas), strict=False):
        text = text.replace(name, f"127.0.0.1:{replica}")
    match program:
        case "nginx":
            return _AROUND_NGINX.format(folder=folder, text=text)
        case "caddy":
            return "{\n\tadmin off\n}\n" + text
        case _:
            return text
