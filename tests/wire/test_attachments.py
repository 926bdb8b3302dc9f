"""Files of UI contracts: what a media type and an address, or bytes, are to a model."""

import pytest

from proxy.errors import BadRequest
from proxy.request import Audio, File, Image
from proxy.wire.attachments import inline, linked


@pytest.mark.parametrize(
    ("media_type", "read"),
    [
        ("image/svg+xml", Image("data:image/svg+xml;base64,AA")),
        ("audio/x-wav", Audio("AA", "wav")),
        ("audio/mpeg", Audio("AA", "mp3")),
        ("audio/webm;codecs=opus", Audio("AA", "webm")),
        ("text/plain; charset=utf-8", File(data="AA", name="n", media_type="text/plain; charset=utf-8")),
        ("", File(data="AA", name="n")),
    ],
)
def test_bytes_are_what_their_media_type_says(media_type, read):
    assert inline(media_type, "AA", "n") == read


@pytest.mark.parametrize(
    ("media_type", "url", "read"),
    [
        ("image/png", "https://a.test/x", Image("https://a.test/x")),
        ("image", "data:image/png;base64,AA", Image("data:image/png;base64,AA")),
        ("video/mp4", "https://a.test/x", File(url="https://a.test/x", name="n", media_type="video/mp4")),
        ("", "data:image/png;base64,AA", Image("data:image/png;base64,AA")),
        ("", "data:,a%2Cb", File(data="YSxi", name="n")),
        ("audio/wav", "data:;base64,AA", Audio("AA", "wav")),
    ],
)
def test_an_address_may_hold_the_bytes_itself(media_type, url, read):
    assert linked(media_type, url, "n", "url") == read


def test_H08_an_address_is_handed_on_and_never_looked_at():
    """Whether to fetch it is for the upstream to say; here it is text."""
    for url in ("http://169.254.169.254/latest", "file:///etc/passwd", "javascript:alert(1)", ""):
        assert linked("application/pdf", url, None, "url") == File(url=url, media_type="application/pdf")


def test_an_address_that_holds_nothing_is_reported_by_its_place():
    with pytest.raises(BadRequest, match=r"^messages\[0\]\.url: ") as caught:
        linked("text/plain", "data:text/plain", None, "messages[0].url")
    assert caught.value.param == "messages[0].url"
