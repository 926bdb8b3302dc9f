"""What clients may read of an upstream's texts."""

from collections.abc import Collection

from proxy.wire.secret_shapes import MARGIN, MASK, Secrets
from proxy.wire.text import MESSAGE_LENGTH, one_line_of
from proxy.wire.upstream_errors import Clean

_READ = 16 * 1024  # characters of a text that are looked at: enough for any message, and a bound on the work


def cleaner(secrets: Secrets, hidden: Collection[str] = ()) -> Clean:
    """Makes an upstream's text fit for clients: one line, bounded, no stack, neither `secrets` nor `hidden`.

    `hidden` are texts that the log may show, such as the host of a private address.
    """

    def clean(text: str) -> str:
        cut = len(text) > _READ
        text = secrets.mask(text[:_READ])
        if cut:
            text = text[:-MARGIN]
        for word in hidden:
            text = text.replace(word, MASK)
        return one_line_of(text.partition("Traceback (most recent")[0], MESSAGE_LENGTH)

    return clean
