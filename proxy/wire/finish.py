"""What an upstream's finish reason means, and when a stream has said that its answer is complete.

One table for every reader: OpenAI, Anthropic and litellm, streamed and whole. Two rules stand above it. Nothing that
came earlier is made good by what comes later: an error before the end mark is an error. And no end is invented: what
is unknown passes on as unknown, and is an error where the answer shows that something is wrong.
"""

import re
from functools import lru_cache
from typing import Any, Literal, get_args

import msgspec

from proxy.errors import UpstreamFailed
from proxy.events import FinishReason
from proxy.wire.text import bare

Meaning = FinishReason | Literal["error", "unknown", "none"]
"""`none`: the model goes on. `error`: the upstream gave up. `unknown`: it ended, and the word is not in the table."""

_WORDS_FOR: dict[Meaning, tuple[str, ...]] = {
    # Not a reason. Several gateways print their language's null, and Gemini has a word for "not set".
    "none": ("", "null", "none", "nil", "undefined", "false", "0", "unspecified", "notfinished"),
    # The model ended by itself, or at a stop sequence.
    "stop": (
        "stop", "eos", "eostoken", "eosfound", "eot", "end", "endturn", "endofturn", "stopsequence", "stopstring",
        "stoptoken", "complete", "completed", "finished", "done",
        "pauseturn",  # Anthropic: ask again to go on
    ),
    # The model waits for the results of its calls.
    "tool_calls": ("toolcall", "toolcalls", "tooluse", "functioncall", "functioncalls"),
    # The answer is cut at a limit of tokens.
    "length": (
        "length", "maxtokens", "maxtokensreached", "maxoutputtokens", "maxlen", "maxlength", "modellength",
        "tokenlimit", "modelcontextlengthexceeded",
        "contextlengthreached", "maxpredictedtokensreached",  # LM Studio
        "modelcontextwindowexceeded",  # Anthropic, Zhipu
    ),
    # The answer is withheld or cut because of what it says.
    "content_filter": (
        "contentfilter",
        "contentfiltered", "guardrailintervened",  # Bedrock
        "refusal",  # Anthropic
        "safety", "imagesafety", "recitation", "language", "blocklist", "prohibitedcontent", "spii",  # Gemini
        "sensitive",  # Zhipu
        "errortoxic",  # Cohere
    ),
    # The upstream gave up; what has come is not the answer.
    "error": (
        "error", "aborted", "cancelled", "canceled", "timeout", "timelimit", "unloaded",
        "abort",  # vLLM, SGLang
        "insufficientsystemresource",  # DeepSeek
        "networkerror",  # Zhipu
        # Gemini: the call it meant to make is missing
        "malformedfunctioncall", "unexpectedtoolcall", "toomanytoolcalls", "malformedresponse", "missingthoughtsignature",
        "modelunloaded",  # LM Studio
    ),
}  # fmt: skip
"""Reasons by what is left of them when case, separators and an enumeration's name are gone."""

_STEMS_FOR: dict[Meaning, tuple[str, ...]] = {
    # Words that are not listed: what is in them still says that the answer is not whole. Never `stop`: a word that merely
    # contains it (`stopped_by_server`) may mean anything. The first that is found counts.
    "content_filter": (
        "contentfilter", "safety", "sensitive", "prohibited", "moderation", "guardrail", "policyviolation",
        "recitation", "refus", "blocked",
    ),
    "error": (
        "error", "fail", "malformed", "invalid", "abort", "cancel", "timeout", "interrupt", "exception",
        "unavailable", "overload", "insufficient", "disconnect", "deadline", "crash", "shutdown", "killed", "evicted",
        "ratelimited", "ratelimitexceeded", "quotaexceeded",
    ),
    "length": ("maxtoken", "tokenlimit", "contextwindow", "contextlength", "lengthlimit"),
}  # fmt: skip

_WORDS = {word: meaning for meaning, words in _WORDS_FOR.items() for word in words}
_STEMS = {stem: meaning for meaning, stems in _STEMS_FOR.items() for stem in stems}

_SHOWN = re.compile(r"[A-Za-z0-9_.:/ -]{1,64}")
_EXACT: dict[str, Meaning] = {reason: reason for reason in get_args(FinishReason)}


def meaning(reason: Any) -> Meaning:
    """What a finish reason means.

    Case and separators do not count (`MAX_TOKENS`, `maxTokens`, `end-turn`), nor does the name of an enumeration
    before it (`FinishReason.STOP`), nor a detail behind it (`content_filter: hate`).
    """
    if reason is None or reason is False:
        return "none"
    if type(reason) is not str:
        return "unknown"
    if (exact := _EXACT.get(reason)) is not None:  # as nearly all
        return exact
    word = bare(reason.partition(":")[0].rpartition(".")[2])
    word = word.removeprefix("finishreason").removeprefix("stopreason")
    known = _WORDS.get(word)
    if known is not None:
        return known
    return next((meaning for stem, meaning in _STEMS.items() if stem in word), "unknown")


def is_reason(reason: Any) -> bool:
    """Whether a finish reason says that the answer has ended, in whatever way."""
    return reason is not None and meaning(reason) != "none"


def later(before: Any, reason: Any) -> Any:
    """Which of two reasons counts when nothing came between them: a mere `stop` takes none back."""
    return before if is_reason(before) and meaning(reason) == "stop" else reason


