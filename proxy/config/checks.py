"""Checks over several places of a config: names that must exist, rules that no request reaches, weak keys."""

import hashlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from proxy.config.doubts import doubts
from proxy.config.frontend_checks import Served, frontend_errors
from proxy.config.models import NAME, KeySettings, MatchSettings, RouteSettings, ServerSettings
from proxy.config.parameters import KIND_OF_PARAMETER
from proxy.config.partial import Readable
from proxy.config.source import Document, Path
from proxy.config.wording import nearest
from proxy.errors import ConfigError, ConfigWarning

SHORTEST_KEY = 16  # characters

# Example keys from documentation and templates, which people forget to replace. Refused as digests, too.
_WELL_KNOWN = (
    "", "admin", "changeme", "change-me", "changeme12345678", "changemechangeme", "default", "example", "hello",
    "hunter2", "key", "letmein", "master-key", "my-api-key", "my-secret-key", "password", "password123", "placeholder",
    "replace-me", "secret", "secret-key", "sk-1234", "sk-12345", "sk-123456", "sk-1234567890", "sk-1234567890abcdef",
    "sk-test", "supersecret", "super-secret-key", "test", "test-key", "token", "xxx", "your-api-key",
    "your-api-key-here", "your-secret-key", "your-secret-key-here", "replace-with-a-real-key", "0123456789abcdef",
    "1234567890123456", "12345678901234567890", "abcdefghijklmnop", "abcdefghijklmnopqrstuvwxyz",
)  # fmt: skip
_WELL_KNOWN_DIGESTS = frozenset(hashlib.sha256(key.encode()).hexdigest() for key in _WELL_KNOWN)


@dataclass(frozen=True)
class Context:
    """Everything the checks read."""

    document: Document
    read: Readable
    backends: Mapping[str, BaseModel]  # those that are on
    off: Mapping[str, str]
    contracts: frozenset[str]  # built in
    served: Callable[[], Served]  # the built-in contracts and their paths

    @property
    def declared(self) -> frozenset[str]:
        """Names of the contracts that the file declares."""
        rows = self.document.data.get("frontends")
        return frozenset(rows) if isinstance(rows, dict) else frozenset()

    @property
    def keeps_keys(self) -> bool:
        """Whether the file names a store, which may have keys that are not in the file."""
        return bool(self.document.data.get("store", "memory") != "memory")


def errors(context: Context) -> Iterator[ConfigError]:
    """The mistakes because of which the config cannot be used."""
    yield from _names(context)
    yield from _targets(context)
    yield from _downgrades(context)
    yield from _stars(context)
    yield from _unreachable(context)
    yield from _matches(context)
    yield from _keys(context)
    yield from _loops(context)
    yield from _ports(context)
    yield from frontend_errors(context.document, context.served)
    read = context.read
    if read.server and not read.asks and (problem := _exposure(read.server.host, context.backends)):
        yield context.document.error(problem, ("server", "host"))


def warnings(context: Context) -> Iterator[ConfigWarning]:
    """What works, and is probably not intended."""
    document, auth, server = context.document, context.read.auth, context.read.server

    def warning(message: str, path: Path) -> ConfigWarning:
        place = document.place(path)
        return ConfigWarning(document.masked(message), file=document.file, line=place.line, column=place.column)

    if auth and auth.off and server and not is_loopback(server.host):
        yield warning(f"`auth: off` on {server.host}: whoever can reach this port can use it", ("auth",))
    for index, key in context.read.keys:
        if key.off:
            yield warning(f"key `{key.name}` is off: its value is empty", ("auth", "keys", index))
    targets = {target.backend for _, route, _ in context.read.routes for target in route.to}
    if targets <= context.off.keys():
        why = ", ".join(f"{name}: {context.off[name]}" for name in sorted(targets))
        yield warning(f"every backend that a route names is off, so nothing is answered ({why})", ("routes",))
    for name, row in context.backends.items():
        for key, doubt in getattr(row, "doubts", tuple)():
            yield warning(f"backend `{name}`: {doubt}", ("backends", name, key))
    for message, place in (*_without_model(context), *doubts(document, context.read)):
        yield warning(message, _written(document, place))
    for index, route, _ in context.read.routes:
        path: Path = ("routes", index)
        for name in route.set.keys() & route.default.keys():
            yield warning(f"`{name}` is in `set` and in `default`; `set` wins", (*path, "default", name))
        for where, parameters in (("set", route.set), ("default", route.default)):
            for name in parameters:
                if name not in KIND_OF_PARAMETER:
                    yield warning(_unusual(name), (*path, where, name))


