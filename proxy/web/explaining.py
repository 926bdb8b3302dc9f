"""What another config would do with the last requests, and where a request would go. No model is asked."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import yaml

from proxy.backends.base import settings_for
from proxy.config.load import Config, load_config
from proxy.config.source import looks_secret
from proxy.contracts.declared.frontend import DeclaredFrontend
from proxy.errors import ConfigErrors
from proxy.explain import Judge, as_data, as_text, verdict
from proxy.pipeline.targets import TargetStates
from proxy.routing.conditions import NotKept
from proxy.server.snapshot import ConfigSnapshot
from proxy.telemetry.record import StreamRecord
from proxy.telemetry.redact import Redactor
from proxy.web.rows import as_request

HIDDEN = "hidden-by-the-proxy"


class App(Protocol):
    """What is read of the app."""

    path: str
    redactor: Redactor
    states: TargetStates

    @property
    def snapshot(self) -> ConfigSnapshot: ...
    def text(self) -> str: ...


class Trial(msgspec.Struct, forbid_unknown_fields=True):
    """A request to explain: `{"path": …, "headers": {…}, "body": {…}, "model": …, "key": …}`; `key` is a name."""

    path: str = "/chat"
    headers: dict[str, str] = {}
    body: msgspec.Raw = msgspec.Raw(b"")
    model: str | None = None
    key: str | None = None


class Edited(msgspec.Struct, forbid_unknown_fields=True):
    """A config to try: `{"config": "…"}`."""

    config: str


class Fault(msgspec.Struct):
    """An error or a warning of a config."""

    line: int
    column: int
    message: str


class Judged(msgspec.Struct):
    """What a config would do with the last requests."""

    errors: list[Fault] = []
    warnings: list[Fault] = []
    requests: int = 0
    differs: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []  # requests of which something that the config asks for was not kept


def explained(app: App, trial: Trial) -> dict[str, Any]:
    """Where a request would go. Raises a `RequestError`. May import what a backend kind needs, so it blocks."""
    judge = Judge(app.snapshot.config, trial.key, states=app.states)
    body = bytes(trial.body) or None
    explanation = judge.explain(trial.path, trial.headers, body, id="explain", model=trial.model or None)
    return {**as_data(explanation), "text": as_text(explanation)}


def declared_contracts(app: App) -> dict[str, Any]:
    """How the page speaks each declared contract: its path, its smallest request, the template of its tokens."""
    return {
        frontend.name: {
            "path": frontend.endpoints[0].path,
            "body": msgspec.Raw(frontend.smallest_body),
            "token": app.snapshot.config.settings.frontends[frontend.name].response.token,
        }
        for frontend in app.snapshot.frontends
        if isinstance(frontend, DeclaredFrontend)
    }


def judged(app: App, content: bytes, records: Sequence[StreamRecord]) -> Judged:
    """What the config `content` would do with `records`, beside the one in force. Blocks."""
    try:
        new = load_config(app.path, content=content, settings_for=settings_for, env=_Hidden(app))
    except ConfigErrors as errors:
        return Judged(errors=[_fault(one) for one in errors.errors])
    result = Judged(warnings=[_fault(one) for one in new.warnings], requests=len(records))
    judges = Judge(app.snapshot.config), Judge(new)
    keys = _keys(new)
    for record in records:
        kept = record.kept
        assert kept is not None
        request, shown = as_request(record), {"id": record.request_id, "path": record.path, "model": record.model}
        try:
            before, after = (verdict(judge.explain_kept(request, kept)) for judge in judges)
        except NotKept as missing:
            result.unknown.append({**shown, "why": str(missing)})
            continue
        if record.key and keys is not None and record.key not in keys:
            after = "refused: 401 unauthorized"
        if before != after:
            result.differs.append({**shown, "before": before, "after": after})
    return result


def _keys(config: Config) -> set[str] | None:
    """Names of the keys of a config; `None` where everybody may ask."""
    auth = config.settings.auth
    return {key.name for key in auth.keys} if auth and not auth.off else None


def _fault(one: Any) -> Fault:
    return Fault(one.line, one.column, one.message)


# -- secrets -----------------------------------------------------------------------------------------------------


class _Hidden(Mapping[str, str]):
    """The environment for a config that somebody types: which variables are set, and no value that may be a secret.

    An error could repeat a value, and the one who types may not know all that the proxy knows. What the file in force
    uses outside of its secrets is shown as it is.
    """

    def __init__(self, app: App) -> None:
        try:
            used = app.text()
        except (OSError, ValueError):
            used = ""
        self._used = set(re.findall(r"\$\{(\w+)", used))
        self._mask: Callable[[str], str] = app.redactor.secrets.mask

    def __getitem__(self, name: str) -> str:
        value = os.environ[name]
        if name in self._used and not looks_secret(name) and self._mask(value) == value:
            return value
        return _stand_in(value, name) if value else ""

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)


def _stand_in(value: str, mark: str) -> str:
    """What is shown in the place of a secret: of its form, so that a config with it is as right as before."""
    if _DIGEST.fullmatch(value):
        return hashlib.sha256(mark.encode()).hexdigest()
    hidden, (scheme, address, _) = f"{HIDDEN}-{mark}", value.partition("://")
    if not address:
        return hidden
    return f"sqlite:///{hidden}" if scheme == "sqlite" else f"{scheme}://{hidden.replace('_', '-').lower()}.invalid"


def shown_config(app: App) -> str:
    """The file as it is now, without its secrets; empty if it cannot be read as YAML. Blocks."""
    try:
        text = app.text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    mask = app.redactor.secrets.mask

    def is_secret(value: str, name: str = "") -> bool:
        value = _REFERENCE.sub("", value)
        named = looks_secret(name) and not _NO_SECRET.fullmatch(name)
        return bool(value) and (named or mask(value) != value)

    places = sorted(set(_secret_places(root, "", is_secret, set())), reverse=True)
    for number, (start, end) in enumerate(places, 1):
        hidden = _stand_in(text[start:end].strip("\"'"), str(number))  # each its own: two keys may not be the same
        text = f'{text[:start]}"{hidden}"' + ("\n" if text[end - 1 : end] == "\n" else "") + text[end:]
    return _COMMENT.sub(lambda found: f"# {HIDDEN}" if is_secret(found[0]) else found[0], text)


_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
# Names that only look like those of secrets.
_NO_SECRET = re.compile(r"(?:first_)?tokens?(?:_(?:ms|s|gap_s))?|max_\w*tokens|max_key\w*")
_REFERENCE = re.compile(r"(?:Bearer )?\$\{\w+(?::-)?\}")
_COMMENT = re.compile(r"#.*")

_IsSecret = Callable[[str, str], bool]


def _secret_places(
    node: yaml.Node | None, name: str, is_secret: _IsSecret, seen: set[object]
) -> Iterator[tuple[int, int]]:
    """Where in the text the values of secret keys are. A node that has several names is looked at by each."""
    match node:
        case yaml.MappingNode() if id(node) not in seen:
            seen.add(id(node))
            for key, value in node.value:
                is_name = name == "match" and key.value == "key"  # the name of a key
                yield from _secret_places(value, "" if is_name else str(key.value), is_secret, seen)
        case yaml.SequenceNode() if (id(node), name) not in seen:
            seen.add((id(node), name))
            for value in node.value:
                yield from _secret_places(value, name, is_secret, seen)
        case yaml.ScalarNode() if is_secret(node.value, name):
            yield node.start_mark.index, node.end_mark.index
        case _:
            pass
