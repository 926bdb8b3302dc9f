"""The readable part of a config with mistakes, so that one run finds the mistakes in all of it.

Each route and key is validated separately, without its faulty fields. The result is only for
`proxy.config.checks`; it is never served.
"""

from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from proxy.config.models import AuthSettings, KeySettings, RouteSettings, ServerSettings
from proxy.config.source import Document

AnyModel = TypeVar("AnyModel", bound=BaseModel)


class ReadRoute(NamedTuple):
    """A route and its index in the list. `whole` is False if faulty fields were left out."""

    at: int
    route: RouteSettings
    whole: bool


class Readable(NamedTuple):
    """Input of the checks. A section that cannot be read at all is None."""

    server: ServerSettings | None
    auth: AuthSettings | None
    asks: bool  # True if the file has `auth`, readable or not
    keys: list[tuple[int, KeySettings]]
    all_keys: bool  # True if none is missing from `keys`
    routes: list[ReadRoute]
    route_names: frozenset[str]
    rows: dict[str, Any]  # backends, not validated


def readable(document: Document) -> Readable:
    """The part of the document that can be read."""
    data = document.data
    raw_auth, raw_routes, raw_rows = data.get("auth"), _list(data.get("routes")), data.get("backends")
    raw_keys = _list(raw_auth.get("keys")) if isinstance(raw_auth, dict) else []
    keys = [(index, found[0]) for index, raw in enumerate(raw_keys) if (found := _read(KeySettings, raw))]
    off = raw_auth == "off" or (isinstance(raw_auth, dict) and raw_auth.get("off") is True)
    written_well = off or (isinstance(raw_auth, dict) and isinstance(raw_auth.get("keys"), list | None))
    server = _read(ServerSettings, data.get("server", {}))
    return Readable(
        server=server[0] if server else None,
        auth=AuthSettings.model_construct(off=off, keys=[key for _, key in keys]) if written_well else None,
        asks="auth" in data or () in document.incomplete,
        keys=keys,
        all_keys=len(keys) == len(raw_keys) and not any(path[:1] == ("auth",) for path in document.faulty),
        routes=[
            ReadRoute(index, *entry) for index, raw in enumerate(raw_routes) if (entry := _read(RouteSettings, raw))
        ],
        route_names=frozenset(
            raw["name"] for raw in raw_routes if isinstance(raw, dict) and isinstance(raw.get("name"), str)
        ),
        rows=raw_rows if isinstance(raw_rows, dict) else {},
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(model: type[AnyModel], raw: Any) -> tuple[AnyModel, bool] | None:
    """`raw` as `model` without its faulty fields, and True if there were none. None if too little is left."""
    whole = True
    while True:
        try:
            return model.model_validate(raw), whole
        except ValidationError as error:
            faulty = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
            if not isinstance(raw, dict) or not faulty & raw.keys():
                return None
            raw, whole = {key: value for key, value in raw.items() if key not in faulty}, False
