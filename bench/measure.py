"""One cell: one proxy under one load, as a flat record of figures.

The upstream, then the proxy, is started anew; the proxy is asked until it answers 200, left alone for a second,
warmed up, and then measured. Proxy on CPU 0; upstream, load generator and this program on CPU 1, but for the rows
that ask for all CPUs. Its CPU time is that of its whole process tree over the measured run only. Everything ends by
itself, within known time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes, tools
from bench.peers import Peer, Site
from bench.processes import HARNESS_CPU, PROXY_CPU
from bench.tools import WORK, CannotMeasure
from bench.workloads import Workload

Record = dict[str, Any]

CONTENT = "Hello, say something"
GRACE_S = 10.0
"""How much longer than the upstream answers may take that are under way when the measured time is over."""

WARM_UP = ("-c", "16", "-t", "1.5", "-r", "2000", "-g", "20")

SATURATED, LATE = 0.95, 1.1
"""A proxy could not carry a paced load if it used more of its CPU than this, if half of the answers took so many times
longer than the upstream does, or if some were left unfinished."""


@dataclass(frozen=True)
class Far:
    """A running upstream and what asks through the proxy: enough to make requests and read counters."""

    site: Site
    pid: int

    def generate(self, peer: Peer, workload: Workload, *extra: str, content: str, timeout_s: float) -> dict[str, Any]:
        """Run the load generator; its line of JSON."""
        port = self.site.port if peer.command else self.site.upstream_port
        body_file = self.site.folder / "body.json"
        body_file.write_text(_body(streamed=workload.streamed, content=content))
        command: list[str | Path] = [WORK / "loadgen", "-p", str(port), "-P", peer.path, "-b", body_file]
        command += ["-e", str(workload.tokens)]
        command += ["-d"] if workload.streamed else []
        for header in peer.rendered_headers(self.site):
            command += ["-H", header]
        done = subprocess.run([*command, "-v", *extra], capture_output=True, timeout=timeout_s, check=True)
        figures: dict[str, Any] = json.loads(done.stdout)
        figures["first_bad"] = done.stderr.decode(errors="replace")[:500]
        return figures


def measure(peer: Peer, workload: Workload, *, seconds: float | None = None, pin: bool = True) -> Record:
    """The figures of one cell; an `error` instead of them where the proxy did not come up or broke."""
    seconds = seconds or workload.seconds
    pin = pin and peer.pinned
    record: Record = {"proxy": peer.name, "load": workload.name, "streams": workload.streams, "seconds": seconds}
    try:
        with tempfile.TemporaryDirectory(prefix="cell-", dir=WORK) as folder:
            record |= _measure(peer, workload, seconds, Path(folder), pin)
    except (CannotMeasure, subprocess.SubprocessError, OSError) as error:
        record["error"] = str(error)
    return record


def _measure(peer: Peer, workload: Workload, seconds: float, folder: Path, pin: bool) -> Record:
    if workload.tls and not peer.command:
        raise CannotMeasure("the load generator itself does not speak TLS")
    if workload.tls and not tools.has_tls():
        raise CannotMeasure("TLS needs OpenSSL's headers and command (Debian: apt-get install libssl-dev openssl)")
    certificates = tools.certificate() if workload.tls else None
    with (
        processes.on_cpu(HARNESS_CPU if pin else None),
        processes.running(_upstream(workload, certificates), stdout=subprocess.PIPE) as upstream,
    ):
        assert upstream.stdout
        upstream_port = int(upstream.stdout.readline().split()[-1])
        far = Far(Site(_free_port(), upstream_port, folder, certificates, _free_port()), upstream.pid)
        if not peer.command:
            return _load(peer, workload, seconds, far, None)
        if peer.is_client:
            return _read_by_itself(peer, workload, seconds, far, pin)
        peer.write_config(far.site)
        with (
            (folder / "log").open("wb") as log,
            processes.running(peer.rendered_beside(far.site)) if peer.beside else contextlib.nullcontext(),
            processes.running(
                peer.rendered_command(far.site),
                cpu=PROXY_CPU if pin else None,
                environment=peer.rendered_environment(far.site),
                folder=folder,
                log=log,
            ) as proxy,
        ):
            start_s = _until_ready(peer, far.site, proxy, folder / "log")
            time.sleep(1)  # what it does after it has begun to serve is not idling
            idle_mb = processes.memory_kb(proxy.pid) / 1024
            figures = _load(peer, workload, seconds, far, proxy.pid)
        return figures | {"start_s": round(start_s, 3), "idle_mb": round(idle_mb, 1)}


def _read_by_itself(peer: Peer, workload: Workload, seconds: float, far: Far, pin: bool) -> Record:
    """The figures of a program that stands in the place of proxy and load generator, and measures itself."""
    log = far.site.folder / "log"
    command = peer.rendered_command(far.site, streams=workload.streams, seconds=seconds, tokens=workload.tokens)
    environment = peer.rendered_environment(far.site)
    with (
        log.open("wb") as words,
        processes.running(
            command, cpu=PROXY_CPU if pin else None, environment=environment, log=words, stdout=subprocess.PIPE
        ) as program,
    ):
        try:
            line, _ = program.communicate(timeout=peer.ready_s + 2 * seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            line = b""
    if not line:
        raise CannotMeasure(f"{peer.name} gave no figures. Its last words:\n{log.read_text(errors='replace')[-1000:]}")
    figures = json.loads(line)
    return _record(workload, figures, 0.0) | _costs(workload, figures, figures["cpu_s"])


def _load(peer: Peer, workload: Workload, seconds: float, far: Far, proxy: int | None) -> Record:
    far.generate(peer, workload, *WARM_UP, content="hurry", timeout_s=60)
    time.sleep(0.3)
    run = ("-c", str(workload.streams), "-R", str(workload.apart_us), "-t", str(seconds))
    run += ("-g", str(workload.answer_s + GRACE_S))
    timeout_s = seconds + workload.answer_s + GRACE_S + 15
    harness_before, began = _harness_cpu_s(far.pid), time.monotonic()
    costs: Record = {}
    if proxy is None:
        figures = far.generate(peer, workload, *run, content=CONTENT, timeout_s=timeout_s)
    else:
        kb_before, cpu_before = processes.memory_kb(proxy, "Pss"), processes.cpu_s_each(proxy)
        probe = Probe(far.site.port) if workload.probed else contextlib.nullcontext()
        follower = Follower(peer, far.site) if peer.followed else contextlib.nullcontext()
        with processes.PeakMemory(proxy) as peak, probe, follower:
            figures = far.generate(peer, workload, *run, content=CONTENT, timeout_s=timeout_s)
            cpu = {pid: cpu_s - cpu_before.get(pid, 0) for pid, cpu_s in processes.cpu_s_each(proxy).items()}
        costs = _costs(workload, figures, sum(cpu.values()), busiest_s=max(cpu.values()))
        if isinstance(probe, Probe):
            costs["new_connection_max_us"] = probe.longest_us
        costs["kb_per_stream"] = round(max(0, peak.kb - kb_before) / workload.streams, 1)
    elapsed = time.monotonic() - began
    return _record(workload, figures, (_harness_cpu_s(far.pid) - harness_before) / elapsed) | costs


class Probe:
    """Asks for `/healthz` five times a second, each time on a new connection, as a liveness probe does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.longest_us = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.2):
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                pass  # the time it took says it
            finally:
                connection.close()
            self.longest_us = max(self.longest_us, round((time.monotonic() - began) * 1e6))


