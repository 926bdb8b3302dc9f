"""The one HTTP client for upstreams: send a request, read its status and headers, then its body in pieces.

Every HTTP backend uses it; nothing else in the process opens a connection to an upstream.
"""

from proxy.transport.base import Headers, Request, Response, Transport
from proxy.transport.http1 import HttpTransport

__all__ = ["Headers", "HttpTransport", "Request", "Response", "Transport"]
