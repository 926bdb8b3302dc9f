"""Everything that can go wrong, once, with what each contract needs to say about it.

    ProxyError
    ├── RequestError              the request is at fault: 4xx, another target would not help
    │   ├── BadRequest            400 invalid_request
    │   ├── Unauthorized          401 invalid_api_key
    │   ├── Forbidden             403 permission_denied
    │   ├── NotFound              404 not_found
    │   │   └── NoRoute           404 model_not_found   (no rule matched; names the closest)
    │   ├── MethodNotAllowed      405 method_not_allowed
    │   ├── RequestTimeout        408 request_timeout
    │   ├── TooLarge              413 request_too_large
    │   ├── UnsupportedMedia      415 unsupported_media_type
    │   ├── Unsupported           400 unsupported       (a target cannot do what is asked; the next may)
    │   ├── UntoldAnswer          422 unsupported_answer (nothing but images, in a contract without any)
    │   ├── OverBudget            402 budget_exceeded
    │   └── RateLimited           429 rate_limited
    │       └── TargetBusy        429 target_busy       (its slots are taken, and its queue is full or slow)
    ├── UpstreamError             the upstream is at fault: before the first event another target may help
    │   ├── UpstreamConnect       502 upstream_connect
    │   ├── UpstreamTimeout       504 upstream_timeout  (nothing meaningful in time)
    │   ├── UpstreamIdle          504 upstream_idle     (stopped talking in the middle)
    │   ├── UpstreamTruncated     502 upstream_truncated
    │   ├── UpstreamSlow          504 upstream_slow     (fewer tokens a second than the route wants)
    │   ├── Degenerate            502 degenerate        (the answer got into a loop; the target is well)
    │   ├── UpstreamMalformed     502 upstream_malformed
    │   │   ├── BrokenToolCall    502 upstream_malformed (arguments that are none; the target is well)
    │   │   └── FrameTooLarge     502 frame_too_large
    │   ├── UpstreamRedirect      502 upstream_redirect
    │   ├── UpstreamAuth          502 upstream_auth     (our key, not the client's: never a 401)
    │   ├── UpstreamRefused       4xx as the upstream said: the request is at fault, no fallback
    │   │   └── ModelRefused      no such model, or too long for it: fallback if the route chose the model
    │   ├── UpstreamFailed        429/5xx as the upstream said
    │   └── TargetLimited         429 target_limited    (our own limit for a target; it was not asked)
    ├── Limit                     504 limit             (total time or size of an answer)
    ├── Draining                  503 draining          (this process is stopping; try again)
    ├── StoreAway                 503                   (what replicas share cannot be asked now)
    │   ├── LimitsUnknown         503 limits_unknown    (the store that counts is away; `on_outage: deny`)
    │   ├── KeysUnknown           503 keys_unknown      (no file has this key, and the store was never read)
    │   └── StreamsUnknown        503 streams_unknown   (those of other replicas)
    └── InternalError             500 internal_error
    ConfigError                   a problem in the config file, with file, line and column
    └── PortTaken                 a port that the config names and cannot be listened on
    WorkersFailed                 `serve --workers` cannot go on

`message` is written for the person who reads it and never holds a secret; `code` is for programs;
`end` is the reason a stream's one log line and metric carry (docs/reliability.md R7).
"""

from typing import ClassVar, Literal

EndReason = Literal[
    "done", "upstream_error", "upstream_truncated", "upstream_idle", "upstream_malformed", "frame_too_large",
    "client_gone", "client_slow", "stopped", "drain", "limit", "rejected", "internal",
]  # fmt: skip


class ProxyError(Exception):
    """Base of all errors that a client may be told about."""

    status: int = 500
    code: str = "internal_error"
    type: ClassVar[str] = "server_error"  # OpenAI's word for the family
    retryable: bool = False  # the same request may succeed later
    fallback: bool = False  # another target may succeed now
    end: ClassVar[EndReason] = "internal"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        self.detail = ""  # what only the log is told, such as an address
        self.param = param
        self.retry_after = retry_after  # seconds
        self.headers = headers or {}  # more response headers, such as `Allow`