class Follower:
    """Reads an endless answer of the peer, as an open page reads its events."""

    def __init__(self, peer: Peer, site: Site) -> None:
        self._what = f"{peer.name} at {peer.followed}"
        head = [f"GET {peer.followed} HTTP/1.1", "Host: 127.0.0.1", *peer.rendered_headers(site), "", ""]
        self._socket = socket.create_connection(("127.0.0.1", site.port), timeout=20)
        self._socket.sendall("\r\n".join(head).encode())
        status = self._socket.recv(64 * 1024).partition(b"\r\n")[0]
        if b" 200 " not in status:
            self._socket.close()
            raise CannotMeasure(f"{self._what}: {status.decode()!r}")
        self.thread = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        followed = self.thread.is_alive()
        with contextlib.suppress(OSError), self._socket:
            self._socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        if not followed:
            raise CannotMeasure(f"{self._what}: its answer ended while it was followed")

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(64 * 1024):
                pass


def _record(workload: Workload, figures: dict[str, Any], harness: float) -> Record:
    record: Record = {
        "succeeded": figures["succeeded"],
        "failed": figures["failed"] + figures["unfinished"],
        "elapsed_s": figures["elapsed_s"],
        "tokens": figures["tokens"],
        "harness_cpu": round(harness, 2),
    }
    if figures["requests_per_s"]:  # else no answer fits into the measured time
        record |= {name: figures[name] for name in ("requests_per_s", "tokens_per_s")}
    if record["failed"]:
        reasons = ("bad_status", "bad_tokens", "bad_end", "bad_connection", "unfinished", "first_bad")
        record["failures"] = {reason: figures[reason] for reason in reasons if figures[reason]}
    # An unstamped upstream answers at once, so that all of the wait was the proxy's.
    first_token = figures.get("first_token_added_us" if workload.stamped else "first_token_us")
    for name, series in (("first_token", first_token), ("token", figures.get("token_added_us"))):
        if series:
            record |= {f"{name}_{quantile}_us": series[quantile] for quantile in ("p50", "p90", "p99", "max")}
    return record


