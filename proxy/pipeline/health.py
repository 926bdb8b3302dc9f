"""Asking backends whether they are well, beside the requests and at their own pace."""

import asyncio

import structlog

from proxy.backends.base import ChecksHealth
from proxy.errors import ProxyError
from proxy.pipeline.targets import TargetStates

WITHIN_S = 5.0
"""How long an answer may take."""

FAILURES = 2
"""How many checks in a row have to fail before the others of a route are tried first. One good one ends it."""

log = structlog.get_logger("proxy.pipeline")


async def check_health(name: str, backend: ChecksHealth, states: TargetStates, *, path: str, every_s: float) -> None:
    """Check one backend for as long as this task runs, and tell `states`."""
    failures = 0
    while True:
        try:
            async with asyncio.timeout(min(WITHIN_S, every_s)):
                problem = await backend.problem(path)
        except TimeoutError:
            problem = "timeout"
        except ProxyError as error:
            problem = error.code
        failures = failures + 1 if problem else 0
        if not problem:
            if states.well(name):
                log.info("backend_well", backend=name)
        elif failures == FAILURES:
            states.unwell(name)
            log.warning("backend_unwell", backend=name, problem=problem)
        await asyncio.sleep(every_s)
