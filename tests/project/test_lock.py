"""The lock files: hashes for everything, addresses for nothing, no poisoned release, and pip holds them to it (J01-J03)."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
CLIENTS = "tests/clients/requirements.lock"  # in a venv of its own, where versions may differ
FRAMEWORKS = "tests/clients/frameworks.lock"  # and another
DEPLOY = "tests/deploy/requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
CORE = PROJECT["project"]["dependencies"]
GROUPS = PROJECT["dependency-groups"]

ENTRY = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ]+)(?: ; (?P<marker>.+))?")
SHA256 = re.compile(r"--hash=sha256:[0-9a-f]{64}")


class Pin(NamedTuple):
    version: Version
    marker: Marker | None
    hashes: list[str]


def read(lock: str) -> dict[str, Pin]:
    """Parse a lock; a line in any other form than `name==version [; marker] \\ --hash…` fails."""
    pins = {}
    for line in (ROOT / lock).read_text().replace("\\\n", "").splitlines():
        what, *hashes = re.split(r"\s+(?=--)", line.strip())
        entry = ENTRY.fullmatch(what)
        assert entry, f"{lock}: not a plain pin: {what}"
        marker = Marker(entry["marker"]) if entry["marker"] else None
        pins[entry["name"]] = Pin(Version(entry["version"]), marker, hashes)
    return pins


@pytest.mark.parametrize("lock", [*LOCKS, CLIENTS, FRAMEWORKS, DEPLOY])
def test_every_pin_has_sha256_hashes_and_nothing_else(lock):
    pins = read(lock)
    assert pins
    for name, pin in pins.items():
        assert pin.hashes, name
        assert all(SHA256.fullmatch(each) for each in pin.hashes), name


@pytest.mark.parametrize("lock", [*LOCKS, CLIENTS, FRAMEWORKS, DEPLOY])
def test_a_lock_holds_no_address(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash)|@", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", [*CORE, *EXTRAS["litellm"], *EXTRAS["re2"]]),
        ("requirements-core.lock", CORE),
        (
            "requirements-image.lock",
            [each for name, extra in EXTRAS.items() if name not in {"all", "litellm"} for each in extra],
        ),
        ("requirements-build.lock", [*GROUPS["build"], *PROJECT["build-system"]["requires"]]),
        ("requirements-dev.lock", GROUPS["dev"]),
        (CLIENTS, GROUPS["clients"]),
        (DEPLOY, GROUPS["deploy"]),
    ],
)
def test_the_lock_satisfies_pyproject(lock, wanted):
    pins = read(lock)
    for text in wanted:
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, f"{name} is not in {lock}: run `make lock`"
        assert pins[name].version in requirement.specifier, f"{lock} is behind pyproject.toml: run `make lock`"


def test_no_two_locks_disagree():
    seen = {}
    for lock in LOCKS:
        for name, pin in read(lock).items():
            assert seen.setdefault(name, pin.version) == pin.version, f"{name} in {lock}"


def test_the_core_is_locked_without_litellm():
    core, image, everything = (read(f"requirements{name}.lock") for name in ("-core", "-image", ""))
    assert "litellm" not in image
    assert core.keys() <= image.keys() <= everything.keys()


def test_releases_that_must_not_return_are_kept_out():
    pins = read("requirements.lock")
    assert pins["litellm"].version >= Version("1.106")  # 1.82.7 and 1.82.8 stole credentials
    assert pins["aiohttp"].version >= Version("3.14.3")  # GHSA-cq5v-8q36-5273
    floors = {Requirement(text).name: Requirement(text).specifier for text in [*CORE, *EXTRAS["litellm"]]}
    assert not {"1.82.7", "1.82.8", "1.83.0"} & set(floors["litellm"].filter(["1.82.7", "1.82.8", "1.83.0"]))
    assert "3.14.2" not in floors["aiohttp"]


def test_a_tampered_wheel_is_refused(tmp_path):
    """The same flags that the Makefile uses, on a wheel that has changed since it was locked."""
    wheel = dummy_wheel(tmp_path)
    honest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert install(tmp_path, honest).returncode == 0
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("poison.pth", "import os")
    refused = install(tmp_path, honest)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def test_a_pin_without_a_hash_is_refused(tmp_path):
    dummy_wheel(tmp_path)
    refused = install(tmp_path, None)
    assert refused.returncode != 0
    assert "hash" in refused.stderr.lower()


def dummy_wheel(folder: Path) -> Path:
    wheel = folder / "dummy_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("dummy_package.py", "")
        archive.writestr(
            "dummy_package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: dummy-package\nVersion: 1.0\n"
        )
        archive.writestr(
            "dummy_package-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("dummy_package-1.0.dist-info/RECORD", "")
    return wheel


def install(folder: Path, sha256: str | None) -> subprocess.CompletedProcess[str]:
    lock = folder / "dummy.lock"
    lock.write_text("dummy-package==1.0" + (f" --hash=sha256:{sha256}\n" if sha256 else "\n"))
    flags = makefile_flags() | {"--require-hashes"} if sha256 is None else makefile_flags()
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--find-links", str(folder)]
    command += ["--target", str(folder / "installed"), "--upgrade", *sorted(flags), "--only-binary", ":all:"]
    return subprocess.run([*command, "-r", str(lock)], capture_output=True, text=True, check=False)


def makefile_flags() -> set[str]:
    """What the Makefile tells pip about hashes; empty, and the tests above fail, should it stop saying so."""
    rule = re.search(r"^FROM_LOCK := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule
    return {"--require-hashes"} & set(rule[1].split())


NPM_LOCKS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("tests", "clients", "examples")
    for path in (ROOT / folder).rglob("package-lock.json")
    if "node_modules" not in path.parts
)


@pytest.mark.parametrize("lock", NPM_LOCKS)
def test_a_lock_of_npm_packages_has_hashes_and_no_address(lock):
    packages = json.loads((ROOT / lock).read_text())["packages"]
    installed = {
        name: package for name, package in packages.items() if "node_modules" in name and not package.get("link")
    }
    assert all(package["integrity"].startswith("sha512-") for package in installed.values())
    assert not any("resolved" in package for package in installed.values())
    assert (ROOT / lock).with_name(".npmrc").exists()
