"""The litellm SDK with nothing around it: ask for streams, iterate them, count. What chat-proxy's backend adds to.

    python -m bench.litellm_alone http://127.0.0.1:9100/v1 --streams 8 --seconds 6 --tokens 50

Its settings, its switches and its event loop are those of `proxy/backends/litellm/backend.py`; the connections are its own,
and nobody is asked for a key, waited for or written to. One line of JSON, as `loadgen` prints it, and `cpu_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Any

import uvloop

from proxy.backends.litellm.loading import _ENVIRONMENT, _SWITCHES

WARM_UP_S = 1.5


@dataclass
class Counts:
    succeeded: int = 0
    failed: int = 0
    tokens: int = 0


class Readers:
    """`streams` readers, each asking again as soon as its answer has ended."""

    def __init__(self, litellm: Any, base_url: str, streams: int, tokens: int) -> None:
        self._litellm, self._base_url = litellm, base_url
        self._streams, self._expected = streams, tokens

    async def run(self, seconds: float, content: str) -> Counts:
        counts, until = Counts(), time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self._streams):
                group.create_task(self._read(counts, until, content, after_s=number / 1000))
        return counts

    async def _read(self, counts: Counts, until: float, content: str, *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        while time.monotonic() < until:
            tokens = await self._answer(content)
            counts.tokens += tokens
            counts.succeeded += tokens == self._expected
            counts.failed += tokens != self._expected

    async def _answer(self, content: str) -> int:
        stream: AsyncIterable[Any] = await self._litellm.acompletion(
            model="openai/gpt-4o-mini",
            api_base=self._base_url,
            api_key="sk-upstream",
            messages=[{"role": "user", "content": content}],
            stream=True,
            stream_options={"include_usage": True},
            drop_params=True,
            num_retries=0,
            max_retries=0,
            timeout=600,
        )
        tokens = 0
        async for chunk in stream:
            tokens += bool(chunk.choices and chunk.choices[0].delta.content)
        return tokens


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    os.environ.update(_ENVIRONMENT)
    import litellm  # noqa: PLC0415 - reads the environment as it is imported

    for name, switch in _SWITCHES.items():
        setattr(litellm, name, switch)
    readers = Readers(litellm, options.base_url, options.streams, options.tokens)
    await readers.run(WARM_UP_S, "hurry")
    cpu_before, began = time.process_time(), time.monotonic()
    counts = await readers.run(options.seconds, "Hello, say something")
    elapsed = time.monotonic() - began
    return {
        **vars(counts),
        "unfinished": 0,
        "bad_tokens": counts.failed,
        "elapsed_s": round(elapsed, 3),
        "requests_per_s": round(counts.succeeded / elapsed, 2),
        "tokens_per_s": round(counts.tokens / elapsed, 1),
        "cpu_s": time.process_time() - cpu_before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("base_url")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
