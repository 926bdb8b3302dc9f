"""The one way bytes go to an upstream: open a request, read its status and headers, then its body in batches.

Every wire backend uses this; nothing else in the process opens an upstream connection.
"""

from proxy.transport.base import Headers, Request, Response, Transport
from proxy.transport.http1 import HttpTransport

__all__ = ["Headers", "HttpTransport", "Request", "Response", "Transport"]
