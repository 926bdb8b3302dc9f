"""Open a connection: name, TCP, forward proxy and TLS within one time limit, with messages that say what failed."""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Callable, Sequence

import aiohappyeyeballs

from proxy.errors import UpstreamConnect
from proxy.transport.address import Destination, ForwardProxy, Origin
from proxy.transport.connection import Connection
from proxy.transport.names import AddressInfo, Resolver

HAPPY_EYEBALLS_DELAY_S = 0.25  # RFC 8305
TUNNEL_HEAD_LIMIT = 16 * 1024
_TUNNEL_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


class Connector:
    """Opens connections. `ssl_context` may be given for tests or a private CA; verification is never off."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self._resolver = Resolver()
        self._ssl_context = ssl_context

    async def connect(self, destination: Destination, make: Callable[[], Connection], within_s: float) -> Connection:
        """A new connection, made by `make`. Raises `UpstreamConnect`; cancelling leaves no socket behind."""
        stage = _Stage()
        try:
            async with asyncio.timeout(within_s):
                return await self._connect(destination, make, stage)
        except TimeoutError:
            raise UpstreamConnect(
                f"no connection to {_named(destination)} within {within_s:g} s (while {stage.doing})", status=504
            ) from None
        except ssl.SSLError as error:
            raise UpstreamConnect(_tls_failure(destination, error)) from error
        except (OSError, RuntimeError) as error:  # uvloop reports some failures as RuntimeError
            raise UpstreamConnect(_failure(destination, stage, error)) from error

    async def aclose(self) -> None:
        await self._resolver.aclose()

    async def _connect(self, destination: Destination, make: Callable[[], Connection], stage: "_Stage") -> Connection:
        origin, via = destination.origin, destination.via
        next_hop = via.origin if via else origin
        secure = origin.scheme == "https"
        stage.doing = "reading the certificates to trust"
        context = self._context() if secure else None
        stage.doing = f"looking up {next_hop.host}"
        addresses = await self._resolver.addresses(next_hop.host, next_hop.port)
        stage.doing = f"connecting to {next_hop.authority}"
        sock = await self._open_socket(next_hop, addresses)
        if via is not None and secure:
            stage.doing = f"asking the proxy {via.origin} for a tunnel"
            try:
                await _open_tunnel(sock, origin, via)
            except BaseException:
                sock.close()
                raise
        stage.doing = "in the TLS handshake" if secure else stage.doing
        connection = make()
        try:  # from this call on the event loop owns the socket
            await asyncio.get_running_loop().create_connection(
                lambda: connection, sock=sock, ssl=context, server_hostname=origin.host if secure else None
            )
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _open_socket(self, hop: Origin, addresses: Sequence[AddressInfo]) -> socket.socket:
        try:
            sock = await aiohappyeyeballs.start_connection(
                addresses,
                happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S,
                loop=asyncio.get_running_loop(),
            )
        except BaseException:
            self._resolver.forget(hop.host, hop.port)
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # models think for minutes; middleboxes forget
        return sock

    def _context(self) -> ssl.SSLContext:
        """Made when first needed: reading the system's certificates takes some 20 ms."""
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


class _Stage:
    """The present step, for the message when time runs out."""

    __slots__ = ("doing",)

    def __init__(self) -> None:
        self.doing = ""


async def _open_tunnel(sock: socket.socket, origin: Origin, via: ForwardProxy) -> None:
    """CONNECT (RFC 9110 section 9.3.6)."""
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {origin.host_and_port} HTTP/1.1", f"Host: {origin.host_and_port}"]
    if via.authorization:
        lines.append(f"Proxy-Authorization: {via.authorization}")
    await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = await loop.sock_recv(sock, 4096)
        if not piece or len(answer) > TUNNEL_HEAD_LIMIT:
            raise UpstreamConnect(f"the proxy {via.origin} did not answer CONNECT {origin.host_and_port} properly")
        answer += piece
    status = _TUNNEL_STATUS.match(answer)
    if status is None or not answer.endswith(b"\r\n\r\n"):
        raise UpstreamConnect(f"the proxy {via.origin} did not answer CONNECT {origin.host_and_port} in HTTP")
    if status[1] == b"407":
        raise UpstreamConnect(
            f"the proxy {via.origin} wants other credentials for {origin}: set user and password in HTTPS_PROXY"
        )
    if not status[1].startswith(b"2"):
        raise UpstreamConnect(f"the proxy {via.origin} refused a tunnel to {origin} with status {status[1].decode()}")


# -- messages ------------------------------------------------------------------------------------------------------


def _named(destination: Destination) -> str:
    origin, via = destination.origin, destination.via
    return f"{origin} through the proxy {via.origin}" if via else str(origin)


def _failure(destination: Destination, stage: _Stage, error: OSError | RuntimeError) -> str:
    named = _named(destination)
    hop = destination.via.origin if destination.via else destination.origin
    if isinstance(error, socket.gaierror):
        again = error.errno == socket.EAI_AGAIN
        advice = "the name server does not answer" if again else "is it spelled right?"
        return f"cannot look up the host {hop.host} of {named}: {advice}"
    number = error.errno if isinstance(error, OSError) else None
    match number:
        case errno.ECONNREFUSED:
            return f"connection refused by {named}: is the server running there?"
        case errno.EMFILE | errno.ENFILE:
            return f"no file descriptor left for a connection to {named}: raise the limit (ulimit -n)"
        case errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EADDRNOTAVAIL:
            return f"no route to {named}: is the address right, and this machine on the network?"
        case _:
            reason = errno.errorcode.get(number or 0, type(error).__name__)
            return f"connection to {named} failed while {stage.doing} ({reason})"


def _tls_failure(destination: Destination, error: ssl.SSLError) -> str:
    named = _named(destination)
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {named} is not trusted: {error.verify_message.rstrip('.')}. Nothing was sent. "
            "Name a private CA in SSL_CERT_FILE"
        )
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}:
        return f"{named} does not speak TLS: is it an http:// address?"
    return f"TLS handshake with {named} failed ({error.reason or 'no reason given'}). Nothing was sent"
