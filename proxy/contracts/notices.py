"""The response header that names what was left out of a request, for contracts that have no place for it.

    X-Chat-Notice: top_k was left out: this target does not take it; seed was left out: this target does not take it

Every contract sends it, also one that says the same in its answers: a header breaks no client.
"""

from collections.abc import Sequence

from proxy.events import Notice

NOTICE_HEADER = "X-Chat-Notice"
LONGEST = 2000
"""In characters. Servers and proxies on the way refuse heads of 8 KB."""


def notice_header(notices: Sequence[Notice]) -> str:
    """The header's value: one line of printable ASCII, whatever a plug-in's notice holds."""
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
