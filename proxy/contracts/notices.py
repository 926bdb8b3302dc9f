"""The response header that says what of a request was left out, for contracts that have no place for it.

    X-Chat-Notice: top_k was left out: this target does not take it; seed was left out: this target does not take it

Every contract sends it, those too that tell it in the answer: a header breaks no client.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.events import Notice

NOTICE_HEADER = "X-Chat-Notice"
LONGEST = 2000
"""Characters: servers and proxies between refuse heads of 8 KB."""


def notice_header(notices: Sequence[Notice]) -> str:
    """The header's value: one line of printable ASCII, whatever a backend of anybody's says."""
    told: list[str] = []
    size = 0
    for number, notice in enumerate(notices):
        text = "".join([character if " " <= character <= "~" else "?" for character in notice.message])
        size += len(text) + 2
        if size > LONGEST:
            told.append(f"and {len(notices) - number} more")
            break
        told.append(text)
    return "; ".join(told)
