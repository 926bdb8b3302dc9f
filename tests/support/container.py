"""Images without a Docker engine: build with buildah, run in namespaces of our own.

There is no registry either, so the base is a stand-in made with debootstrap: Debian with its Python, which is what
the official `python:*-slim` images are, but for where Python comes from. `Container` runs an image the way
`docker run --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp --network none` would.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.debian import require

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".make" / "image"
_DEBIAN = "trixie"  # whose Python is 3.13
STAND_IN = f"localhost/python-on-{_DEBIAN}"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# In the child: its own mounts, PIDs and network. `--fork` makes what follows PID 1, and each `exec` keeps it that.
_START = """\
set -e
mount --make-rprivate /
mount --bind "$ROOTFS" "$ROOTFS"
mount -t proc proc "$ROOTFS/proc"
mount -t tmpfs -o mode=755,size=64k dev "$ROOTFS/dev"
for name in null zero random urandom; do touch "$ROOTFS/dev/$name"; mount --bind /dev/$name "$ROOTFS/dev/$name"; done
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev,size=64m tmp "$ROOTFS/tmp"
mount -o remount,bind,ro "$ROOTFS"
ip link set lo up
exec env -i "${ENVIRONMENT[@]}" chroot "$ROOTFS" setpriv "${PRIVILEGES[@]}" -- "$@"
"""


def run(*command: str | Path, **options: Any) -> str:
    """Run a program and return what it printed; a failure shows all of it."""
    done = subprocess.run(list(map(str, command)), text=True, capture_output=True, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{shlex.join(map(str, command))} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def buildah(*arguments: str | Path, **options: Any) -> str:
    store = ["--root", WORK / "storage", "--runroot", WORK / "run", "--storage-driver", "vfs"]
    return run("buildah", *store, *arguments, **options)


def make_root(tree: Path, packages: str) -> None:
    """Make a small Debian in a folder (a minute)."""
    require("debootstrap")
    shutil.rmtree(tree, ignore_errors=True)
    run("debootstrap", "--variant=minbase", f"--include={packages}", _DEBIAN, tree)


@functools.cache
def stand_in_base() -> str:
    """Make the base image once (a minute) and keep it under `.make/image`."""
    require("buildah", "debootstrap", "iproute2", "util-linux", "curl")
    WORK.mkdir(parents=True, exist_ok=True)
    if STAND_IN in buildah("images", "--format", "{{.Name}}").split():
        return STAND_IN
    tree = WORK / "debian"
    make_root(tree, "python3,python3-venv,ca-certificates")
    container = buildah("from", "scratch").strip()
    target = buildah("mount", container).strip()
    run("sh", "-c", f"tar -C {shlex.quote(str(tree))} -c . | tar -C {shlex.quote(target)} -x")
    buildah("umount", container)
    buildah("commit", "--rm", container, STAND_IN)
    shutil.rmtree(tree)
    return STAND_IN


def build(tag: str, context: Path, **build_args: str) -> str:
    """Build the Dockerfile in `context`, with this machine's own pip settings as a secret: in no layer."""
    arguments: list[str | Path] = ["--tag", tag, "--format", "docker", "--isolation", "chroot", "--network", "host"]
    for name, value in {"BASE": stand_in_base(), **build_args}.items():
        arguments += ["--build-arg", f"{name}={value}"]
    settings, files = _pip_settings()
    secret = WORK / "pip.conf"
    secret.write_text(settings)
    arguments += ["--secret", f"id=pip.conf,src={secret}"]
    for path in files:
        arguments += ["--volume", f"{path}:{path}:ro"]
    printed = buildah("bud", *arguments, context)
    buildah("rmi", "--prune")  # the image that had this tag before
    return printed


def configuration(tag: str) -> dict[str, Any]:
    """Return the image's configuration as Docker keeps it: Entrypoint, Cmd, User, Env…"""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", tag))["Docker"]["config"]
    return found


def root_file_system(tag: str) -> tuple[str, Path]:
    """Mount the image; return the working container's name, for `buildah rm`, and where its files are."""
    container = buildah("from", "--pull-never", tag).strip()
    return container, Path(buildah("mount", container).strip())


