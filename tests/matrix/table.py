"""What passes: the expected verdict of every cell, for each way to a model. docs/proofs/matrix.md is made from this.

A cell that changes is a change that clients see: change it here, say why in `NOTES`, and run `make docs`.
"""

from __future__ import annotations

from tests.matrix.features import ANSWERED

SIGNS = {
    "+": "carried",
    "~": "carried in another form",
    "-": "left out, silently",
    "!": "left out, and the client is told: in the header `X-Chat-Notice`, and in the answer where it has a place for it",
    "e": "the answer ends in an error that says why",
    "x": "refused with status 400 before a model is asked",
    ".": "the contract, or the upstream, has no form for it",
}
CARRIED, OTHERWISE, LEFT_OUT, ANNOUNCED, FAILED, REFUSED, UNSAID = SIGNS

CONTRACTS = ("chat", "openai", "responses", "anthropic", "ollama", "ai-sdk", "ai-text", "ag-ui", "declared")


def rows(text: str) -> dict[str, str]:
    """Signs by feature, one for each of `CONTRACTS`."""
    found = {}
    for line in text.strip().splitlines():
        name, signs = line.strip().rsplit("  ", 1)
        found[name.strip()] = signs.strip().replace(" ", "")
    return found


def unstreamed_too(told: dict[str, str]) -> dict[str, str]:
    """What is answered, once more in one piece: `ag-ui` has no such answers, and `chat` no place for a notice in them."""
    whole = {}
    for feature in ANSWERED:
        cells = dict(zip(CONTRACTS, told[feature], strict=True))
        cells["ag-ui"] = UNSAID
        if cells["chat"] == ANNOUNCED:
            cells["chat"] = LEFT_OUT
        whole[f"whole: {feature}"] = "".join(cells.values())
    return told | whole


# A way to a model differs from another in few rows: those alone are written for it, and the rest is as there.
# In the order of `CONTRACTS`: chat, openai, responses, anthropic, ollama, ai-sdk, ai-text, ag-ui, declared.
_OPENAI = rows("""
    system prompt                 + + + + + + + + +
    `developer` message           + + + . . . . + +
    earlier turns                 + + + + + + + + +
    earlier reasoning             - + - . - - - - -
    earlier reasoning, sealed     . . - - . - - - .
    tools                         x + + + + + x + +
    `tool_choice`                 x + + + . + x + +
    one call at a time            x + + + . + x + +
    search by the upstream        . + ! ! . . . . .
    calls and their results       x + + + + + x + +
    that a tool failed            . . . ! . ! x ! .
    image in a result             . . + + + . . + .
    image, data                   + + + + + + + + +
    image, address                + + + + . + + + +
    PDF, data                     + + + + . + + + +
    PDF, address                  . . x x . x x x .
    file by its id                + + + + . . . + +
    text file, data               + + + . . + + + +
    audio                         + + + . . + + + +
    JSON Schema                   + + + + + + + + +
    JSON, no schema               + + + . + + + + +
    `temperature`                 + + + + + + + + +
    `top_p`                       + + + + + + + + +
    `top_k`                       ! + . ! ! ! ! ! !
    `stop`                        + + . + + + + + +
    `seed`                        + + . . + + + + +
    `max_tokens`                  + + + + + + + + +
    `frequency_penalty`           + + . . + + + + +
    `reasoning_effort`            + + + ! ! + + + +
    several answers, `n`          x + . . . x x x x
    `logprobs`                    ! + . . . ! ! ! !
    who asks                      + + + + . + + + +
    text                          + + + + + + + + +
    reasoning                     - + + + + + - + +
    its seal                      . . . . . . . . .
    refusal                       ~ + + ~ ~ ~ ~ ~ ~
    tool call                     - + + + + + - + +
    parallel calls                - + + + + + - + +
    sources                       - + + - - + - + +
    images                        ! + + - - + - + +
    nothing but images            e + + e e + e + +
    end: `length`                 - + + + + + - + +
    end: `tool_calls`             - + + + - + - + +
    end: `content_filter`         - + + + + + - + +
    usage                         - + + + + + - + +
    cached tokens                 - + + + - + - + +
    reasoning tokens              - + + + - + - + +
    arguments in pieces           - + + + - + - + +
""")
_ANTHROPIC = _OPENAI | rows("""
    earlier reasoning             - - - . - - - - -
    earlier reasoning, sealed     . . + + . + + + .
    search by the upstream        . ! ! + . . . . .
    that a tool failed            . . . + . + x + .
    PDF, address                  . . + + . + + + .
    file by its id                x x x + . . . x x
    audio                         x x x . . x x x x
    JSON, no schema               ! ! ! . ! ! ! ! !
    `top_k`                       + + . + + + + + +
    `seed`                        ! ! . . ! ! ! ! !
    `frequency_penalty`           ! ! . . ! ! ! ! !
    `reasoning_effort`            + + + + + + + + +
    several answers, `n`          x x . . . x x x x
    `logprobs`                    ! x . . . ! ! ! !
    its seal                      - - + + - + - + -
    refusal                       . . . . . . . . .
    sources                       - + + + - + - + +
    images                        . . . . . . . . .
    nothing but images            . . . . . . . . .
    reasoning tokens              . . . . . . . . .
""")
_LITELLM_OPENAI = _OPENAI | rows("""
    earlier reasoning             - - - . - - - - -
    `top_k`                       ! ! . ! ! ! ! ! !
    search by the upstream        . ! ! ! . . . . .
    `reasoning_effort`            ! ! ! ! ! ! ! ! !
    several answers, `n`          x x . . . x x x x
    `logprobs`                    ! x . . . ! ! ! !
""")
_LITELLM_ANTHROPIC = _ANTHROPIC | rows("""
    search by the upstream        . ! ! ! . . . . .
    that a tool failed            . . . ! . ! x ! .
    image, address                x x x x . x x x x
    PDF, address                  . . x x . x x x .
    file by its id                x x x x . . . x x
    sources                       - + + - - + - + +
""")

