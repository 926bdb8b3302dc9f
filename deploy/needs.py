"""Print the lock that a config needs.

`requirements-core.lock` has no extra, `requirements-image.lock` all but litellm, `requirements.lock` all of them. `make run`
asks before anything is installed, so this uses nothing but the standard library of any Python since 3.7. It does not read
YAML. Where it cannot tell, the answer is the larger lock, which always works.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

EXTRAS = re.compile(
    r"""(?<![\w-]) (?:
        kind["']?\s*:\s*["']?(?P<litellm>litellm)
      | store["']?\s*:\s*["']?(?!memory)\S    # redis
      | rediss?:// | postgres | otlp | otel
    )""",
    re.VERBOSE | re.IGNORECASE,
)
CONTENT = re.compile(r"""(?<![\w-])content["']?\s*:""")  # under `match` it needs google-re2
COMMENT = re.compile(r"(^|\s)#.*")
VARIABLE = re.compile(r"\$\{(\w+)\}")
OPTIONAL = re.compile(r"""(?<![\w-])optional["']?\s*:\s*true\b""")


LOCKS = ("requirements-core.lock", "requirements-image.lock", "requirements.lock")


def lock(text: str, environment: Mapping[str, str]) -> str:
    """The name of the lock for the config `text`."""
    lines = [VARIABLE.sub(r"$\1$", COMMENT.sub("", line).rstrip()) for line in text.splitlines()]
    size = 0
    for index, line in enumerate(lines):
        for found in EXTRAS.finditer(line):
            if not is_off(row(lines, index, found.start()), environment):
                size = max(size, 2 if found["litellm"] else 1)
        if CONTENT.search(line) and "match" in parent(lines, index) + line:
            size = max(size, 1)
    return LOCKS[size]


def row(lines: Sequence[str], index: int, at: int) -> str:
    """The backend that `kind` stands in: what is between the braces around it, else the lines that are as far indented."""
    line = lines[index]
    if "{" in line[:at]:
        return line[line.rindex("{", 0, at) :].partition("}")[0]
    depth, first, last = indent(line), index, index + 1
    while first and (not lines[first - 1] or indent(lines[first - 1]) >= depth):
        first -= 1
    while last < len(lines) and (not lines[last] or indent(lines[last]) >= depth):
        last += 1
    return "\n".join(lines[first:last])


def parent(lines: Sequence[str], index: int) -> str:
    """The line that this one stands under."""
    depth = indent(lines[index])
    return next((line for line in reversed(lines[:index]) if line and indent(line) < depth), "")


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_off(text: str, environment: Mapping[str, str]) -> bool:
    """Whether this is an optional backend with a variable that is not set."""
    return bool(OPTIONAL.search(text)) and any(not environment.get(name) for name in re.findall(r"\$(\w+)\$", text))


if __name__ == "__main__":
    try:
        needed = lock(Path(sys.argv[1]).read_text(encoding="utf-8"), os.environ)
    except (OSError, ValueError):  # whoever serves it says what is wrong
        needed = LOCKS[0]
    sys.stdout.write(needed + "\n")
