"""Exit 0 if the server answers `GET /healthz`, for containers: no curl, no shell, no third-party import.

    python healthcheck.py [PORT] [PATH]

It asks the loopback address and no proxy, whatever `http_proxy` says.
"""

import http.client
import sys


def healthy(port: int = 8080, path: str = "/healthz", *, timeout_s: float = 2.0) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    arguments = dict(zip(("port", "path"), sys.argv[1:], strict=False))
    sys.exit(not healthy(int(arguments.get("port", 8080)), arguments.get("path", "/healthz")))
