"""`GET /usage`: what was used. A key that is limited to routes or models sees its own rows, others see all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.contracts.base import Reply
from proxy.errors import BadRequest, NotFound, ProxyError

if TYPE_CHECKING:
    from proxy.config.usage import UsageSettings
    from proxy.ledger.report import Format
    from proxy.server.context import RequestContext

_TYPES: dict[Format, str] = {"json": "application/json", "csv": "text/csv", "table": "text/plain"}


async def usage(context: RequestContext) -> web.StreamResponse:
    """What was used, grouped as the query says: `?by=key,model,day&since=7d&format=json`."""
    settings = context.snapshot.config.settings.usage
    if settings is None:
        raise NotFound(
            "Usage is not written down here: the config has no `usage`. Add `usage: {}` to keep it in usage.db."
        )
    query, principal = context.head.query, context.principal
    asked = query.get("format", "json")
    format = next((known for known in _TYPES if known == asked), None)
    if format is None:
        raise BadRequest(f"There is no format {asked!r}: json, csv and table are.", param="format")
    own = principal.name if principal is not None and principal.restricted else None
    text = await asyncio.to_thread(_report, settings, query.get("by", "key,model"), query.get("since"), own, format)
    return context.reply(Reply(200, text.encode(), {"Content-Type": f"{_TYPES[format]}; charset=utf-8"}), record=False)


def _report(settings: UsageSettings, by: str, since: str | None, key: str | None, format: Format) -> str:
    from proxy.ledger import report  # noqa: PLC0415 - not loaded where it is off
    from proxy.ledger.store import LedgerStore  # noqa: PLC0415

    store = LedgerStore(settings, only_reads=True)
    try:
        return report.told(store, by, since, format, key)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    except store.failures as error:
        raise ProxyError(
            "The store of usage cannot be reached. Try again.", status=503, code="usage_unknown"
        ) from error
    finally:
        store.close()