class RequestError(ProxyError):
    status, code, type, end = 400, "invalid_request", "invalid_request_error", "rejected"


class BadRequest(RequestError):
    """The body is not what the contract asks for."""


class Unauthorized(RequestError):
    """No key, or one we do not know. Always answered with `WWW-Authenticate: Bearer`."""

    status, code, type = 401, "invalid_api_key", "authentication_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(RequestError):
    """The key is known but may not do this."""

    status, code, type = 403, "permission_denied", "permission_error"


class NotFound(RequestError):
    status, code = 404, "not_found"


class NoRoute(NotFound):
    """No rule matched the request."""

    code = "model_not_found"


class MethodNotAllowed(RequestError):
    status, code = 405, "method_not_allowed"


class RequestTimeout(RequestError):
    status, code, retryable = 408, "request_timeout", True


class Conflict(RequestError):
    """The idempotency key belongs to another request."""

    status, code = 409, "idempotency_conflict"


class Gone(RequestError):
    """What was asked for was here, and is not kept any more."""

    status, code = 410, "gone"


class LoopDetected(RequestError):
    status, code = 508, "loop_detected"


class TooLarge(RequestError):
    status, code = 413, "request_too_large"


class UnsupportedMedia(RequestError):
    status, code = 415, "unsupported_media_type"


class Unsupported(RequestError):
    """This target cannot do what the request needs, such as several choices."""

    code, fallback = "unsupported", True


class UntoldAnswer(RequestError):
    """The answer is complete, and the client's contract has no way to tell any of it: it is nothing but images."""

    status, code = 422, "unsupported_answer"

    def __init__(self) -> None:
        super().__init__(
            "the answer is nothing but an image, which this contract has no way to tell; "
            "ask in one that has: openai, responses, ai-sdk or ag-ui"
        )


class RateLimited(RequestError):
    status, code, type, retryable = 429, "rate_limited", "rate_limit_error", True


class OverBudget(RequestError):
    """What may be spent is spent. No 429: client libraries try those again, and it may take weeks."""

    status, code, type = 402, "budget_exceeded", "insufficient_quota"


class TargetBusy(RateLimited):
    """All slots of a target are taken (`concurrency`), and its `queue` is full or was waited in for too long."""

    code, fallback = "target_busy", True

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            "As many answers as may be are under way there. Try again in a moment.", retry_after=max(1.0, wait_s)
        )


class UpstreamError(ProxyError):
    status, code, type = 502, "upstream_error", "upstream_error"
    end: ClassVar[EndReason] = "upstream_error"
    retryable, fallback = True, True
    trips: ClassVar[bool] = True  # says that the target does not work, so others are tried before it


class UpstreamConnect(UpstreamError):
    """Refused, unknown host, failed TLS handshake, or no connection in time."""

    code = "upstream_connect"


class UpstreamTimeout(UpstreamError):
    """Nothing meaningful came in time."""

    status, code, end = 504, "upstream_timeout", "upstream_idle"


class UpstreamIdle(UpstreamError):
    """The answer stopped in the middle for longer than `token_gap_s`."""

    status, code, end = 504, "upstream_idle", "upstream_idle"


class UpstreamSlow(UpstreamError):
    """The answer came with fewer tokens a second than the route's `min_tokens_per_s`."""

    status, code = 504, "upstream_slow"


class Degenerate(UpstreamError):
    """The answer got into a loop (`repetition_guard`)."""

    code, trips, period = "degenerate", False, 0  # `period`: characters of the piece that is repeated, if there is one

    def __init__(self) -> None:
        super().__init__("the answer got into a loop and was ended (repetition_guard of this route)")


class UpstreamTruncated(UpstreamError):
    """The answer ended without saying that it is complete."""

    code, end = "upstream_truncated", "upstream_truncated"

    def __init__(self, message: str = "the answer was cut off: the upstream never said it was complete") -> None:
        super().__init__(message)


