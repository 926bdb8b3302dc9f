"""What `explain` shows of a decision of the router, as plain values."""

from collections.abc import Iterator
from typing import Any

import msgspec

from proxy.errors import ProxyError
from proxy.routing.plan import Plan


class Skipped(msgspec.Struct, frozen=True):
    """A rule above the one that matched, and the first of its conditions that did not hold."""

    route: str
    condition: str
    wanted: str
    got: str

    def __str__(self) -> str:
        if self.condition == "off":
            return f"{self.route}: off: {self.got}"
        return f"{self.route}: wants {self.condition} {self.wanted}, got {self.got}"


class Choice(msgspec.Struct, frozen=True):
    """One target of the rule that matched: its share of requests, and why it is not used, if so."""

    target: str
    share: float
    unused: str = ""
    note: str = ""  # its score, for pickers that have one


class Parameter(msgspec.Struct, frozen=True):
    """A parameter as it is sent, and where its value comes from: `request`, `hint` (`ChatRequest.hints`), `set` or
    `default`.
    """

    name: str
    value: Any
    origin: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The plan for a request, and why. Without a plan, `error` is what the client gets."""

    contract: str
    path: str
    model: str | None
    key: str | None
    skipped: tuple[Skipped, ...]
    route: str | None = None
    pick: str = ""
    sticks_to: str = ""  # what of the request decides where it goes, with `sticky`
    choices: tuple[Choice, ...] = ()
    plan: Plan | None = None
    tags_state: bool = False  # its targets sign or encrypt what only they can read, in more than one place
    parameters: tuple[Parameter, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()  # whose, and which
    omissions: tuple[tuple[str, str], ...] = ()  # by target, what of the request it omits, or why it refuses it
    differences: tuple[tuple[str, str], ...] = ()  # by target, what it would be sent in other words than the client's
    error: ProxyError | None = None


def guards_in_words(plan: Plan) -> Iterator[tuple[str, str]]:
    """What is done about answers that come in bursts, loop or are slow, or whose client leaves, each with its name."""
    if plan.smooth_s:
        yield "smooth", f"text comes word by word, each at most {plan.smooth_s * 1000:g} ms late"
    if plan.repetition_guard:
        yield "loops", "an answer in a loop is ended, as `degenerate`"
    if plan.min_tokens_per_s:
        yield "pace", f"an answer slower than {plan.min_tokens_per_s:g} tokens a second for 10 s is ended"
    if (resume := plan.resume) is not None:
        yield "resume", f"goes on for {resume.grace_s:g} s without a reader; kept for {resume.keep_s:g} s after its end"
