"""The operations of the page: its files, the events it follows, one request, and explanations.

While a page is open, its feed looks twice a second for what is new. So requests do no work for it, and nothing is
queued for a page that reads slowly: only its own feed waits.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from proxy.contracts.base import Reply, accepts
from proxy.contracts.replies import EVENT_STREAM
from proxy.errors import BadRequest, NotFound
from proxy.server.body import read_body
from proxy.server.context import RequestContext
from proxy.server.operator_pages import JSON, TEXT, Operation
from proxy.telemetry.recent import MOST_RECENT
from proxy.web import explaining
from proxy.web.files import FILES, PAGE, PAGE_HEADERS
from proxy.web.look import App, Everybody, Query, Seen
from proxy.wire import sse

LOOK_S = 0.5
STATUS_S = 1.0
HEARTBEAT_S = 10.0
LONGEST_CONFIG_MB = 1
FOLDER = "/web/"
PREFIX = "/status/requests/"

T = TypeVar("T")


class WebPages:
    """The page at `/` and what it asks for. `everybody` asks all processes that serve together."""

    def __init__(self, app: App, status: Operation, everybody: Everybody) -> None:
        self._app, self._everybody = app, everybody
        assert status.answer is not None
        self._status = status.answer

    def by_path(self) -> Mapping[str, Operation]:
        return {
            "/": Operation(handle=self.root, open=True),
            **{f"{FOLDER}{name}": Operation(handle=self.file, open=True) for name in FILES},
            "/status/events": Operation(handle=self.events),
            "/status/requests": Operation(handle=self.requests),
            PREFIX: Operation(handle=self.request),
            "/status/config": Operation(handle=self.config),
            "/explain": Operation(handle=self.explain, methods=("POST",)),
            "/explain/diff": Operation(handle=self.diff, methods=("POST",)),
        }

    # -- files -------------------------------------------------------------------------------------------------

    async def root(self, context: RequestContext) -> web.Response:
        """The page for browsers, a word for all others.

        Claude Code asks for it (`HEAD /`) before its first request, without a key.
        """
        if accepts(context.head, "text/html"):
            return context.reply(PAGE, record=False)
        return context.reply(Reply(200, b"chat-proxy\n", {**TEXT, "Vary": "Accept"}), record=False)

    async def file(self, context: RequestContext) -> web.Response:
        found = FILES[context.path.removeprefix(FOLDER)]
        if context.head.headers.get("if-none-match") == found.headers["ETag"]:
            return context.reply(Reply(304, b"", {**PAGE_HEADERS, "ETag": found.headers["ETag"]}), record=False)
        return context.reply(found, record=False)

    # -- what happens ------------------------------------------------------------------------------------------

    async def events(self, context: RequestContext) -> web.StreamResponse:
        """A snapshot, then what changes. Ends when the proxy drains. A page that does not read is cut."""
        response = web.StreamResponse(headers={**context.headers, **EVENT_STREAM})
        response.force_close()
        stall_s = context.snapshot.limits.write_stall_s
        try:
            await response.prepare(context.http)
            if context.head.method != "HEAD":
                async for frames in self._frames():
                    async with asyncio.timeout(stall_s):
                        await response.write(frames)
        except (asyncio.CancelledError, ConnectionError, TimeoutError):
            if context.http.transport is not None:
                context.http.transport.abort()
        return response

    async def _frames(self) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        since: dict[str, int] = {}
        live: dict[str, Any] = {}
        status = b""
        first, status_at, sent_at = True, 0.0, now()
        while first or not self._app.draining:
            all_seen: list[Seen] = await self._everybody(Query(since=since))
            since = {seen.process: seen.number for seen in all_seen}
            frames = b""
            if now() - status_at >= STATUS_S:
                status_at, newest = now(), (await self._status()).body
                if newest != status:
                    status = newest
                    frames += _event("status", status)
            rows = _changed(all_seen, live)
            if first:
                rows.sort(key=lambda row: row["began"])
                frames += _event("snapshot", msgspec.json.encode(rows[-MOST_RECENT:]))
            elif rows:
                frames += _event("requests", msgspec.json.encode(rows))
            counts = {"active": sum(one.active for one in all_seen), "tokens": sum(one.tokens for one in all_seen)}
            if first or counts["active"] or rows:
                pieces = {row["id"]: row["pieces"] for seen in all_seen for row in seen.live}
                frames += _event("now", msgspec.json.encode({**counts, "pieces": pieces}))
            if not frames and now() - sent_at >= HEARTBEAT_S:
                frames = sse.PING
            if frames:
                sent_at = now()
                yield frames
            first = False
            await asyncio.sleep(LOOK_S)

    async def requests(self, context: RequestContext) -> web.Response:
        """The last requests; with `?last=1` all that is known of the last one that is over."""
        if context.head.query.get("last"):
            return await self._one(context, Query(last=True), "No request is over yet.")
        all_seen: list[Seen] = await self._everybody(Query(since={}))
        rows = sorted((row for seen in all_seen for row in seen.ended + seen.live), key=lambda row: row["began"])
        return _json(context, rows[-MOST_RECENT:])

    async def request(self, context: RequestContext) -> web.Response:
        """All that is known of one request."""
        id = context.path.removeprefix(PREFIX)
        missing = f"Request {id[:64]!r} is not among the last {MOST_RECENT}."
        return await self._one(context, Query(id=id), missing)

    async def _one(self, context: RequestContext, query: Query, missing: str) -> web.Response:
        found = [seen.found for seen in await self._everybody(query) if seen.found is not None]
        if not found:
            raise NotFound(missing)
        return _json(context, max(found, key=lambda one: one["began"]))

    # -- what would happen -------------------------------------------------------------------------------------

    async def config(self, context: RequestContext) -> web.Response:
        """The config file as it is now, without secrets, for an editor to begin with; and the contracts it declares."""
        text = await asyncio.to_thread(explaining.shown_config, self._app)
        return _json(context, {"config": text, "declared": explaining.declared_contracts(self._app)})

    async def explain(self, context: RequestContext) -> web.Response:
        trial = await _read(context, explaining.Trial)
        return _json(context, await asyncio.to_thread(explaining.explained, self._app, trial))

    async def diff(self, context: RequestContext) -> web.Response:
        """What a config would have done with the last requests. It is not taken up."""
        edited = await _read(context, explaining.Edited)
        if len(edited.config) > LONGEST_CONFIG_MB * 1_000_000:
            raise BadRequest(f"A config is at most {LONGEST_CONFIG_MB} MB.")
        judged = [seen.judged for seen in await self._everybody(Query(config=edited.config)) if seen.judged is not None]
        joined = judged[0]
        for one in judged[1:]:
            joined.requests += one.requests
            joined.differs += one.differs
            joined.unknown += one.unknown
        return _json(context, msgspec.to_builtins(joined))


def _changed(all_seen: list[Seen], live: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that are new or not as they were; `live` remembers those under way between two looks."""
    rows = [row for seen in all_seen for row in seen.ended]
    running = [row for seen in all_seen for row in seen.live]
    known = dict(live)
    live.clear()
    for row in running:
        mark = live[row["id"]] = (row["began"], row["route"], row["first"], [one["code"] for one in row["attempts"]])
        if known.get(row["id"]) != mark:
            rows.append(row)
    return rows


async def _read(context: RequestContext, form: type[T]) -> T:
    try:
        return msgspec.json.decode(await read_body(context), type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not what is read here: {error}") from None


def _json(context: RequestContext, value: Any) -> web.Response:
    return context.reply(Reply(200, msgspec.json.encode(value, enc_hook=str), JSON), record=False)


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\n" + sse.encode(data)