def _without_model(context: Context) -> Iterator[tuple[str, Path]]:
    """The rule that takes a plain request to `/chat`, if it leaves the model to the request, which need not name one."""
    for index, route, _ in context.read.routes:
        on = [(number, target) for number, target in enumerate(route.to) if target.backend in context.backends]
        if not on or not _takes_plain_chat(route.match):
            continue
        for number, target in on:
            if target.model or getattr(context.backends[target.backend], "own_model", ""):
                continue
            message = (
                f"route `{route.name}`: requests to `/chat` need not name a model, and `{target.target}` names none "
                f'either: those are refused; write `{target.target}/MODEL`, or `match: {{model: "*"}}`'
            )
            yield message, _written(context.document, ("routes", index, "to", number, "target"))
            break
        return


def _takes_plain_chat(match: MatchSettings) -> bool:
    """True if a request to `/chat` matches that names no model and nothing else."""
    if match.model_dump(exclude_none=True).keys() - {"contract", "path"}:
        return False
    return all(
        patterns is None or any(fnmatchcase(value, pattern) for pattern in patterns)
        for value, patterns in (("chat", match.contract), ("/chat", match.path))
    )


def _unusual(name: str) -> str:
    hint = nearest(name, KIND_OF_PARAMETER)
    return f"`{name}` is not a known parameter and is sent unchanged" + (hint if hint.startswith("; did") else "")


