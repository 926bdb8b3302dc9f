"""Record sinks: what happens with the record of every request that is over."""

from typing import Protocol

from proxy.telemetry.record import StreamRecord


class RecordSink(Protocol):
    """Takes the record of each request: the log, the metrics, and whatever else accounts for requests."""

    def ended(self, record: StreamRecord) -> None:
        """A request is over. Called on the event loop, so it never waits; a sink that writes has a queue of its own."""
