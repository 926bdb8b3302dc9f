"""Errors in Anthropic's form: as a whole reply, or as the data of an `error` event.

Its official SDKs choose their exception by the status before a stream, and by the object's `type` inside one.
"""

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.replies import JSON, sdk_error_headers
from proxy.errors import ProxyError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: ProxyError, request_id: str) -> bytes:
    """The error object."""
    other = "invalid_request_error" if error.status < 500 else "api_error"
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": _TYPES.get(error.status, other), "message": error.message},
            "request_id": request_id,
        }
    )


def failure(error: ProxyError, request_id: str) -> Reply:
    """An error in place of an answer. SDKs retry 408, 409, 429 and 5xx after the time that the headers name."""
    headers = sdk_error_headers(error, {**JSON, "Request-Id": request_id})
    return Reply(error.status, error_body(error, request_id), headers)
