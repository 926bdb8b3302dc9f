"""What the official OpenAI SDK makes of an answer that broke off."""

import openai
import pytest

from proxy.contracts.responses.objects import ResponseObject
from proxy.contracts.responses.tools import Tools
from proxy.contracts.responses.writer import ResponsesWriter
from proxy.errors import UpstreamFailed, UpstreamTruncated
from proxy.events import Batch, Fault, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.testing.script import LAST_CHUNK, Send, chunked, sse_head

CUT = UpstreamTruncated("the answer was cut off")
BUSY = UpstreamFailed("too many requests", status=429, code="rate_limit_exceeded")


def answer(*events):
    response = ResponseObject({}, Tools(), id="resp_7", created=1)
    writer = ResponsesWriter(response, Tools(), id="7", model="m", clock=lambda: 2)
    return writer.feed(Batch([Start("", "m"), *events]))


BROKEN = {
    "in a text": ([TextDelta("half")], CUT),
    "in a call": ([ToolCallStart(0, "call_1", "f"), ToolCallDelta(0, '{"a')], CUT),
    "after a whole call": ([ToolCallStart(0, "call_1", "f"), ToolCallDelta(0, '{"a":1}')], BUSY),
    "at once": ([], BUSY),
}


@pytest.fixture
async def client(upstream):
    http = openai.DefaultAsyncHttpxClient(verify=False)  # reading all certificates takes 50 ms
    async with openai.AsyncOpenAI(
        api_key="k", base_url=f"{upstream.origin}/v1", max_retries=0, http_client=http
    ) as client:
        yield client


@pytest.mark.parametrize("name", BROKEN)
async def test_C1_the_official_sdk_raises_what_broke_the_answer_off(name, upstream, client):
    events, error = BROKEN[name]
    stream = answer(*events, Fault(error))
    upstream.always([Send(sse_head()), Send(chunked(stream)), Send(LAST_CHUNK)])
    with pytest.raises(openai.APIError, match=error.message) as raised:
        async for _ in await client.responses.create(model="m", input="hi", stream=True):
            pass
    assert raised.value.code == error.code
    with pytest.raises(openai.APIError, match=error.message):
        async with client.responses.stream(model="m", input="hi") as helper:
            await helper.until_done()


@pytest.mark.parametrize("name", BROKEN)
async def test_C3_no_call_of_an_answer_that_broke_off_is_done(name):
    events, error = BROKEN[name]
    stream = answer(*events, Fault(error))
    assert b"function_call_arguments.done" not in stream
    assert stream.count(b"output_item.done") == 0
    failed = stream.partition(b"event: response.failed\n")[2]
    assert b"function_call" not in failed
