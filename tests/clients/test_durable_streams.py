"""The reading half of the Durable Streams conformance suite, against answers of the proxy."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.clients.durable_writer import writing
from tests.support import node
from tests.support.app import StartProxy

SUITE = Path(__file__).parent / "drivers" / "durable_streams.test.mjs"

READING = (
    "Read Operations|Long-Poll|Offset Validation and|HEAD Metadata|SSE Mode|Browser Security"
    "|HTTP Protocol should (return correct headers on GET|return empty body|read from)"
    "|Protocol Edge Cases should (preserve|generate|reject empty offset|reject multiple|ignore)"
)
OTHER = "JSON|[Bb]inary|base64|PUT|POST|TTL|Expires-At"
"""Streams of other types than text, which answers are none of, and what only concerns who writes."""


@pytest.mark.clients
async def test_the_reading_half_of_the_suite_passes(start_proxy: StartProxy, tmp_path: Path) -> None:
    suite = await asyncio.to_thread(node.among_modules, SUITE, "durable")
    vitest = suite.parent / "node_modules" / "vitest" / "vitest.mjs"
    report = tmp_path / "report.json"
    async with writing() as (origin, writer):
        proxy = await start_proxy(f"""
            server: {{resume: {{grace_s: 600}}, log: {{level: error}}}}
            backends: {{far: {{kind: openai-compatible, base_url: "{origin}/v1"}}}}
            routes: [{{name: default, to: far/scripted-1, timeouts: {{first_token_s: 600, token_gap_s: 600}}}}]
        """)
        writer.proxy = proxy.url
        process = await asyncio.create_subprocess_exec(
            node.node(), str(vitest), "run", suite.name, "-t", f"^(?!.*({OTHER})).*({READING})",
            "--testTimeout=60000", "--reporter=json", f"--outputFile={report}",
            cwd=suite.parent, env={**os.environ, "STREAMS": origin},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await asyncio.wait_for(process.wait(), 240)
        told = json.loads(report.read_text())
        failed = [
            (one["fullName"], one["failureMessages"][0][:500])
            for file in told["testResults"]
            for one in file["assertionResults"]
            if one["status"] == "failed"
        ]
        assert failed == []
        assert told["numPassedTests"] >= 60, "the suite names its tests otherwise"
        await writer.close()
