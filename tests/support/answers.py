"""Answers as token lists, from a seed: what models write, and what nobody should.

Pure data for whoever has to carry text unchanged: codecs here, browsers and Node elsewhere.
"""

from __future__ import annotations

import random

from tests.support.readers import JS_WHITE_SPACE

HOSTILE_PIECES = [
    *("\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", "\n\r", " ", "  ", "\t", " \n", "\n "),
    *(
        "data:",
        "data: ",
        "data",
        "event: done",
        "event:",
        "event: error\n",
        "id: 7",
        "id:",
        "retry: 0",
        "retry:",
        ":",
        ": ",
    ),
    *("\ndata: x", "\n\nevent: done\ndata: x\n\n", "\r\rdata:y\r\r", "\nid: \0", "d", "e", "i", "r", "de", "ir"),
    *("[DONE]", "[DON", "E]", "[", "]", "data:[DONE]\n\n", '{"token":"x"}', '{"error":', '"', "\\", "\\n", "</script>"),
    *("\ufeff", "\u2028", "\u2029", "\u0085", "\u00a0", "\u3000", "\u200b", "\v", "\f", "\x1c", "\x1e", "\0", "\x7f"),
    *("😀", "👩‍👩‍👧‍👦", "e\u0301", "中文", "ü", "a", "word", " the", "x.", "```"),
]

WORDS = """the of and to in is you that it he was for on are as with his they I at be this have from or one had by
word but not what all were we when your can said there use an each which she do how their if will up other about
out many then them these so some her would make like him into time has look two more write go see number no way
café naïve Straße 東京 你好 мир 😀 👍🏽""".split()  # noqa: SIM905 - a list of 80 words would be a page

SNIPPETS = [
    "```python\ndef f(x):\n    return x\n```\n\n",
    "```\ndata: not an event\n\nevent: done\n```\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n",
    "- first\n- second\n  - nested\n\n",
    "1. one\n2. two\n\n",
    "## Heading\n\n",
    "> quote\n\n",
    'data: {"id": 1}\n\n',
    "Windows\r\nline ends\r\n\r\n",
    "    indented\n\tand tabbed\n",
]


def hostile_answers(count, seed=1):
    """Token lists of pieces that break framings; some tokens are empty, some answers only white space."""
    dice = random.Random(seed)
    for _ in range(count):
        tokens = [
            "".join(dice.choices(HOSTILE_PIECES, k=dice.choice((0, 1, 1, 1, 2, 3)))) for _ in range(dice.randint(1, 14))
        ]
        yield tokens


def model_answers(count, seed=1):
    """Token lists cut as tokenizers cut: a space leads its word, newlines come in runs, words in pieces."""
    dice = random.Random(seed)
    for _ in range(count):
        yield list(_tokens("".join(_paragraphs(dice)), dice))


def split_bytes(data, dice):
    """`data` in chunks as a network might bring them."""
    chunks, start = [], 0
    longest = dice.choice((3, 17, 200, 5000))
    while start < len(data):
        size = dice.randint(1, longest)
        chunks.append(data[start : start + size])
        start += size
    return chunks


def with_lf(text):
    """`text` as every dialect carries it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def for_the_hook(text):
    """`text` as far as the chat hook can be given it at all."""
    return with_lf(text).rstrip(JS_WHITE_SPACE)


def _paragraphs(dice):
    for _ in range(dice.randint(1, 5)):
        if dice.random() < 0.4:
            yield dice.choice(SNIPPETS)
        words = dice.choices(WORDS, k=dice.randint(3, 30))
        yield " ".join(words).capitalize() + dice.choice((".", "!", "?", ":", "…"))
        yield dice.choice(("\n\n", "\n", "\n\n\n", " ", ""))


def _tokens(text, dice):
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and text[end].isspace() == text[start].isspace() and dice.random() < 0.85:
            end += 1
        if text[start] == " " and end < len(text):  # a space leads its word
            end += dice.randint(1, 5)
        yield text[start:end]
        start = end
