"""Where real clients are tried: a running proxy, a scripted upstream, a process for each set of clients, a browser."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Protocol

import msgspec
from aiohttp import web

from proxy.testing.script import Steps
from proxy.testing.upstream import ScriptedUpstream, Seen, eventually
from tests.clients.browser import chromium
from tests.clients.pages import serving_pages
from tests.clients.scenarios import answer, question
from tests.support import node
from tests.support.app import Process, serving
from tests.support.clients import WITHIN_S
from tests.support.need import cannot_run

HERE = Path(__file__).parent
DRIVERS = HERE / "drivers"
PYTHON_CLIENTS = node.ROOT / ".make" / "clients" / "bin" / "python"
FRAMEWORKS = node.ROOT / ".make" / "frameworks" / "bin" / "python"

CONFIG = """
    server:
      heartbeat_s: 0.05
      breaker: {{failures: 0}}
      cors: {{origins: ["{origin}"]}}
      log: {{level: error}}
    backends:
      echo: {{kind: echo}}
      far: {{kind: openai-compatible, base_url: "{upstream}"}}
    routes:
      - {{name: echo, match: {{content: "^echo:"}}, to: echo}}
      - {{name: impatient, match: {{content: "^stalled "}}, to: far/scripted-1, timeouts: {{token_gap_s: 0.4, whole_s: 0.4}}}}
      - {{name: named, match: {{model: "{model}"}}, to: echo}}
      - {{name: default, to: far/scripted-1}}
"""

MODEL = "acme/large"
"""The one model that the routes name, for lists of models."""


class Failure(msgspec.Struct, frozen=True):
    """What a client threw or told in place of an answer."""

    name: str
    message: str
    status: int | None = None


class Call(msgspec.Struct, frozen=True):
    """A tool call as the client shows it."""

    id: str | None
    name: str
    arguments: str | dict[str, Any]

    @property
    def values(self) -> object:
        return json.loads(self.arguments) if isinstance(self.arguments, str) else self.arguments


class Told(msgspec.Struct, kw_only=True):
    """What the program around a client learned, and what of it reached the upstream."""

    text: str
    reasoning: str = ""
    tools: list[Call] = []
    finish: str | None = None
    usage: dict[str, int] | None = None
    error: Failure | None = None
    requests: list[Seen] = []
    at: float = 0.0


class Driver(Protocol):
    """Asks clients of one set."""

    async def ask(self, asked: dict[str, Any], give_up: asyncio.Event) -> dict[str, Any]:
        """Ask; should the event come before the answer, have the program end its call."""


class ProcessDriver:
    """Clients in a process, which reads and writes lines: see drivers/drive.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._complaints: list[str] = []
        self._ready = asyncio.Event()

    async def ask(self, asked: dict[str, Any], give_up: asyncio.Event) -> dict[str, Any]:
        await asyncio.wait_for(self._ready.wait(), 180)  # some packages take long to import
        number = next(self._numbers)
        told = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._write({"id": number, **asked})
        giving_up = asyncio.create_task(give_up.wait())
        giving_up.add_done_callback(lambda task: task.cancelled() or self._write({"give_up": number}))
        try:
            return await asyncio.wait_for(told, WITHIN_S)
        except TimeoutError:
            raise AssertionError(f"{asked['client']} says nothing; {''.join(self._complaints)[-2000:]}") from None
        finally:
            giving_up.cancel()
            del self._waiting[number]

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._ready.set()
            told = json.loads(line)
            if waiting := self._waiting.get(told.get("id")):
                waiting.set_result(told)
        for waiting in self._waiting.values():
            waiting.set_exception(AssertionError(f"the clients' process ended: {''.join(self._complaints)[-2000:]}"))

    async def keep_complaints(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._complaints.append(line.decode())


@contextlib.asynccontextmanager
async def _process(*command: str) -> AsyncIterator[ProcessDriver]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )  # fmt: skip
    driver = ProcessDriver(process)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(driver.read())
        tasks.create_task(driver.keep_complaints())
        try:
            yield driver
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
            process._transport.close()  # the pipes' transports outlive it otherwise


class Environment(msgspec.Struct, frozen=True):
    """Where a set of clients is installed, and the drivers that can be loaded there."""

    drivers: tuple[str, ...]
    packages: str = ""  # a set of npm packages, or "" for the first
    newer_node: bool = False
    python: Path | None = None

    def command(self) -> list[str]:
        """Install what is needed, or stop the test; return how to start the drivers."""
        if self.python:
            if not self.python.exists():
                cannot_run(f"needs the Python clients in {self.python.parents[1]}: run `make test-clients`")
            return [str(self.python), str(DRIVERS / "drive.py"), *self.drivers]
        program = node.packaged_node(self.packages) if self.newer_node else node.node()
        node.among_modules(HERE / "readers.mjs", self.packages)
        script = node.among_modules(DRIVERS / "drive.mjs", self.packages)
        return [program, str(script), *(f"{driver}.mjs" for driver in self.drivers)]


