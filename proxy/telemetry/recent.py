"""The last requests, for the page at `/`: their records, in memory."""

from collections import deque
from collections.abc import Iterator

from proxy.telemetry.record import StreamRecord

MOST_RECENT = 500


class RecentRequests:
    """A record sink that keeps the last records, each with a number that counts all of them."""

    def __init__(self, most: int = MOST_RECENT) -> None:
        self.number = 0  # of the newest
        self.tokens = 0  # pieces of content in all answers that are over
        self._records: deque[StreamRecord] = deque(maxlen=most)

    def ended(self, record: StreamRecord) -> None:
        self.number += 1
        self.tokens += record.content_events
        self._records.append(record)

    def since(self, number: int) -> list[StreamRecord]:
        """The records after that number, as far as they are kept, the oldest first."""
        new = min(self.number - number, len(self._records)) if number <= self.number else len(self._records)
        return [self._records[index] for index in range(len(self._records) - new, len(self._records))]

    def __reversed__(self) -> Iterator[StreamRecord]:
        return reversed(self._records)
