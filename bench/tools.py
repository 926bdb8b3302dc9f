"""What the measurements stand on: a work folder, the two C programs, a certificate."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / ".make" / "bench"
"""Everything built, installed or written on the way; `make clean` removes it."""

OPENSSL_HEADER = Path("/usr/include/openssl/ssl.h")


class CannotMeasure(Exception):
    """Something is missing or did not start; the message says what to do."""


def build() -> None:
    """Compile what is newer than its program. TLS is left out where OpenSSL's headers are not installed."""
    if shutil.which("gcc") is None:
        raise CannotMeasure("the load generator is written in C: install gcc (Debian: apt-get install gcc libc6-dev)")
    WORK.mkdir(parents=True, exist_ok=True)
    tls = ["-DWITH_TLS", "-lssl", "-lcrypto"] if OPENSSL_HEADER.exists() else []
    for name, extra in (("upstream", tls), ("loadgen", [])):
        source, program = HERE / f"{name}.c", WORK / name
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            continue
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source, *extra], check=True)


def has_tls() -> bool:
    return OPENSSL_HEADER.exists() and shutil.which("openssl") is not None


def certificate() -> Path:
    """The folder with `ca.pem`, and `leaf.pem` and `leaf.key` for localhost and 127.0.0.1, good for 30 days."""
    folder = WORK / "certificates"
    still_good = subprocess.run(
        ["openssl", "x509", "-checkend", "86400", "-noout", "-in", folder / "leaf.pem"],
        capture_output=True,
        check=False,
    )
    if still_good.returncode == 0:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    authority = ["-x509", "-subj", "/CN=bench authority", "-keyout", "ca.key", "-out", "ca.pem"]
    leaf = ["-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=localhost", "-keyout", "leaf.key"]
    leaf += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    for arguments in ([*key, *authority], [*key, *leaf, "-out", "leaf.pem"]):
        subprocess.run(["openssl", "req", *arguments], cwd=folder, check=True, capture_output=True)
    return folder
