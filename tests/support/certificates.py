"""A throw-away certificate authority for TLS tests, made by the `openssl` command when first needed."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = dn
prompt = no
[dn]
CN = {name}
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost
"""


@cache
def server_context() -> ssl.SSLContext:
    """For a server named `localhost` (and not 127.0.0.1, so that a wrong name can be tried)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_folder() / "leaf.pem", _folder() / "leaf.key")
    return context


@cache
def client_context() -> ssl.SSLContext:
    """Trusts that server and nobody else."""
    return ssl.create_default_context(cafile=str(authority()))


def authority() -> Path:
    """The authority's certificate, as `SSL_CERT_FILE` takes it."""
    return _folder() / "ca.pem"


@cache
def _made() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="certificates-")
    for name in ("ca", "leaf"):
        (Path(folder.name) / f"{name}.cnf").write_text(_CONFIG.format(name=f"test {name}"))
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-x509", "-config", "ca.cnf", "-extensions", "ca", "-keyout", "ca.key", "-out", "ca.pem"]
    leaf = ["-x509", "-config", "leaf.cnf", "-extensions", "leaf", "-keyout", "leaf.key", "-out", "leaf.pem"]
    for arguments in ([*key, *authority], [*key, *leaf, "-CA", "ca.pem", "-CAkey", "ca.key"]):
        subprocess.run(["openssl", "req", *arguments], cwd=folder.name, check=True, capture_output=True)
    return folder


def _folder() -> Path:
    return Path(_made().name)