class UpstreamMalformed(UpstreamError):
    """The upstream sent something its dialect does not allow."""

    code = "upstream_malformed"
    end: ClassVar[EndReason] = "upstream_malformed"


class BrokenToolCall(UpstreamMalformed):
    """The model called a tool with arguments that are none, in a contract without a word for that."""

    trips = False


class FrameTooLarge(UpstreamMalformed):
    code, trips, end = "frame_too_large", False, "frame_too_large"


class UpstreamRedirect(UpstreamError):
    """The upstream answered with a redirect. We never follow one: it would carry the prompt elsewhere."""

    code, retryable, trips = "upstream_redirect", False, False


class UpstreamAuth(UpstreamError):
    """The upstream does not accept our key. The client's own key is fine, so this is no 401."""

    code, retryable, trips = "upstream_auth", False, False


class UpstreamRefused(UpstreamError):
    """The upstream says the request itself is wrong; another target would be told the same."""

    status, code, type = 400, "invalid_request", "invalid_request_error"
    retryable, fallback, trips = False, False, False


class ModelRefused(UpstreamRefused):
    """The upstream has no such model, or the request is too long for it: another model may answer.

    `fallback` is set where the route chose the model. A model that the client chose is not replaced by another.
    """


class UpstreamFailed(UpstreamError):
    """The upstream is overloaded or broken, in its own words (429, 5xx)."""


class TargetLimited(UpstreamError):
    """The target may not be asked for more now, by the `limits` of its backend. It was not asked."""

    status, code, type, trips, end = 429, "target_limited", "rate_limit_error", False, "rejected"


class Limit(ProxyError):
    """An answer took longer, or grew larger, than the config allows."""

    status, code, end = 504, "limit", "limit"


class Draining(ProxyError):
    status, code, retryable, fallback, end = 503, "draining", True, False, "drain"


class StoreAway(ProxyError):
    """What replicas share cannot be asked now. `says` is the message."""

    status, retryable, end = 503, True, "rejected"
    says: ClassVar[str] = "The store cannot be reached. Try again in a moment."

    def __init__(self) -> None:
        super().__init__(self.says, retry_after=1)


class LimitsUnknown(StoreAway):
    code, fallback = "limits_unknown", True
    says = "The store that counts requests cannot be reached. Try again in a moment."


class KeysUnknown(StoreAway):
    code, says = "keys_unknown", "The store of API keys cannot be read. Try again in a moment."


class StreamsUnknown(StoreAway):
    code, says = "streams_unknown", "The store of streams cannot be reached. Try again in a moment."


class RunnerGone(StreamsUnknown):
    code, says = "replica_gone", "The replica that was to answer this is gone. Send the request again."


class Stopped(ProxyError):
    """The client said stop, which is another thing than to leave."""

    status, code, end = 499, "stopped", "stopped"

    def __init__(self) -> None:
        super().__init__("the answer was stopped by its client")


class InternalError(ProxyError):
    """A bug on our side. The client gets the request id; the log has the rest."""


def error_codes(kind: type[ProxyError] = ProxyError) -> set[str]:
    """The codes of all errors of this kind."""
    return {kind.code}.union(*map(error_codes, kind.__subclasses__()))


class ConfigError(Exception):
    """One problem in a config file: where it is, what is wrong, what to do."""

    kind = ""

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message, self.file, self.line, self.column = message, file, line, column

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.kind}{self.message}"


class PortTaken(ConfigError):
    """A second port that cannot be listened on, told by the key that names it."""

    def __init__(self, key: str, port: int, error: OSError, *, file: str = "") -> None:
        why = f"cannot listen on port {port} as `{key}` says: {error.strerror or error}"
        super().__init__(f"{why}; stop what listens there, or choose another port", file=file)


class ConfigErrors(Exception):
    """All problems found in a config, in the order of the file."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = sorted(errors, key=lambda error: (error.file, error.line, error.column))


class WorkersFailed(Exception):
    """Worker processes cannot be had or kept; the message says why."""


class ConfigWarning(ConfigError):
    """Something in a config that is allowed but probably not meant. It is never raised."""

    kind = "warning: "
