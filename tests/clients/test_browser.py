"""The same readers in Chromium, on a page of another origin than the proxy's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from proxy.testing.upstream import ScriptedUpstream
from tests.clients.answering import HOW_MANY, answer_by_number, asks, assert_heard, heard_by_the_hook, heard_in_json
from tests.clients.asking import ask_in
from tests.clients.browser import chromium
from tests.support.app import Process, StartProxy, openai_config

Server = Callable[..., Awaitable[Process]]

pytestmark = pytest.mark.browser


def allowing(page_url: str) -> str:
    """Server settings under which a page may call."""
    return f"{{log: {{level: error}}, cors: {{origins: ['{page_url.removesuffix('/page.html')}']}}}}"


READERS = [
    ("chat hook", "", heard_by_the_hook),
    ("chat hook", "?dialect=both", heard_by_the_hook),
    ("fetch-event-source, JSON", "?dialect=json", heard_in_json),
]


@HOW_MANY
async def test_every_answer_arrives_exactly(
    serve: Server, upstream: ScriptedUpstream, page_url: str, every: int
) -> None:
    answer_by_number(upstream)
    proxy = await serve(openai_config(upstream.url, server=allowing(page_url)))
    async with chromium() as page:
        await page.open(page_url)
        for reader, query, heard in READERS:
            asked = asks(reader, f"{proxy.url}/api/chat{query}", every)
            assert_heard(await ask_in(page, asked), asked, heard)


ECHO = """
    server: {server}
    backends: {{echo: {{kind: echo}}}}
    routes: [{{name: default, to: echo}}]
"""


async def test_the_chat_hook_runs_unchanged_on_a_page_of_an_allowed_origin(
    start_proxy: StartProxy, page_url: str
) -> None:
    proxy = await start_proxy(ECHO.format(server=allowing(page_url)))
    async with chromium() as page:
        await page.open(page_url)
        await page.run(f"document.head.append(Object.assign(document.createElement('base'), {{href: '{proxy.url}'}}))")
        text = await page.run(
            """(async () => {
                 let text = "";
                 for await (const token of streamChat([{role: "user", content: "two\\n\\nlines 😀"}])) text += token;
                 return text;
               })()"""
        )
        assert text == "two\n\r\nlines 😀"
        told = await page.run(
            """fetch("/api/chat", {
                 method: "POST",
                 headers: {"Content-Type": "application/json", "X-Chat-Dialect": "json"},
                 body: JSON.stringify({messages: []}),
               }).then(async (response) => [response.status, response.headers.get("x-request-id"), await response.json()])"""
        )
        status, request_id, body = told
        assert (status, body["error"]["request_id"]) == (422, request_id), (
            "an error can be read from another origin too"
        )


async def test_the_openai_sdk_runs_in_a_page_of_an_allowed_origin(start_proxy: StartProxy, page_url: str) -> None:
    proxy = await start_proxy(ECHO.format(server=allowing(page_url)))
    async with chromium() as page:
        await page.open(page_url)
        text = await page.run(
            f"""(async () => {{
                 const options = {{baseURL: "{proxy.url}/v1", apiKey: "none", dangerouslyAllowBrowser: true}};
                 const client = new OpenAI(options);
                 const request = {{model: "m", stream: true, messages: [{{role: "user", content: "two\\n\\nlines 😀"}}]}};
                 let text = "";
                 for await (const chunk of await client.chat.completions.create(request))
                   text += chunk.choices[0]?.delta.content ?? "";
                 return text;
               }})()"""
        )
    assert text == "two\n\nlines 😀"


@pytest.mark.parametrize("server", ["{}", "{cors: {origins: ['https://app.example.com']}}"])
async def test_the_browser_keeps_every_other_page_out(start_proxy: StartProxy, page_url: str, server: str) -> None:
    proxy = await start_proxy(ECHO.format(server=server))
    async with chromium() as page:
        await page.open(page_url)
        (answer,) = await ask_in(page, [{"reader": "chat hook", "url": f"{proxy.url}/api/chat", "question": "hi"}])
        assert (answer["text"], answer["failure"]) == ("", "TypeError: Failed to fetch")
        slipped_past_the_preflight = """
            fetch("%s/api/chat", {method: "POST", mode: "no-cors", body: '{"messages":[{"role":"user","content":"hi"}]}'})
        """
        await page.run(slipped_past_the_preflight % proxy.url + ".then(() => null)")
    assert [record.status for record in await proxy.ended()] == [415], "and nothing was asked of a backend"
