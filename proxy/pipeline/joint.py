"""How a continued answer is joined to what the client has already. Exact only; no I/O.

A model that is asked to go on often repeats the end of what it wrote, or starts over. What it repeats letter for letter is
left out. Anything that is alike but not the same cannot be joined, and is refused instead of shown.
"""

from proxy.errors import UpstreamError

SHORTEST_OVERLAP = 8
"""Characters. Fewer may be chance: many answers hold " the " twice."""

STARTS_OVER = 16
"""Characters that are the same as at the beginning of the answer, from which on a continuation counts as starting over."""

HOLD = 256
"""Characters that are held back at most to look for an overlap."""


class NotJoined(UpstreamError):
    """The continuation does not go on where the answer was cut."""

    code = "not_joined"
    trips = False

    def __init__(self) -> None:
        super().__init__("the continuation starts over with other words than the answer had")


class Joint:
    """Takes the text of a continuation, and gives what of it follows `sent`, the text that the client has.

    `exact`: the target goes on letter for letter, as one that was given the beginning of its answer does. Then nothing
    is left out but the white space at the joint, if the target was sent `sent` without it.
    """

    def __init__(self, sent: str, *, exact: bool) -> None:
        self._sent, self._exact = sent, exact
        self._held = ""
        self.joined = False  # from now on all text goes on as it comes

    def feed(self, text: str) -> str:
        """What the client is to be sent now. Raises `NotJoined`."""
        if self.joined:
            return text
        self._held += text
        if self._exact:
            return self._without_space()
        same = _common_prefix(self._sent, self._held)
        if same == len(self._held) < len(self._sent):
            return ""  # it may be starting over
        if same == len(self._sent):
            return self._join(same)
        if same >= STARTS_OVER:
            raise NotJoined
        return self._join(_overlap(self._sent, self._held)) if len(self._held) >= HOLD else ""

    def waited(self) -> str:
        """The same, when nothing came for a while: what is held may be shown if it is no repetition so far."""
        if self.joined or not self._held or self._exact:
            return ""
        same = _common_prefix(self._sent, self._held)
        if same == len(self._held) or self._held in self._sent[-2 * HOLD :]:
            return ""
        return self._join(_overlap(self._sent, self._held))

    def end(self) -> str:
        """The same, at the end of the continuation. Raises `NotJoined` if it ended before it was past the beginning."""
        if self.joined or not self._held:
            return ""
        if self._exact:
            return self._join(0)
        if len(self._held) >= STARTS_OVER and self._sent.startswith(self._held):
            raise NotJoined
        return self._join(_overlap(self._sent, self._held))

    def _without_space(self) -> str:
        """The client has the white space at the end of `sent`; a model that was not sent it writes it again."""
        space = self._sent[len(self._sent.rstrip()) :]
        if len(self._held) < len(space) and space.startswith(self._held):
            return ""
        return self._join(len(space) if space and self._held.startswith(space) else 0)

    def _join(self, repeated: int) -> str:
        text, self._held, self.joined = self._held[repeated:], "", True
        return text


def _common_prefix(one: str, other: str) -> int:
    if one.startswith(other):
        return len(other)
    if other.startswith(one):
        return len(one)
    return next(at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def _overlap(sent: str, text: str) -> int:
    """How many characters at the beginning of `text` are the end of `sent`: the most, from `SHORTEST_OVERLAP` on."""
    for length in range(min(len(sent), len(text)), SHORTEST_OVERLAP - 1, -1):
        if sent.endswith(text[:length]):
            return length
    return 0
