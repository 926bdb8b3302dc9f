"""Long texts that people want, and that repeat a lot: tables, arrays, code, logs, base64, songs. Made from a seed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from random import Random

WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
    "car",
    "city",
    "community",
    "name",
    "president",
    "team",
    "minute",
    "idea",
    "body",
    "information",
]


def names(random: Random, count: int) -> list[str]:
    return ["".join(random.sample("abcdefghijklmnopqrstuvwxyz", random.randint(3, 9))) for _ in range(count)]


def table(random: Random) -> str:
    columns = names(random, random.randint(2, 6))
    rows = [
        f"| {' | '.join(str(random.choice((0, 1, random.randint(0, 9999)))) for _ in columns)} |" for _ in range(300)
    ]
    return "\n".join([f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns), *rows])


def sparse_table(random: Random) -> str:
    """Hardly anything in it but the names of its rows."""
    return "\n".join(f"| {name} | yes | no | - |" for name in names(random, 300))


def objects(random: Random) -> str:
    kinds = random.sample(WORDS, 3)
    return json.dumps(
        [{"id": at, "kind": random.choice(kinds), "ok": True, "tags": [], "next": None} for at in range(300)], indent=2
    )


def flags(random: Random) -> str:
    return json.dumps([random.random() < 0.5 for _ in range(2000)])


def labels(random: Random) -> str:
    return ", ".join(random.choices(("positive", "negative", "neutral", "very good"), k=1500))


def label_lines(random: Random) -> str:
    return "\n".join(random.choices(("positive", "negative", "not sure"), k=1500))


def bits(random: Random) -> str:
    return "\n".join("[" + ", ".join(random.choices("01", k=28)) + "]," for _ in range(100))


def pixels(random: Random) -> str:
    """Mostly zeros, as pictures and sparse vectors are."""
    return json.dumps([random.randint(1, 255) if random.random() < 0.05 else 0 for _ in range(3000)])


def getters(random: Random) -> str:
    return "\n".join(
        f"    @property\n    def {name}(self) -> int:\n        return self._{name}\n" for name in names(random, 150)
    )


def switch(random: Random) -> str:
    cases = "".join(f"        case {at}:\n            return 0x{random.randint(0, 255):02x};\n" for at in range(256))
    return f"switch (byte) {{\n{cases}}}\n"


def html(random: Random) -> str:
    return "\n".join(f'<li class="item"><a href="/{name}">{name.title()}</a></li>' for name in names(random, 200))


def log(random: Random) -> str:
    second, lines = 0, []
    for _ in range(200):
        second += random.randint(1, 3)
        lines.append(f"2026-11-30T10:{second // 60:02}:{second % 60:02}Z INFO  worker: heartbeat ok")
    return "\n".join(lines)


def counted(_: Random) -> str:
    return "\n".join(f"Processed item {at} of 500." for at in range(500))


def encoded(random: Random) -> str:
    data = b"".join(random.randbytes(random.randint(1, 40)) + bytes(random.randint(0, 300)) for _ in range(40))
    return base64.b64encode(data).decode()


def wrapped(random: Random) -> str:
    return base64.encodebytes(random.randbytes(4000)).decode()


def song(random: Random) -> str:
    refrain = "\n".join(" ".join(random.choices(WORDS, k=7)) for _ in range(6))
    verses = ["\n".join(" ".join(random.choices(WORDS, k=7)) for _ in range(4)) for _ in range(12)]
    return "\n\n".join(f"{verse}\n\n{refrain}\n{refrain}" for verse in verses)


def nursery(_: Random) -> str:
    tens = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
    ones = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    numbers = [f"{ten}-{one}" for ten in reversed(tens) for one in reversed(ones)]
    return "\n".join(
        f"{number.title()} bottles of beer on the wall, {number} bottles of beer.\nTake one down and pass it around, one "
        "less bottle of beer on the wall.\n"
        for number in numbers
    )


def prose(random: Random) -> str:
    return " ".join(" ".join(random.choices(WORDS, k=random.randint(5, 15))).capitalize() + "." for _ in range(300))


def drawing(random: Random) -> str:
    return "\n".join("+" + "-" * 70 + "+\n|" + names(random, 1)[0].center(70) + "|" for _ in range(40))


def board(random: Random) -> str:
    return "\n".join(" ".join(random.choices(".pPrRnNbB", k=8)) for _ in range(300))


def notes(random: Random) -> str:
    return "".join(f"note {random.choice('ABCDEFG')} {random.choice(('quarter', 'half'))}\n" for _ in range(300))


MAKERS: tuple[Callable[[Random], str], ...] = (
    table, sparse_table, objects, flags, labels, label_lines, bits, pixels, getters, switch, html, log, counted, encoded,
    wrapped, song, nursery, prose, drawing, board, notes,
)  # fmt: skip


def tokens(text: str, random: Random) -> Iterator[str]:
    """The text in pieces of one to eight characters, as models stream it."""
    at = 0
    while at < len(text):
        size = random.randint(1, 8)
        yield text[at : at + size]
        at += size
