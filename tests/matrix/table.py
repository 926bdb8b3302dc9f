"""What passes: the expected verdict of every cell, for each way to a model. docs/matrix.md is made from this.

A cell that changes is a change that clients see: change it here, say why in `NOTES`, and run `make docs`.
"""

from __future__ import annotations

SIGNS = {
    "+": "carried",
    "~": "carried in another form",
    "-": "left out, silently",
    "!": "left out, and the client is told (a notice in the answer)",
    "x": "refused with status 400 before anything is asked of the model",
    ".": "cannot be said by the contract, or by the far side",
}
CARRIED, OTHERWISE, LEFT_OUT, ANNOUNCED, REFUSED, UNSAID = SIGNS

CONTRACTS = ("chat", "openai", "responses", "anthropic", "ollama", "ai-sdk", "ai-text", "ag-ui", "declared")


def rows(text: str) -> dict[str, str]:
    """Signs by feature, one for each of `CONTRACTS`."""
    found = {}
    for line in text.strip().splitlines():
        name, signs = line.strip().rsplit("  ", 1)
        found[name.strip()] = signs.strip().replace(" ", "")
    return found


# In the order of `CONTRACTS`: chat, openai, responses, anthropic, ollama, ai-sdk, ai-text, ag-ui, declared.
EXPECTED = {
    "openai": rows("""
        system prompt                 + + + + + + + + +
        `developer` message           + + + . . . . + +
        earlier turns                 + + + + + + + + +
        earlier reasoning             - + - . - - - - -
        earlier reasoning, sealed     . . - - . - - - .
        tools                         x + + + + + x + +
        `tool_choice`                 x + + + . + x + +
        one call at a time            x + + + . + x + +
        calls and their results       x + + + + + x + +
        that a tool failed            . . . - . - x - .
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
        `top_k`                       - + . - - - - - -
        `stop`                        + + . + + + + + +
        `seed`                        + + . . + + + + +
        `max_tokens`                  + + + + + + + + +
        `frequency_penalty`           + + . . + + + + +
        `reasoning_effort`            + + + - - + + + +
        several answers, `n`          x + . . . x x x x
        `logprobs`                    - + . . . - - - -
        who asks                      + + + + . + + + +
        text                          + + + + + + + + +
        reasoning                     - + + + + + - + +
        its seal                      . . . . . . . . .
        refusal                       ~ + + ~ ~ ~ ~ ~ ~
        tool call                     - + + + + + - + +
        parallel calls                - + + + + + - + +
        sources                       - + + - - + - + +
        images                        - + + - - + - + +
        end: `length`                 - + + + + + - + +
        end: `tool_calls`             - + + + - + - + +
        end: `content_filter`         - + + + - + - + +
        usage                         - + + + + + - + +
        cached tokens                 - + + + - + - + +
        reasoning tokens              - + + + - + - + +
        arguments in pieces           - + + + - + - + +
        whole: text                   + + + + + + + . +
        whole: reasoning              - + + + + + - . +
        whole: its seal               . . . . . . . . .
        whole: refusal                ~ + + ~ ~ ~ ~ . ~
        whole: tool call              - + + + + + - . +
        whole: parallel calls         - + + + + + - . +
        whole: sources                - + + - - + - . -
        whole: images                 - + + - - + - . -
        whole: end: `length`          - + + + + + - . +
        whole: end: `tool_calls`      - + + + - + - . +
        whole: end: `content_filter`  - + + + - + - . +
        whole: usage                  - + + + + + - . +
        whole: cached tokens          - + + + - + - . +
        whole: reasoning tokens       - + + + - + - . +
    """),
    "anthropic": rows("""
        system prompt                 + + + + + + + + +
        `developer` message           + + + . . . . + +
        earlier turns                 + + + + + + + + +
        earlier reasoning             - - - . - - - - -
        earlier reasoning, sealed     . . + + . + + + .
        tools                         x + + + + + x + +
        `tool_choice`                 x + + + . + x + +
        one call at a time            x + + + . + x + +
        calls and their results       x + + + + + x + +
        that a tool failed            . . . + . + x + .
        image in a result             . . + + + . . + .
        image, data                   + + + + + + + + +
        image, address                + + + + . + + + +
        PDF, data                     + + + + . + + + +
        PDF, address                  . . + + . + + + .
        file by its id                + + + + . . . + +
        text file, data               + + + . . + + + +
        audio                         x x x . . x x x x
        JSON Schema                   + + + + + + + + +
        JSON, no schema               - - - . - - - - -
        `temperature`                 + + + + + + + + +
        `top_p`                       + + + + + + + + +
        `top_k`                       - - . + + - - - -
        `stop`                        + + . + + + + + +
        `seed`                        - - . . - - - - -
        `max_tokens`                  + + + + + + + + +
        `frequency_penalty`           - - . . - - - - -
        `reasoning_effort`            + + + + + + + + +
        several answers, `n`          x x . . . x x x x
        `logprobs`                    - x . . . - - - -
        who asks                      + + + + . + + + +
        text                          + + + + + + + + +
        reasoning                     - + + + + + - + +
        its seal                      - - + + - + - + -
        refusal                       . . . . . . . . .
        tool call                     - + + + + + - + +
        parallel calls                - + + + + + - + +
        sources                       - + + + - + - + +
        images                        . . . . . . . . .
        end: `length`                 - + + + + + - + +
        end: `tool_calls`             - + + + - + - + +
        end: `content_filter`         - + + + - + - + +
        usage                         - + + + + + - + +
        cached tokens                 - + + + - + - + +
        reasoning tokens              . . . . . . . . .
        arguments in pieces           - + + + - + - + +
        whole: text                   + + + + + + + . +
        whole: reasoning              - + + + + + - . +
        whole: its seal               - - + + - + - . -
        whole: refusal                . . . . . . . . .
        whole: tool call              - + + + + + - . +
        whole: parallel calls         - + + + + + - . +
        whole: sources                - + + + - + - . -
        whole: images                 . . . . . . . . .
        whole: end: `length`          - + + + + + - . +
        whole: end: `tool_calls`      - + + + - + - . +
        whole: end: `content_filter`  - + + + - + - . +
        whole: usage                  - + + + + + - . +
        whole: cached tokens          - + + + - + - . +
        whole: reasoning tokens       . . . . . . . . .
    """),
    "litellm to openai": rows("""
        system prompt                 + + + + + + + + +
        `developer` message           + + + . . . . + +
        earlier turns                 + + + + + + + + +
        earlier reasoning             - - - . - - - - -
        earlier reasoning, sealed     . . - - . - - - .
        tools                         x + + + + + x + +
        `tool_choice`                 x + + + . + x + +
        one call at a time            x + + + . + x + +
        calls and their results       x + + + + + x + +
        that a tool failed            . . . - . - x - .
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
        `top_k`                       - - . - - - - - -
        `stop`                        + + . + + + + + +
        `seed`                        + + . . + + + + +
        `max_tokens`                  + + + + + + + + +
        `frequency_penalty`           + + . . + + + + +
        `reasoning_effort`            - - - - - - - - -
        several answers, `n`          x x . . . x x x x
        `logprobs`                    - x . . . - - - -
        who asks                      + + + + . + + + +
        text                          + + + + + + + + +
        reasoning                     - + + + + + - + +
        its seal                      . . . . . . . . .
        refusal                       ~ + + ~ ~ ~ ~ ~ ~
        tool call                     - + + + + + - + +
        parallel calls                - + + + + + - + +
        sources                       - + + - - + - + +
        images                        - + + - - + - + +
        end: `length`                 - + + + + + - + +
        end: `tool_calls`             - + + + - + - + +
        end: `content_filter`         - + + + - + - + +
        usage                         - + + + + + - + +
        cached tokens                 - + + + - + - + +
        reasoning tokens              - + + + - + - + +
        arguments in pieces           - + + + - + - + +
        whole: text                   + + + + + + + . +
        whole: reasoning              - + + + + + - . +
        whole: its seal               . . . . . . . . .
        whole: refusal                ~ + + ~ ~ ~ ~ . ~
        whole: tool call              - + + + + + - . +
        whole: parallel calls         - + + + + + - . +
        whole: sources                - + + - - + - . -
        whole: images                 - + + - - + - . -
        whole: end: `length`          - + + + + + - . +
        whole: end: `tool_calls`      - + + + - + - . +
        whole: end: `content_filter`  - + + + - + - . +
        whole: usage                  - + + + + + - . +
        whole: cached tokens          - + + + - + - . +
        whole: reasoning tokens       - + + + - + - . +
    """),
    "litellm to anthropic": rows("""
        system prompt                 + + + + + + + + +
        `developer` message           + + + . . . . + +
        earlier turns                 + + + + + + + + +
        earlier reasoning             - - - . - - - - -
        earlier reasoning, sealed     . . + + . + + + .
        tools                         x + + + + + x + +
        `tool_choice`                 x + + + . + x + +
        one call at a time            x + + + . + x + +
        calls and their results       x + + + + + x + +
        that a tool failed            . . . - . - x - .
        image in a result             . . + + + . . + .
        image, data                   + + + + + + + + +
        image, address                x x x x . x x x x
        PDF, data                     + + + + . + + + +
        PDF, address                  . . x x . x x x .
        file by its id                x x x x . . . x x
        text file, data               x x x . . x x x x
        audio                         x x x . . x x x x
        JSON Schema                   + + + + + + + + +
        JSON, no schema               - - - . - - - - -
        `temperature`                 + + + + + + + + +
        `top_p`                       + + + + + + + + +
        `top_k`                       - - . - - - - - -
        `stop`                        + + . + + + + + +
        `seed`                        - - . . - - - - -
        `max_tokens`                  + + + + + + + + +
        `frequency_penalty`           - - . . - - - - -
        `reasoning_effort`            + + + + + + + + +
        several answers, `n`          x x . . . x x x x
        `logprobs`                    - x . . . - - - -
        who asks                      + + + + . + + + +
        text                          + + + + + + + + +
        reasoning                     - + + + + + - + +
        its seal                      - - + + - + - + -
        refusal                       . . . . . . . . .
        tool call                     - + + + + + - + +
        parallel calls                - + + + + + - + +
        sources                       - - - - - - - - -
        images                        . . . . . . . . .
        end: `length`                 - + + + + + - + +
        end: `tool_calls`             - + + + - + - + +
        end: `content_filter`         - + + + - + - + +
        usage                         - + + + + + - + +
        cached tokens                 - + + + - + - + +
        reasoning tokens              . . . . . . . . .
        arguments in pieces           - + + + - + - + +
        whole: text                   + + + + + + + . +
        whole: reasoning              - + + + + + - . +
        whole: its seal               - - + + - + - . -
        whole: refusal                . . . . . . . . .
        whole: tool call              - + + + + + - . +
        whole: parallel calls         - + + + + + - . +
        whole: sources                - - - - - - - . -
        whole: images                 . . . . . . . . .
        whole: end: `length`          - + + + + + - . +
        whole: end: `tool_calls`      - + + + - + - . +
        whole: end: `content_filter`  - + + + - + - . +
        whole: usage                  - + + + + + - . +
        whole: cached tokens          - + + + - + - . +
        whole: reasoning tokens       . . . . . . . . .
    """),
}

