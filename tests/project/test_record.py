"""The recording in README.md shows what the commands in it print today."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from tests.project.test_docs import module

ANSI = re.compile(r"\x1b\[[\d;]*m")


@pytest.mark.skipif(any(shutil.which(tool) is None for tool in ("bash", "curl", "sed")), reason="needs bash, curl, sed")
def test_the_recording_shows_what_the_commands_print():
    recording = module("record")
    shown = recording.record()
    texts = [ANSI.sub("", line.text) for line in shown]
    assert max(map(len, texts)) <= recording.COLUMNS
    assert "data: world" in texts
    pictured = [
        "".join(text.itertext())
        for text in ET.fromstring(recording.PICTURE.read_text()).findall(".//{*}text")
        if text.get("class") == "l"
    ]
    assert loosely(pictured) == loosely(texts), "run `make pictures`"


def loosely(lines: list[str]) -> Counter[str]:
    """Without numbers, which differ between runs, and without the order of two terminals at once."""
    return Counter(re.sub(r"[\d.]+", "#", line) for line in lines)