def _costs(workload: Workload, figures: dict[str, Any], cpu_s: float, *, busiest_s: float | None = None) -> Record:
    share = cpu_s / figures["elapsed_s"]
    usual_s = figures.get("total_us", {}).get("p50", 0) / 1e6
    late = usual_s > LATE * workload.answer_s
    costs: Record = {
        "cpu_s": round(cpu_s, 2),
        "cpu_share": round(share, 2),
        "saturated": workload.stamped and (share > SATURATED or late or figures["unfinished"] > 0),
    }
    if figures["tokens"]:
        costs["cpu_us_per_token"] = round(cpu_s / figures["tokens"] * 1e6, 3)
    if figures["succeeded"]:
        costs["cpu_ms_per_request"] = round(cpu_s / figures["succeeded"] * 1e3, 4)
        if busiest_s is not None:
            costs["busiest_ms_per_request"] = round(busiest_s / figures["succeeded"] * 1e3, 4)
    return costs


def _upstream(workload: Workload, certificates: Path | None) -> list[str | Path]:
    command: list[str | Path] = [WORK / "upstream", "-n", str(workload.tokens), "-i", str(workload.pause_us)]
    command += ["-s"] if workload.stamped else []
    return command + (["-c", certificates / "leaf.pem", "-k", certificates / "leaf.key"] if certificates else [])


def _body(*, streamed: bool, content: str) -> str:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "gpt-4o-mini", "stream": streamed, "messages": messages})


def _until_ready(peer: Peer, site: Site, proxy: subprocess.Popen[bytes], log: Path) -> float:
    """Ask for a short answer until one comes; seconds since the start. Raises `CannotMeasure`, with its last words."""
    began, last = time.monotonic(), "nothing"
    while time.monotonic() - began < peer.ready_s:
        try:
            status, text = _ask(site.port, peer.path, peer.rendered_headers(site))
            if status == 200:
                return time.monotonic() - began
            last = f"status {status}: {text}"
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        if proxy.poll() is not None:
            last = f"exit {proxy.returncode}"
            break
        time.sleep(0.01)
    words = log.read_text(errors="replace")[-1000:]
    raise CannotMeasure(f"{peer.name} did not come up ({last}). Its last words:\n{words}")


def _ask(port: int, path: str, headers: Sequence[str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        named = dict(header.split(": ", 1) for header in headers)
        connection.request(
            "POST", path, _body(streamed=False, content=CONTENT), {"Content-Type": "application/json", **named}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")[:300]
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _harness_cpu_s(upstream: int) -> float:
    """CPU time of the upstream and of the load generators that have ended."""
    return processes.cpu_s(upstream) + processes.children_cpu_s()
