"""What limits add to a request: `python -m bench.limits [REDIS_URL]`, in this process, without HTTP."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

from proxy.config.models import Settings
from proxy.pipeline.admission import Admission
from proxy.request import ChatRequest, Message, Text, Usage
from proxy.routing.plan import Plan
from proxy.routing.principal import Principal
from proxy.store import open_store
from proxy.store.rules import Counting, Outputs
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.record import StreamRecord

BATCHES, PER_BATCH = 30, 200
MOST = 10**9
LIMITS = {"requests_per_minute": MOST, "tokens_per_minute": MOST, "parallel": MOST}


async def measured(url: str | None, clock: Callable[[], float]) -> float:
    """Seconds that admitting a request and settling it take: the median of batches, so that a busy machine matters less."""
    settings = Settings.model_validate(
        {
            "auth": {"keys": [{"name": "web", "sha256": "0f" * 32, "limits": LIMITS}]},
            "backends": {"echo": {"kind": "echo"}},
            "routes": [{"name": "default", "to": "echo"}],
        }
    )
    store = open_store(url)
    admission = Admission(settings, Counting(store, Outputs(), Metrics().limits))
    principal = Principal.of(settings.auth.keys[0])
    text = Text("What is the capital of France? " * 20)
    request = ChatRequest(id="1", contract="openai", dialect="openai", messages=(Message("user", (text,)),))
    record = StreamRecord(request_id="1", started_at=0.0, route="default", usage=Usage(150, 300), end="done")
    plan = Plan(route="default", targets=())
    took = []
    for _ in range(BATCHES):
        begun = clock()
        for _ in range(PER_BATCH):
            (await admission.admit(request, principal, plan)).settle(record)
        took.append((clock() - begun) / PER_BATCH)
    await store.aclose()
    return statistics.median(took)


def main() -> None:
    print(f"memory  {asyncio.run(measured(None, time.process_time)) * 1e6:.1f} µs of this process a request")
    for url in sys.argv[1:2]:
        print(f"redis   {asyncio.run(measured(url, time.perf_counter)) * 1e3:.3f} ms a request, one after another")


if __name__ == "__main__":
    main()
