"""What `docs/proofs/field.md` says beside the tests: where the SDKs read otherwise, and what else each row led to."""

from __future__ import annotations

from tests.field.sdks import CALLS, OTHER_WORDS, PASSED_OVER, REASON, REASONING, UNREAD

DIFFERENCES: dict[str, tuple[str, ...]] = {
    UNREAD: (
        "keepalive-empty-data-litellm, streamed",
        "keepalive-named, streamed",
        "sse-as-json-unstreamed, whole",
        "anthropic-no-final-usage, streamed",
    ),
    PASSED_OVER: (
        "litellm-flat-error, streamed",
        "finish-MALFORMED_FUNCTION_CALL, streamed",
        "finish-MALFORMED_FUNCTION_CALL, whole",
        "finish-network-error-empty, streamed",
        "finish-network-error-empty, whole",
        "finish-network-error-litellm, streamed",
        "base-resp-error, streamed",
        "base-resp-error, whole",
        "raw-json-error-pretty-mid, streamed",
        "calls-same-index-arguments-only, streamed",
    ),
    OTHER_WORDS: (
        "litellm-error-string, streamed",
        "finish-null-string-cut, streamed",
        "anthropic-raw-json-error-first, streamed",
    ),
    REASON: (
        "finish-SAFETY, streamed",
        "finish-SAFETY, whole",
        "finish-filter-prefix, streamed",
        "finish-filter-prefix, whole",
        "finish-sensitive, streamed",
        "finish-sensitive, whole",
        "finish-window-exceeded, streamed",
        "finish-window-exceeded, whole",
    ),
    REASONING: (
        "content-parts-litellm-openai, streamed",
        "reasoning-parts-summary, streamed",
        "reasoning-parts-summary, whole",
    ),
    CALLS: (
        "calls-same-index-id-before-name, streamed",
        "anthropic-call-string-input, streamed",
        "anthropic-call-string-input, whole",
        "anthropic-call-wrong-delta-index, streamed",
    ),
}
"""Where an official SDK, asked directly, reads a recording otherwise than it is meant: `"NAME, streamed"` or `whole`."""

SIBLINGS = {
    "U1": "an error after the finish reason, in a choice, in Groq's own field, in an event with a name like `exception`; "
    "`stop` after another reason; words beside an error; errors inside Gemini's and Ollama's own streams",
    "U2": "a reason in every chunk and then a cut, `None` as text, a call after a reason without one of its own",
    "U3": "messages that grow without deltas, a last message that completes a call, a call repeated with its id",
    "U4": "a `stop` after calls, words nobody listed (`engine_failure`), stop reasons of Anthropic's wire, Gemini's through litellm",
    "U5": "calls without `function`, text where completions have it, a label that is no coding, a bare LF in the head; "
    "text in Anthropic's first event, booleans, halves of a character in arguments, arguments as an object, numbers in reasoning",
    "U6": "`null`, a list, a number or a date as data; nothing but keep-alives is a cut, nothing but text of another dialect an error",
    "U7": "chunks on lines of their own, events without blank lines, events in events; a whole answer or an error labelled as a stream, no label at all, Ollama's lines through litellm",
    "U8": "an error with its words beside it (Spring, OAuth), in details, or in an inner error; problem details (RFC 9457), Apigee's, AWS's, Spark's, as an `error:` line; the error inside `message_start`, OpenAI's error object on Anthropic's wire, an error as bare text",
    "U9": "details beside the same reasoning as a text, summaries, signatures; the same through litellm",
    "U10": "sources of the last chunk, of a chunk without choices, of a delta; each address told once",
    "U11": "every choice needs its reason; calls outweigh a `stop`",
    "U12": "names in pieces, one id for all calls, arguments repeated from their beginning; clients of the same dialect get indexes that tell the calls apart",
    "U13": "a piece that is the object itself, two calls whose deltas all have index 0, an empty text and then deltas",
    "U14": "`mcp_tool_use`; the input of such a tool at its start or under a wrong index",
    "U15": "whole answers without a count, fewer output tokens than reasoning tokens, overloaded inside a stream",
    "C1": "the other contracts that end in a named event were tried with their SDKs: each raises",
    "C2": "Moonshot, z.ai and MiniMax beside DeepSeek; models of any vendor behind litellm; Responses, Anthropic, AI SDK and AG-UI as clients",
    "C3": "a call that was no JSON, whole in Anthropic's contract too, the signature of a failed run's reasoning; Ollama, Anthropic, AI SDK, declared ones",
    "C4": "errors made by the proxy itself, such as an unknown path",
    "C5": "the AI SDK's pages, which show the body of an error too",
    "C6": "the addresses in words on the pages, and the rules for Open WebUI",
    "C7": "`errors: frame+abort` for every contract; an answer that is complete is never cut",
    "A1": "no descriptors left; a client for whom there is no room; every worker has the same listener; idle connections and slow heads of one address, "
    "on each port, and those of an IPv6 host",
    "A2": "a 429 without a time; models that clients name take limited room; a key that fills a target's queue",
    "A3": "hypothesis hides a key in any text, in each form; ordinary header values mask no ordinary words",
    "A4": "a worker stopped during a drain; all processes stopped and continued are left alone",
    "A5": "a file system that hangs, a directory, a circle of links; several workers report once",
    "A6": "hypothesis puts every type into every field of every contract; model lists and token counts too",
    "A7": "names that are percent-encoded, escaped, with other characters or too long; the deployment that a row names",
    "A8": "header conditions are bounded by the limit for heads, globs take no exponential time (E05)",
    "A9": "a page that lets its own name lead to this machine; an origin that may not call, a request behind `Upgrade` of any protocol, however it comes, a disk that is full, clients that never read, whole answers that failed",
    "N1": "names that Ollama lists with their tag, how long a conversation may be, a list that is `null`; weighted rules, "
    "conditions on headers, lists that never come, a model that only one contract reaches; "
    "thousands of names under many rules, an entry that is no JSON, an error beside an empty list, a config loaded anew",
    "N2": "rows of the config load without the packages too",
    "N3": "without the key for clients it is asked for by name",
    "N4": "other mistakes in a request are not taken for the model's",
    "N5": "addresses and keys of each kind, headers and client keys; values from the environment are left alone",
    "N6": "the same counts in the metrics; the headers can be switched off; a model with a name of 100 KB",
    "N7": "Azure and other vendors given as kind; a second colon; a line indented too deep; a setting that is a mapping or `off`",
    "N8": "openai has a floor, without which a resolver walks litellm back to poisoned releases",
    "N10": "mistyped paths get the closest; a long path is not repeated",
}
"""For each row, what was found beyond the cases that were brought, or where was looked."""