@lru_cache(maxsize=64)
def names_failure(event: bytes) -> bool:
    """Whether the name of an event says that it tells a failure: `error`, `Exception`, `response.failed`."""
    return meaning(event.decode("latin-1")) == "error"


def shown(reason: Any) -> str:
    """A finish reason as it may be shown: a short plain word, or nothing."""
    text = reason if isinstance(reason, str) else ""
    return text if _SHOWN.fullmatch(text) else ""


class Verdict(msgspec.Struct, frozen=True):
    """What an answer that the upstream completed ended with.

    `upstream_reason` is the upstream's own word where the table does not have it; contracts with room for any word
    pass it on.
    """

    reason: FinishReason
    upstream_reason: str = ""


def verdict(reason: Any, *, has_content: bool, has_calls: bool = False) -> Verdict:
    """What `reason` makes of a complete answer. Raises `UpstreamFailed` where it is no answer.

    | reason                        | answer         | verdict                                                        |
    |-------------------------------|----------------|----------------------------------------------------------------|
    | none (only the end mark came) | with calls     | `tool_calls`: the answer waits for them                        |
    | none                          | anything else  | `stop`: the end mark says that it is complete (R3)             |
    | error                         | any            | an error: the upstream says that it gave up                    |
    | unknown                       | empty          | an error: nothing came, for an unknown reason                  |
    | `tool_calls`                  | empty          | an error: the calls that it speaks of are missing              |
    | `stop`                        | with calls     | `tool_calls`: the answer waits for them, whatever it says      |
    | unknown                       | anything else  | complete, with the upstream's own word                         |
    | `stop`, `tool_calls`, `length`, `content_filter` | any other | as it says                                       |
    """
    means = meaning(reason)
    if means == "none" or (means == "stop" and has_calls):
        return Verdict("tool_calls" if has_calls else "stop")
    if means == "error" or (means in ("unknown", "tool_calls") and not has_content and not has_calls):
        raise gave_up(reason)
    if means == "unknown":
        return Verdict("tool_calls" if has_calls else "stop", shown(reason))
    return Verdict(means)


def gave_up(reason: Any) -> UpstreamFailed:
    """The error for a finish reason after which there is no answer."""
    return UpstreamFailed(f"the upstream gave the answer up (finish_reason: {shown(reason) or 'unreadable'})")


class Ending:
    """What the choices of one streamed answer have said of their end so far, in order.

    | what came                                        | from then on                                                |
    |--------------------------------------------------|-------------------------------------------------------------|
    | a finish reason in an empty delta                | `final`: servers that never close must not hold a client    |
    |                                                  | for a minute, so a short silence is the end                 |
    | a finish reason with content beside it           | `complete`, not `final`: some servers put one into chunks   |
    |                                                  | before the last, so the pause between tokens is waited for  |
    | content after a finish reason                    | neither: the reason did not end the answer                  |
    | the same reason with content once more           | neither: in this stream it means nothing                    |
    | usage alone, after every choice has its reason   | `final`: it is what comes last                              |
    | a choice without a reason                        | neither                                                     |
    | `stop` after another reason, with nothing between| no news: the answer is cut, filtered or waits all the same  |
    | an error                                         | an error, whatever came before (the reader raises it)       |

    `complete`: if the body ends now, however it ends, the answer is whole (R3).
    """

    __slots__ = ("_disproved", "_expected", "_said", "complete", "final")

    def __init__(self, choices: int = 1) -> None:
        self._expected = choices
        self._said: dict[int, _Said] = {}  # of every choice seen
        self._disproved: set[str] = set()  # reasons that came with content and that content followed
        self.complete = self.final = False

    def add(self, choice: int, reason: str | None, *, content: bool, plain: bool) -> None:
        """One chunk of a choice. `content`: it says something. `plain`: its delta is empty."""
        last = self._said.get(choice)
        if content and last is not None and last.reason is not None:
            if not last.plain:
                self._disproved.add(last.reason)
            last = None
        if reason is not None and is_reason(reason):
            if last is not None:
                reason = later(last.reason, reason)
            last = _Said(reason, plain, counts=not (content and reason in self._disproved))
        self._said[choice] = last or _GOES_ON
        if last is None:
            self.complete = self.final = False
        else:
            self._judge()

    def goes_on(self, choice: int) -> bool:
        """Whether a choice has begun and not yet given a reason: a chunk without one then changes nothing."""
        return self._said.get(choice) is _GOES_ON

    def usage(self) -> None:
        """Usage came, in a chunk of its own."""
        self.final = self.complete

    def _judge(self) -> None:
        said = self._said.values()
        self.complete = len(said) >= self._expected and all(one.counts for one in said)
        self.final = self.complete and all(one.plain for one in said)

    @property
    def reason(self) -> str | None:
        """The reason that counts: calls to make outweigh that another choice just stopped."""
        given = [said.reason for _, said in sorted(self._said.items()) if said.reason is not None]
        calls = (reason for reason in given if meaning(reason) == "tool_calls")
        return next(calls, given[0] if given else None)


class _Said(msgspec.Struct, frozen=True):
    """The last word of one choice."""

    reason: str | None = None
    plain: bool = False
    counts: bool = False


_GOES_ON = _Said()
