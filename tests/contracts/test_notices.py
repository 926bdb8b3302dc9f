from proxy.contracts.notices import LONGEST, notice_header
from proxy.events import Notice


def test_notices_share_a_line():
    assert notice_header([Notice("a", "x is gone"), Notice("b", "y too")]) == "x is gone; y too"


def test_no_notice_can_break_out_of_the_header():
    assert notice_header([Notice("a", "é\r\nSet-Cookie: a=b")]) == "???Set-Cookie: a=b"


def test_many_notices_are_cut_to_what_a_head_may_hold():
    value = notice_header([Notice("a", "x" * 90)] * 100)
    assert len(value) < LONGEST + 20
    assert value.endswith("; and 79 more")
