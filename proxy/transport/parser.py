"""The parser of answers: strict, but for forms that no reader can take for another answer."""

from typing import Any

import httptools


def response_parser(reader: Any) -> httptools.HttpResponseParser:
    """A parser that calls the `on_…` attributes of `reader`. It takes a bare LF as a line end, and padded chunk sizes."""
    parser = httptools.HttpResponseParser(reader)
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)
    return parser
