"""What a parent and its workers say to each other arrives as it was said, however the bytes fall."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from proxy.workers.channel import Decoder, Message, encode

MESSAGES = st.lists(
    st.builds(
        Message,
        st.text(),
        st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.booleans() | st.lists(st.text())),
        st.binary(max_size=50),
    ),
    max_size=5,
)


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 400)))
def test_messages_arrive_however_the_bytes_fall(messages: list[Message], cuts: list[int]) -> None:
    wire = b"".join(encode(one.word, one.load, **one.values) for one in messages)
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    decoder = Decoder()
    heard = [one for start, end in itertools.pairwise(edges) for one in decoder.feed(wire[start:end])]
    assert heard == messages


def test_byte_by_byte() -> None:
    decoder = Decoder()
    wire = encode("prepare", b"routes: []\n", generation=7) + encode("drain")
    heard = [one for byte in wire for one in decoder.feed(bytes([byte]))]
    assert heard == [Message("prepare", {"generation": 7}, b"routes: []\n"), Message("drain", {}, b"")]