EXPECTED = {
    "openai": unstreamed_too(_OPENAI),
    "anthropic": unstreamed_too(_ANTHROPIC),
    "litellm to openai": unstreamed_too(_LITELLM_OPENAI),
    "litellm to anthropic": unstreamed_too(_LITELLM_ANTHROPIC),
}

NOTES = {
    "earlier reasoning": "Reasoning without a seal goes back only to an upstream of the client's own dialect: others refuse or ignore it.",
    "earlier reasoning, sealed": "A seal, an upstream's signature on its reasoning, is only for the upstream that made it: Anthropic's models, directly or through litellm.",
    "tools": "`chat`, `ai-text` and declared contracts without a template for calls have no form for a call: the client would wait for ever.",
    "search by the upstream": "And every other tool that it runs by itself: only one of the request's own contract has the same.",
    "calls and their results": "`chat` and `ai-text` refuse the tools that come with them.",
    "that a tool failed": "OpenAI's form, which litellm is asked in too, has no field for it, and litellm makes none for Anthropic: the result's text has to say so.",
    "image in a result": "OpenAI's form takes only text from a tool: the image follows as a message of the user.",
    "image, address": "litellm would fetch it itself for every provider but OpenAI and Azure.",
    "PDF, address": "OpenAI's form takes files as data or by id, Mistral's by address too.",
    "file by its id": "Each vendor keeps its own files: an id of OpenAI's says nothing to Anthropic. litellm gives Anthropic a file for its code execution instead.",
    "text file, data": "As text to Anthropic, and where a vendor takes no such file.",
    "JSON, no schema": "Anthropic has no such setting: ask for JSON in the prompt, or give a schema.",
    "`top_k`": "OpenAI has none: a request in its own contract passes it on to a server of that dialect; from others it goes where the kind, the preset or litellm's provider is known to take it (vLLM, llama.cpp, SGLang, OpenRouter; Anthropic, Gemini, Ollama). Newer Claude models take none.",
    "`seed`": "Anthropic has none.",
    "`frequency_penalty`": "Anthropic has none.",
    "`reasoning_effort`": "What Anthropic's and Ollama's clients ask for goes to OpenAI's dialect only where the kind, the preset or the route says that the model takes it; litellm leaves it out for models that do not think.",
    "several answers, `n`": "Only `openai` in front of its own dialect: all others give one answer.",
    "`logprobs`": "Only `openai` in front of its own dialect; contracts without a place for them have no such setting.",
    "its seal": "Only `responses`, `anthropic`, `ai-sdk` and `ag-ui` have a place for it: a model that needs it back gets none from other clients.",
    "refusal": "As the answer's text; `anthropic` says so in its `stop_reason` as well.",
    "sources": "A declared `whole` has `$sources` for them.",
    "images": "`chat` says that one was left out. A declared `whole` has `$media` for them.",
    "nothing but images": "An empty answer would look complete: 422 if nothing was sent yet, else an error at the end of the stream (`ai-text`: a broken connection).",
    "arguments in pieces": "`ollama` sends calls whole, at the end.",
    "end: `tool_calls`": "`ollama` says `stop` beside the calls, as Ollama does.",
}
"""What to know of a row, by feature."""
