"""What went wrong, in Anthropic's error object: as a body, or as the data of an `error` event.

Its official SDKs raise by the status before a stream and by the object's `type` inside one.
"""

from __future__ import annotations

import msgspec

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