NOTES = {
    "earlier reasoning": "Only a far side of the client's own dialect gets reasoning back that bears no seal: others refuse or ignore it.",
    "earlier reasoning, sealed": "A seal is for the far side that made it: Anthropic's models, directly or through litellm.",
    "tools": "`chat`, `ai-text` and declared contracts without a template for calls could not tell a call: the client would wait for ever.",
    "calls and their results": "`chat` and `ai-text` refuse the tools that come with them.",
    "that a tool failed": "OpenAI's form, which litellm is asked in too, has no field for it: the result's text has to say so.",
    "image in a result": "To OpenAI's form, where a tool answers in text, as if the user showed it.",
    "image, address": "litellm would fetch it itself for every provider but OpenAI and Azure.",
    "PDF, address": "OpenAI's form takes files as data or by id.",
    "file by its id": "litellm gives Anthropic a file for its code execution instead.",
    "text file, data": "As text to Anthropic. litellm sends it there in a form that is refused.",
    "JSON, no schema": "Anthropic has no such setting: ask for JSON in the prompt, or give a schema.",
    "`top_k`": "OpenAI has none: only a request in its own contract passes it on to a server of that dialect.",
    "`seed`": "Anthropic has none.",
    "`frequency_penalty`": "Anthropic has none.",
    "`reasoning_effort`": "To OpenAI's dialect, as Anthropic's and Ollama's clients ask for it, only where the kind, the preset or the route says that the model takes it; litellm leaves it out for models that do not think.",
    "several answers, `n`": "Only `openai` in front of its own dialect: all others tell one answer.",
    "`logprobs`": "Only `openai` in front of its own dialect; contracts that could not tell them do not ask for them.",
    "its seal": "Only `responses`, `anthropic`, `ai-sdk` and `ag-ui` have a place for it: a model that needs it back gets none from other clients.",
    "refusal": "As the answer's text; `anthropic` says so in its `stop_reason` as well.",
    "sources": "litellm tells of none of Anthropic's in a form that others share. A declared `whole` has no place for them.",
    "images": "An answer that is nothing but an image is empty in contracts that cannot show one.",
    "arguments in pieces": "`ollama` tells calls whole, at the end.",
    "end: `tool_calls`": "`ollama` says `stop` beside the calls, as Ollama does.",
    "end: `content_filter`": "`ollama` says `stop`.",
}
"""What to know of a row, by feature."""
