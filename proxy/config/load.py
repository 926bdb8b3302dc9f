"""Load a config file: all of its settings, checked, or all of its errors."""

import hashlib
import os
import re
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
from proxy.config.source import Document, Path, looks_secret, parse
from proxy.config.wording import allowed_values, closest, dotted, nearest, validation_errors
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
    _refuse_other_formats(document)
    kinds = _registered("proxy.backends") if kinds is None else kinds
    contracts = _registered("proxy.frontends") if contracts is None else contracts

    off = _rows_off(document)
    errors = [*document.errors, *_unset(document, off), *_foreign_variables(document)]
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


def _refuse_other_formats(document: Document) -> None:
    """Say in one error that the file is meant for another program."""
    if "model_list" in document.data and "backends" not in document.data:
        raise ConfigErrors(
            [
                document.error(
                    "this is a config of LiteLLM's proxy; here, each provider is a row under `backends` and each entry of "
                    f"`model_list` a rule under `routes`: `chat-proxy import litellm {document.file}` writes them",
                    ("model_list",),
                    key=True,
                )
            ]
        )


_FOREIGN_VARIABLE = re.compile(
    r"(?:os\.environ/|\$env:|env[:.]|\$)([A-Za-z_][A-Za-z0-9_]*)|%([A-Za-z_][A-Za-z0-9_]*)%|\{\{ *(?:env\.)?([A-Za-z_]\w*) *\}\}"
    r"|([A-Z][A-Z0-9_]*_(?:KEY|TOKEN|URL))"
)
"""A variable as LiteLLM, PowerShell, a shell, Windows or a template writes it, or its bare name."""

_ADDRESSES = frozenset({"base_url", "api_base", "endpoint"})


def _foreign_variables(document: Document) -> list[ConfigError]:
    """Keys and addresses that are the name of a variable in a form that is not replaced here."""
    errors = []
    for path, text in _texts(document.data.get("backends"), ("backends",)) + _texts(
        document.data.get("auth"), ("auth",)
    ):
        found = _FOREIGN_VARIABLE.fullmatch(text)
        if found and path not in document.from_environment and (looks_secret(path[-1]) or path[-1] in _ADDRESSES):
            document.faulty.add(path)
            name = next(filter(None, found.groups()))
            errors.append(document.error(f"`{text}` is not replaced here; write ${{{name}}}", path))
    return errors


def _texts(data: Any, path: Path) -> list[tuple[Path, str]]:
    """Every text below `path`."""
    if isinstance(data, str):
        return [(path, data)]
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for step, part in parts for found in _texts(part, (*path, step))]


def _without_kind(document: Document, path: Path, kinds: Collection[str]) -> ConfigError:
    near = closest("kind", [str(key[-1]) for key in document.keys if key[:-1] == path])
    if near and near != "kind":
        return document.error(f"unknown key `{near}` in {dotted(path)}; did you mean `kind`?", (*path, near), key=True)
    known = ", ".join(sorted(kinds))
    return document.error(f"backend `{path[-1]}` needs a `kind`: one of {known}", (*path, "kind"))


_COMPATIBLE = "openai-compatible"


def _instead(kind: str, kinds: Collection[str], settings_for: Callable[[str], type[BaseModel]]) -> str:
    """What to write for a vendor that is not a kind but a preset; empty if `kind` is not like one."""
    if _COMPATIBLE not in kinds:
        return ""
    if kind.lower().startswith("azure"):
        return f"no kind `{kind[:40]}`; write `kind: openai` and `azure: {{endpoint: …, api_version: …}}`"
    presets = allowed_values(settings_for(_COMPATIBLE), ("preset",))
    known = kind.lower() if kind.lower() in presets else closest(kind, kinds) is None and closest(kind.lower(), presets)
    return f"no kind `{kind[:40]}`; write `kind: {_COMPATIBLE}` and `preset: {known}`" if known else ""


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
    document: Document, off: dict[str, str], settings_for: Callable[[str], type[BaseModel]], kinds: Collection[str]
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
                errors.append(_without_kind(document, path, kinds))
            continue
        if kind not in kinds:
            if (*path, "kind") not in document.faulty:
                hint = _instead(kind, kinds, settings_for) or f"no such kind{nearest(kind, kinds)}"
                errors.append(document.error(f"backend `{name}`: {hint}", (*path, "kind")))
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