SDKS = ("openai_sdk", "anthropic_sdk", "ollama_client")
ENVIRONMENTS = {
    "Python": Environment((*SDKS, "sync_clients"), python=Path(sys.executable)),
    "Python, newest": Environment((*SDKS, "sync_clients", "langchain_chat", "llm_command"), python=PYTHON_CLIENTS),
    "Python, frameworks": Environment(("frameworks",), python=FRAMEWORKS),
    "Node": Environment(("openai_sdk", "chat_readers")),
    "Node 20": Environment(("ai_transports",), "node20"),
    "Node, frameworks": Environment(("frameworks",), "frameworks"),
    "Node, AG-UI 0.0": Environment(("ag_ui",), "ag-ui-0"),
    "Node, newest": Environment(
        ("openai_sdk", "anthropic_sdk", "ollama_client", "ai_transports", "ag_ui"), "newest", newer_node=True
    ),
}


class Stage:
    """Asks clients questions that a scenario answers."""

    def __init__(
        self, proxy: Process, upstream: ScriptedUpstream, pages: Pages, stack: contextlib.AsyncExitStack
    ) -> None:
        self.proxy, self.upstream, self._pages, self._stack = proxy, upstream, pages, stack
        self._drivers: dict[str, Driver] = {}
        self._numbers = itertools.count(1)
        self._requests: dict[str, list[Seen]] = {}  # by their question
        self._heard: dict[str, asyncio.Event] = {}
        upstream.decide(self._answer)

    async def ask(self, environment: str, client: str, scenario: str, *, give_up: bool = False, **more: Any) -> Told:
        """Have a client ask, and `give_up` as soon as the upstream has heard of it.

        `more`: `tools`, `image`, `leave` (as soon as there is text).
        """
        asked = scenario if scenario.startswith("echo:") else f"{scenario} {next(self._numbers)}"
        driver = await self._driver(environment)
        enough = asyncio.Event()
        if give_up:
            self._heard[asked] = enough
        told = await driver.ask(
            {"client": client, "url": self.proxy.url, "model": "any", "question": asked, **more}, enough
        )
        at = time.monotonic()
        requests = self._requests.pop(asked, [])
        return msgspec.structs.replace(msgspec.convert(told, Told), requests=requests, at=at)

    def _answer(self, seen: Seen) -> Steps:
        asked = question(seen.json())
        self._requests.setdefault(asked, []).append(seen)
        if asked in self._heard:
            self._heard.pop(asked).set()
        return answer(seen)

    async def upstream_closed(self, seen: Seen) -> float:
        """Wait until the proxy has closed the connection of a request; when it did."""

        def closings() -> list[float]:
            return [closed.at for closed in self.upstream.closed if closed.connection_number == seen.connection_number]

        await eventually(lambda: bool(closings()))
        return closings()[0]

    async def _driver(self, environment: str) -> Driver:
        if environment not in self._drivers:
            if environment in PAGES:
                driver: Driver = await self._pages.open(PAGES[environment], self._stack)
            else:
                command = await asyncio.to_thread(ENVIRONMENTS[environment].command)
                driver = await self._stack.enter_async_context(_process(*command))
            self._drivers[environment] = driver
        return self._drivers[environment]


PAGES = {"Chromium, Node 20": "node20", "Chromium, newest": "newest", "Chromium, CopilotKit": "copilotkit"}
PROGRAMS = {"copilotkit": "copilotkit.mjs"}
"""The program of a page, by its set of packages, where it is not `useChat`."""


class Pages:
    """A web server for the page with `useChat`, on an origin of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, packages: str, stack: contextlib.AsyncExitStack) -> Driver:
        await asyncio.to_thread(bundle, packages)
        page = await stack.enter_async_context(chromium())
        await page.open(f"{self.url}/{packages}/chat.html")
        return PageDriver(page)


class PageDriver:
    """`useChat` in a page: what its user sees."""

    def __init__(self, page: Any) -> None:
        self._page = page

    async def ask(self, asked: dict[str, Any], give_up: asyncio.Event) -> dict[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            told: dict[str, Any] = await self._page.run(f"ask({json.dumps(asked)})")
        return told


def bundle(packages: str, program: str = "") -> Path:
    """Bundle a page's program with React and the hook, once."""
    script = node.among_modules(DRIVERS / (program or PROGRAMS.get(packages, "use_chat.mjs")), packages)
    made = script.with_suffix(".bundle.js") if program else script.with_name("page.bundle.js")
    if not made.exists() or made.stat().st_mtime < script.stat().st_mtime:
        esbuild = script.parent / "node_modules" / "esbuild" / "bin" / "esbuild"
        options = ["--bundle", "--format=esm", '--define:process.env.NODE_ENV="production"', f"--outfile={made}"]
        command = [node.node(), str(esbuild), str(script), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return made


async def _chat_page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(HERE / "chat.html")


async def _bundle(request: web.Request) -> web.FileResponse:
    made = node.modules(request.match_info["packages"]) / "page.bundle.js"
    return web.FileResponse(made, headers={"Content-Type": "text/javascript"})


@contextlib.asynccontextmanager
async def _page_server() -> AsyncIterator[Pages]:
    application = web.Application()
    application.router.add_get("/{packages}/chat.html", _chat_page)
    application.router.add_get("/{packages}/page.bundle.js", _bundle)
    async with serving_pages(application) as origin:
        yield Pages(origin)


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Set the stage; drivers start when they are first asked."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedUpstream())
        pages = await stack.enter_async_context(_page_server())
        config = folder / "config.yaml"
        config.write_text(dedent(CONFIG.format(origin=pages.url, upstream=upstream.url, model=MODEL)))
        proxy = await stack.enter_async_context(serving(config))
        await proxy.wait_until_listening()
        yield Stage(proxy, upstream, pages, stack)
