"""The wheel is all that somebody needs: it holds the whole package, and its command serves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
UV = find_uv_bin()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [found] = folder.glob("*.whl")
    return found


def environment() -> dict[str, str]:
    dropped = ("_API_KEY", "_BASE_URL", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.endswith(dropped)}


def echoes(command: list[str], folder: Path, within_s: float) -> None:
    """Run it where no config is, and have the echo answer."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as proxy:
        try:
            printed = ""
            assert proxy.stdout is not None
            while not (found := re.search(r"listening on (http://\S+)", printed)):
                line = proxy.stdout.readline()
                assert line, printed
                printed += line
            body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello, wheel"}]}'
            with urllib.request.urlopen(f"{found[1]}/chat", body, timeout=within_s) as answer:
                assert answer.read() == b"data:Hello,\n\ndata: wheel\n\nevent: done\ndata:[DONE]\n\n"
            page = urllib.request.Request(found[1], headers={"Accept": "text/html"})
            with urllib.request.urlopen(page, timeout=within_s) as answer:
                assert b"<html" in answer.read()
        finally:
            proxy.terminate()
            proxy.wait(30)


def test_the_command_of_the_wheel_serves(wheel: Path, tmp_path: Path) -> None:
    """In a venv of its own, which sees this one's dependencies, and not this checkout."""
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, venv], check=True, timeout=120)
    install = [UV, "pip", "install", "-q", "--python", python, "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True, timeout=120)
    [packages] = venv.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    where = "import proxy; print(proxy.__file__)"
    found = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.startswith(str(venv))
    echoes([str(venv / "bin" / "chat-proxy"), "serve", "--port", "0"], tmp_path, 60)


@pytest.mark.heavy
def test_uvx_and_pipx_run_it(wheel: Path, tmp_path: Path) -> None:
    """With the machine's own package index, which has to bring the dependencies."""
    runner = [UV, "tool", "run", "--isolated"]
    echoes([*runner, "--from", str(wheel), "chat-proxy", "serve", "--port", "0"], tmp_path, 120)
    pipx = [*runner, "pipx", "run", "--spec", str(wheel), "chat-proxy", "--version"]
    ran = subprocess.run(pipx, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600, check=True)
    assert ran.stdout.startswith("chat-proxy ")
