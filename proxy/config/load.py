"""Load a config file: all of its settings, checked, or all of its errors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from proxy.config import checks
from proxy.config.file import read
from proxy.config.frontend_checks import Served
from proxy.config.models import Settings
from proxy.config.partial import readable
from proxy.config.source import Document, Path, parse
from proxy.config.wording import nearest, validation_errors
from proxy.errors import ConfigError, ConfigErrors, ConfigWarning

# YAML 1.1 reads these words as false. Here they are values.
_WORDS: Mapping[Path, Collection[str]] = {("auth",): {"off"}, ("server", "reload"): {"off"}}
_MOST_ERRORS = 100


@dataclass(frozen=True)
class Config:
    """A valid config. `backends` are the rows that are on; `off` says why each of the others is off.

    `settings.backends` keeps only `kind` and `optional` of each row. Secrets are in `backends`, as `SecretStr`.
    """

    path: str
    settings: Settings
    backends: Mapping[str, BaseModel]
    off: Mapping[str, str]
    warnings: tuple[ConfigWarning, ...] = ()
    digest: str = field(default="", repr=False)  # of the file's content

    @property
    def routes_off(self) -> list[str]:
        """Names of routes that match nothing, as all their backends are off."""
        return [route.name for route in self.settings.routes if all(target.backend in self.off for target in route.to)]


def load_config(
    path: str | os.PathLike[str],
    *,
    content: bytes | None = None,
    settings_for: Callable[[str], type[BaseModel]],
    env: Mapping[str, str] | None = None,
    kinds: Collection[str] | None = None,
    contracts: Collection[str] | None = None,
    host: str | None = None,
    port: int | None = None,
) -> Config:
    """Read the file `path`, replace its variables and check it. Raises `ConfigErrors` with all errors, in file order.

    `content`, if given, is checked instead of the file's content. `settings_for` returns the settings model of a
    backend kind, or raises `ConfigError`. `kinds` and `contracts` are the known names, by default the registered
    ones. `host` and `port` come from the command line and replace the file's before the checks.
    """
    file = os.fspath(path)
    if content is None:
        content = read(file)
    document = parse(content, file=file, environment=os.environ if env is None else env, words=_WORDS)
    kinds = _registered("proxy.backends") if kinds is None else kinds
    contracts = _registered("proxy.frontends") if contracts is None else contracts

    off = _rows_off(document)
    errors = [*document.errors, *_unset(document, off)]
    backends, row_errors = _backends(document, off, settings_for, kinds)
    errors += row_errors
    settings: Settings | None = None
    _override(document.data, host=host, port=port)
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as error:
        errors += validation_errors(error, document, Settings)
    built_in = frozenset(contracts)
    context = checks.Context(
        document, readable(document), backends, off, built_in, lambda: Served(built_in, _paths_served())
    )
    errors += checks.errors(context)
    if errors or settings is None:
        raise ConfigErrors(_in_order(errors, file))
    kept = {
        name: {key: row[key] for key in ("kind", "optional") if key in row} for name, row in settings.backends.items()
    }
    return Config(
        path=file,
        settings=settings.model_copy(update={"backends": kept}),
        backends=backends,
        off=off,
        warnings=tuple(sorted(checks.warnings(context), key=lambda warning: (warning.line, warning.column))),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _registered(group: str) -> frozenset[str]:
    return frozenset(point.name for point in entry_points(group=group))


def _paths_served() -> dict[str, str]:
    """Path to contract, for all registered contracts. Loads them."""
    points = entry_points(group="proxy.frontends")
    return {endpoint.path: point.name for point in points for endpoint in point.load().endpoints}


def _rows(document: Document) -> dict[str, Any]:
    rows = document.data.get("backends")
    return rows if isinstance(rows, dict) else {}


def _rows_off(document: Document) -> dict[str, str]:
    """Optional backends with an unset variable, and its name."""
    off: dict[str, str] = {}
    for path, names in document.unset.items():
        if len(path) > 2 and path[0] == "backends":
            row = _rows(document).get(str(path[1]))
            if isinstance(row, dict) and row.get("optional") is True:
                off.setdefault(str(path[1]), f"{names[0]} is not set")
    return off


def _unset(document: Document, off: Mapping[str, str]) -> list[ConfigError]:
    errors = []
    for path, names in document.unset.items():
        document.faulty.add(path)
        in_row = len(path) > 2 and path[0] == "backends"
        if in_row and path[1] in off:
            document.incomplete.add(path[:2])
            continue
        hint = ", or mark the backend `optional: true`" if in_row else ""
        errors += [
            document.error(f"the variable {name} is not set; set it, write ${{{name}:-default}}{hint}", path)
            for name in names
        ]
    return errors


def _backends(
    document: Document,
    off: dict[str, str],
    settings_for: Callable[[str], type[BaseModel]],
    kinds: Collection[str],
) -> tuple[dict[str, BaseModel], list[ConfigError]]:
    """The rows that are on, each validated by the model of its kind, and the errors of all rows.

    Adds to `off` the optional rows whose kind does not load.
    """
    backends: dict[str, BaseModel] = {}
    errors: list[ConfigError] = []
    for name, row in _rows(document).items():
        path: Path = ("backends", name)
        if not isinstance(row, dict) or path in document.faulty:
            continue  # reported elsewhere
        kind = row.get("kind")
        if not isinstance(kind, str):
            if (*path, "kind") not in document.faulty:
                known = ", ".join(sorted(kinds))
                errors.append(document.error(f"backend `{name}` needs a `kind`: one of {known}", (*path, "kind")))
            continue
        if kind not in kinds:
            if (*path, "kind") not in document.faulty:
                errors.append(document.error(f"backend `{name}`: no such kind{nearest(kind, kinds)}", (*path, "kind")))
            continue
        try:
            model = settings_for(kind)
        except ConfigError as error:
            if row.get("optional") is True:  # such as a kind whose packages are not installed
                off.setdefault(name, error.message)
            else:
                errors.append(document.error(error.message, (*path, "kind")))
            continue
        except ImportError as error:
            errors.append(document.error(f"backend `{name}`: kind `{kind}` does not load: {error}", (*path, "kind")))
            continue
        try:
            backends[name] = model.model_validate(row)
        except ValidationError as error:
            errors += validation_errors(error, document, model, path)
        if name in off:  # it was validated only to find its other mistakes
            backends.pop(name, None)
    return backends, errors


def _override(data: dict[str, Any], **given: str | int | None) -> None:
    """Let the command line replace settings of the server."""
    server = data.get("server", {})
    if isinstance(server, dict) and (said := {key: value for key, value in given.items() if value is not None}):
        data["server"] = server | said


def _in_order(errors: list[ConfigError], file: str) -> list[ConfigError]:
    unique = {(error.line, error.column, error.message): error for error in errors}
    ordered = [unique[key] for key in sorted(unique)]
    if len(ordered) > _MOST_ERRORS:
        rest = len(ordered) - _MOST_ERRORS
        last = ordered[_MOST_ERRORS]
        more = ConfigError(f"and {rest} more from here on", file=file, line=last.line, column=last.column)
        ordered = [*ordered[:_MOST_ERRORS], more]
    return ordered