def _pip_settings() -> tuple[str, list[str]]:
    """Return this machine's pip settings as a pip.conf, and the files and folders they name."""
    listed = run(sys.executable, "-m", "pip", "config", "list")
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"")
    words = [word for value in settings.values() for word in value.split()]
    paths = [Path(word) for word in words if word.startswith("/")]
    paths += [
        Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")
    ]  # and its files
    files = {str(path) for path in paths if path.exists() and path != Path("/")} | {_CERTIFICATES}
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(["[global]", *lines, ""]), sorted(files)


class Container:
    """A running image: read-only root, tmpfs /tmp, no capability, its own PIDs, and no network but loopback."""

    def __init__(self, tag: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._tag = tag
        self._settings = configuration(tag)
        self._arguments = [*self._settings["Entrypoint"], *(arguments or self._settings["Cmd"])]
        self._env = [*self._settings["Env"], *(f"{name}={value}" for name, value in (env or {}).items())]
        user, _, group = self._settings["User"].partition(":")
        self._privileges = [f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        self._privileges += ["--bounding-set=-all", "--inh-caps=-all"]

    def __enter__(self) -> Self:
        self._name, self.files = root_file_system(self._tag)
        script = f"ENVIRONMENT=({shlex.join(self._env)})\nPRIVILEGES=({shlex.join(self._privileges)})\n{_START}"
        self.log = WORK / f"{self._name}.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--pid",
                    "--net",
                    "--fork",
                    "--kill-child",
                    "bash",
                    "-c",
                    script,
                    "bash",
                    *self._arguments,
                ],
                env=os.environ | {"ROOTFS": str(self.files)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(IndexError, OSError):  # gone already
            os.kill(self.pid, signal.SIGKILL)  # --kill-child forgets a child that changed its user
        self._process.kill()
        self._process.wait()
        buildah("rm", self._name)

    @property
    def command(self) -> str:
        return shlex.join(self._arguments)

    @property
    def pid(self) -> int:
        """Return the host's number for what is PID 1 inside."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def execute(self, *command: str, check: bool = True) -> str:
        """Run a program inside, as `docker exec` does; without `check`, return its exit status as text."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--root", "--wd"]
        whole = [*inside, "env", "-i", *self._env, "setpriv", *self._privileges, "--", *command]
        if check:
            return run(*whole)
        return str(subprocess.run(whole, capture_output=True, check=False).returncode)

    def curl(self, *arguments: str) -> str:
        """Ask from the container's own network, with the host's curl: the image has none."""
        return run("nsenter", "--target", str(self.pid), "--net", "curl", "--silent", "--show-error", *arguments)

    def wait_until_healthy(self, within_s: float = 20.0) -> float:
        """Run the image's own health check until it passes; return how long that took."""
        check = self._settings["Healthcheck"]["Test"][1:]
        started = time.monotonic()
        while time.monotonic() - started < within_s:
            if self._process.poll() is not None:
                raise AssertionError(f"exited {self._process.returncode}:\n{self.log.read_text()}")
            with contextlib.suppress(IndexError):  # no PID 1 yet
                if self.execute(*check, check=False) == "0":
                    return time.monotonic() - started
            time.sleep(0.1)
        raise AssertionError(f"not healthy within {within_s} s:\n{self.log.read_text()}")

    def stop(self, within_s: float) -> tuple[int, float]:
        """Send SIGTERM to PID 1, as `docker stop` does; return the exit status and the seconds it took."""
        started = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        return self._process.wait(within_s), time.monotonic() - started

    def stop_early(self, within_s: float) -> int:
        """Send SIGTERM again and again from the moment PID 1 is the program itself; return the exit status."""
        deadline = time.monotonic() + within_s
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(IndexError, OSError):  # not there yet, or gone meanwhile
                if self._arguments[0].encode() in Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")[1]:
                    os.kill(self.pid, signal.SIGTERM)
            time.sleep(0.02)
        return self._process.wait(0)
