"""The calls of a complete answer, for contracts that have a JSON object for arguments."""

from collections.abc import Iterable, Iterator

import msgspec

from proxy.errors import BrokenToolCall
from proxy.request import ToolCall
from proxy.wire.json_text import without_separators

_CUT_SHORT = frozenset({"length", "content_filter"})
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def whole_calls(calls: Iterable[ToolCall], reason: str) -> Iterator[tuple[ToolCall, bytes]]:
    """Each call with its arguments as the model wrote them, on one line. `reason` is why the answer ended.

    A call that a limit cut short is left out: clients would run it. Raises `BrokenToolCall` for any other call whose
    arguments are no JSON object.
    """
    for call in calls:
        text = call.arguments.encode("utf-8", "replace").strip() or b"{}"
        try:
            _decode(text)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            if reason in _CUT_SHORT:
                continue
            raise BrokenToolCall(
                f"the model called {call.name[:64]!r} with arguments that are no JSON object, which this contract "
                "cannot carry"
            ) from None
        yield call, without_separators(text.replace(b"\n", b" ").replace(b"\r", b" "))
