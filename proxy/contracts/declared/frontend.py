"""Contracts that the config declares: see docs/contracts/declared.md."""

import time
from collections.abc import Mapping

from proxy.config.frontends import FrontendSettings
from proxy.contracts.base import Encoder, Endpoint, Head, Reply, accepts
from proxy.contracts.declared.contract import Contract
from proxy.contracts.declared.request import RequestReader
from proxy.contracts.declared.writer import DeclaredWriter
from proxy.contracts.replies import NoModels, cuts_on_error
from proxy.errors import ProxyError
from proxy.request import ChatRequest


class DeclaredFrontend(NoModels):
    """One declared contract. It has no list of models."""

    route_settings = frozenset({"errors"})

    def __init__(self, name: str, settings: FrontendSettings) -> None:
        self.name = name
        self.endpoints = tuple([Endpoint("POST", path) for path in settings.path])
        self.contract = Contract(settings)
        self._reader = RequestReader(name, settings, calls_tools=self.contract.calls_tools, echoed=self.contract.echoed)
        self._media_type = self.contract.content_type.partition(";")[0].lower()

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return self._reader.decode(
            body, id=head.id, path=head.path, headers=head.headers, accepts_stream=accepts(head, self._media_type)
        )

    @property
    def smallest_body(self) -> bytes:
        """A request that says "hi" and nothing else."""
        return self._reader.smallest_body()

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        return DeclaredWriter(
            self.contract,
            id=request.id,
            model=request.model or "",
            created=_now(),
            echoed=request.raw_body or {},
            early=request.stream and self.contract.response.early,
            abort_on_fault=cuts_on_error(head),
        )

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return self.contract.failure(error, {"id": head.id, "model": "", "created": _now()})


def declared(frontends: Mapping[str, FrontendSettings]) -> list[DeclaredFrontend]:
    """The contracts that a config declares."""
    return [DeclaredFrontend(name, settings) for name, settings in frontends.items()]


def _now() -> int:
    """Unix time in seconds."""
    return int(time.time())