def _exposure(host: str, backends: Mapping[str, BaseModel]) -> str:
    """Why the proxy must not listen on `host` without `auth`; empty if it may.

    Other machines could spend money at every backend except the local ones (`BackendSettings.local`).
    """
    costly = [name for name, row in backends.items() if not getattr(row, "local", False)]
    if is_loopback(host) or not costly:
        return ""
    return (
        f"{host} is open to other machines, which could use backend `{costly[0]}`, and no `auth` is given: "
        "list `keys` under `auth` (`chat-proxy key new` makes one), or write `auth: off` if everybody may use it"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _names(context: Context) -> Iterator[ConfigError]:
    """Names with characters that are not allowed, and names given twice."""
    document = context.document
    for name in context.read.rows:
        if not NAME.fullmatch(name):
            message = f"backend name `{name[:40]}`: use letters, digits, '-', '_' and '.' (a `/` ends it in a target)"
            yield document.error(message, ("backends", name), key=True)
    seen: dict[str, int] = {}
    for index, route, _ in context.read.routes:
        path: Path = ("routes", index, "name")
        if route.name in seen:
            line = document.place(("routes", seen[route.name], "name")).line
            yield document.error(f"a route `{route.name}` is already in line {line}; give this one another name", path)
        seen.setdefault(route.name, index)


def _targets(context: Context) -> Iterator[ConfigError]:
    """Targets must name a backend of the file."""
    rows = context.read.rows
    if not rows or ("backends",) in context.document.incomplete:
        return
    for index, route, _ in context.read.routes:
        for number, target in enumerate(route.to):
            if target.backend in rows:
                continue
            path = _written(context.document, ("routes", index, "to", number, "target"))
            hint = nearest(target.backend, rows)
            yield context.document.error(f"route `{route.name}`: no backend `{target.backend}`{hint}", path)


def _downgrades(context: Context) -> Iterator[ConfigError]:
    """The target of a budget that is used up must name a backend of the file."""
    read, rows = context.read, context.read.rows
    of_keys: list[tuple[Path, Any]] = [(("auth",), read.auth)] if read.auth else []
    of_keys += [(("auth", "keys", index), key) for index, key in read.keys]
    for path, row in [*of_keys, *((("routes", index), route) for index, route, _ in read.routes)]:
        to = row.budget.downgrade_to.partition("/")[0] if row.budget and row.budget.downgrade_to else ""
        if to and rows and to not in rows and ("backends",) not in context.document.incomplete:
            message = f"`downgrade_to`: no backend `{to}`{nearest(to, rows)}"
            yield context.document.error(message, _written(context.document, (*path, "budget", "downgrade_to")))


def _stars(context: Context) -> Iterator[ConfigError]:
    """`$1` in a target needs a star in each pattern of `match.model`, and no `?`: that leaves open what a star took."""
    for index, route, _ in context.read.routes:
        patterns = route.match.model or ()
        for number, target in enumerate(route.to):
            most = max(target.stars, default=0)
            unfit = next((one for one in patterns if one.count("*") < most or "?" in one), None)
            if not most or (patterns and unfit is None):
                continue
            what = f"`${most}` in `{target.target}` stands for what a `*` of `match.model` takes, and "
            if not patterns:
                why = 'there is no `match.model`; add one, such as `match: {model: "*"}`'
            elif unfit is not None and "?" in unfit:
                why = f"`{unfit[:40]}` has a `?`; write `*` in its place"
            else:
                stars = "a `*`" if most == 1 else f"{most} of `*`"
                why = f"`{(unfit or '')[:40]}` has fewer; write {stars} in it, or name the model here"
            path = _written(context.document, ("routes", index, "to", number, "target"))
            yield context.document.error(f"route `{route.name}`: {what}{why}", path)


def _written(document: Document, path: Path) -> Path:
    """The part of `path` that is written in the file: `to: echo` is short for a list of mappings."""
    while path and path not in document.values:
        path = path[:-1]
    return path


def _unreachable(context: Context) -> Iterator[ConfigError]:
    """No request reaches a rule below one that matches all of its requests."""
    shadows: list[RouteSettings] = []
    for index, route, whole in context.read.routes:
        shadow = next((above for above in shadows if _shadows(above, route, whole, context.read.keys)), None)
        if shadow is not None:
            what = "matches every request" if shadow.match.always else "matches the same requests"
            message = f"route `{route.name}` is never reached: `{shadow.name}` above it {what}; move it up or remove it"
            yield context.document.error(message, ("routes", index))
        if whole and _never_off(route, context.read.rows):
            shadows.append(route)


def _never_off(route: RouteSettings, rows: Mapping[str, Any]) -> bool:
    """True if a backend of the rule is on whichever variables are set."""
    targets = [rows.get(target.backend) for target in route.to]
    return any(isinstance(row, dict) and row.get("optional") is not True for row in targets)


def _shadows(above: RouteSettings, below: RouteSettings, whole: bool, keys: list[tuple[int, KeySettings]]) -> bool:
    """True if `above` takes every request that `below` could. A key that may use only `below` is an exception."""
    if not above.match.always and not (whole and above.match == below.match):
        return False
    return not any(below.name in key.routes and above.name not in key.routes for _, key in keys)


def _matches(context: Context) -> Iterator[ConfigError]:
    """Contracts and keys named in `match` must exist."""
    keys = {key.name for _, key in context.read.keys}
    for index, route, _ in context.read.routes:
        contracts = context.contracts | context.declared
        named = [("contract", route.match.contract, contracts)] if context.contracts else []
        if context.read.all_keys and not context.keeps_keys:
            named.append(("key", route.match.key, frozenset(keys)))
        for field, patterns, known in named:
            for number, pattern in enumerate(patterns or ()):
                if pattern in known or "*" in pattern or "?" in pattern:
                    continue
                path = _written(context.document, ("routes", index, "match", field, number))
                hint = nearest(pattern, known) if known else "; `auth` lists no keys"
                yield context.document.error(f"route `{route.name}`: no {field} `{pattern[:40]}`{hint}", path)


def _keys(context: Context) -> Iterator[ConfigError]:
    """Keys must exist, be hard to guess, differ from each other, and name routes that exist."""
    auth, document = context.read.auth, context.document
    if auth is None or auth.off:
        if auth and auth.keys:
            yield document.error("`auth` is off and lists keys; remove one of the two", ("auth",))
        return
    if context.read.all_keys and all(key.off for key in auth.keys) and not context.keeps_keys:
        why = "every key is empty" if auth.keys else "`keys` is empty"
        message = f"nobody could ask: {why}; add a key (`chat-proxy key new` makes one) or write `auth: off`"
        yield document.error(message, ("auth", "keys"))
    routes = context.read.route_names
    names: dict[str, int] = {}
    digests: dict[str, str] = {}
    for index, key in context.read.keys:
        path: Path = ("auth", "keys", index)
        if key.name in names:
            line = document.place(("auth", "keys", names[key.name])).line
            yield document.error(
                f"a key `{key.name}` is already in line {line}; names tell keys apart", (*path, "name")
            )
        names.setdefault(key.name, index)
        if (*path, "key") in document.faulty:  # reported already
            continue
        if problem := _weakness(key):
            yield document.error(f"key `{key.name}` {problem}", (*path, "key" if key.key else "sha256"))
        elif not key.off:
            if key.digest in digests:
                yield document.error(f"key `{key.name}` is the same as `{digests[key.digest]}`", path)
            digests.setdefault(key.digest, key.name)
        for number, name in enumerate(key.routes):
            if name not in routes:
                where = _written(document, (*path, "routes", number))
                yield document.error(f"key `{key.name}`: no route `{name[:40]}`{nearest(name, routes)}", where)


def _weakness(key: KeySettings) -> str:
    """Why this key could be guessed; empty if it is fine or off."""
    if key.off:
        return ""
    new = "use one that `chat-proxy key new` makes"
    if key.digest in _WELL_KNOWN_DIGESTS:
        return f"is a well-known example; {new}"
    if key.key is None:
        return f"has a digest of one repeated digit; {new}" if len(set(key.digest)) == 1 else ""
    secret = key.key.get_secret_value()
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        return f"holds characters that no header can carry, such as spaces or line ends; {new}"
    if len(secret) < SHORTEST_KEY:
        return f"is shorter than {SHORTEST_KEY} characters; {new}"
    if len(set(secret.lower())) < 6:
        return f"repeats a few characters; {new}"
    return ""


def _ports(context: Context) -> Iterator[ConfigError]:
    """The second port must differ from the first."""
    server = context.read.server
    if server and server.ollama_port and server.ollama_port == server.port:
        message = f"port {server.port} is already `server.port`; choose another, or leave it out"
        yield context.document.error(message, ("server", "ollama_port"))


def _loops(context: Context) -> Iterator[ConfigError]:
    """A backend must not be this proxy itself: a request would never end."""
    for name, row in context.backends.items():
        address = getattr(row, "address", None) or getattr(row, "base_url", None)
        if address and context.read.server and _is_us(str(address), context.read.server):
            which = "base_url" if getattr(row, "base_url", None) else "preset"
            path = _written(context.document, ("backends", name, which))
            what = "its base_url" if which == "base_url" else f"{address}, the address of its preset,"
            message = f"backend `{name}`: {what} is this proxy's own address; a request would loop for ever"
            yield context.document.error(message, path)


def _is_us(url: str, server: ServerSettings) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return False
    if port not in {server.port, server.ollama_port} or not port:
        return False
    everywhere = server.host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    here = is_loopback(host) or host in {"0.0.0.0", "::"}  # noqa: S104
    return host.lower() == server.host.lower() or (here and (everywhere or is_loopback(server.host)))
