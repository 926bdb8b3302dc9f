"""Contracts that the config declares, served as those built in are: see docs/contracts/declared.md."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.config.frontends import FrontendSettings
from proxy.contracts.base import Endpoint, Head, Reply, accepts
from proxy.contracts.declared.request import RequestReader
from proxy.contracts.declared.writer import AnswerWriter, Body, Contract, now
from proxy.contracts.replies import LIVE, NoModels, error_headers
from proxy.errors import ProxyError
from proxy.request import Answer, ChatRequest


class DeclaredEncoder:
    """One answer, as declared."""

    def __init__(self, frontend: DeclaredFrontend, request: ChatRequest) -> None:
        self._frontend = frontend
        contract = frontend.contract
        self._writer = AnswerWriter(
            contract, id=request.id, model=request.model or "", created=now(), echoed=request.wire or {}
        )
        self.headers = frontend.stream_headers
        self.early = request.stream and contract.response.early
        self.abort_on_fault = contract.response.cuts
        self.feed = self._writer.feed
        self.ping = self._writer.ping

    def whole(self, answer: Answer) -> Reply:
        values = self._writer.values
        model = {"model": answer.model} if answer.model else {}
        return _reply(200, self._frontend.contract.whole(answer, {**values, **model}))

    def failure(self, error: ProxyError) -> Reply:
        return self._frontend.refusal(error, self._writer.values)


class DeclaredFrontend(NoModels):
    """A contract of the config's own. It has no list of models."""

    def __init__(self, name: str, settings: FrontendSettings) -> None:
        self.name = name
        self.endpoints = tuple([Endpoint("POST", path) for path in settings.path])
        self.contract = Contract(settings)
        self._reader = RequestReader(name, settings, calls_tools=self.contract.calls_tools, echoed=self.contract.echoed)
        self._media_type = self.contract.content_type.partition(";")[0].lower()
        given = {name.lower() for name in settings.headers}
        self.stream_headers: Mapping[str, str] = {
            "Content-Type": self.contract.content_type,
            **{name: value for name, value in LIVE.items() if name.lower() not in given},
            **settings.headers,
        }

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return self._reader.decode(
            body,
            id=head.id,
            path=head.path,
            headers=head.headers,
            accepts_stream=accepts(head, self._media_type),
        )

    @property
    def smallest_body(self) -> bytes:
        """A request that says "hi" and nothing else."""
        return self._reader.smallest_body()

    def encoder(self, request: ChatRequest, head: Head) -> DeclaredEncoder:  # noqa: ARG002 - the body says it all
        return DeclaredEncoder(self, request)

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return self.refusal(error, {"id": head.id, "model": "", "created": now()})

    def refusal(self, error: ProxyError, values: Mapping[str, object]) -> Reply:
        """A failure before anything was sent."""
        return _reply(self.contract.status(error), self.contract.failure(error, values), error_headers(error, {}))


def declared(frontends: Mapping[str, FrontendSettings]) -> list[DeclaredFrontend]:
    """The contracts that a config declares."""
    return [DeclaredFrontend(name, settings) for name, settings in frontends.items()]


def _reply(status: int, body: Body, headers: Mapping[str, str] | None = None) -> Reply:
    own = {"Content-Type": body.content_type, "Cache-Control": "no-store"}
    return Reply(status, body.data, {**own, **(headers or {})})
