"""What finish reasons mean, and when a stream has said that its answer is complete."""

import pytest

from proxy.errors import UpstreamFailed
from proxy.wire.finish import Ending, Verdict, meaning, verdict


@pytest.mark.parametrize(
    ("reason", "means"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("FinishReason.STOP", "stop"), ("FINISH_REASON_STOP", "stop"),
        ("eos_token", "stop"), ("endTurn", "stop"), ("COMPLETE", "stop"), ("pause_turn", "stop"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("maxTokens", "length"), ("max-tokens", "length"),
        ("model_context_window_exceeded", "length"), ("max_token_limit", "length"), ("length: 4096", "length"),
        ("tool_calls", "tool_calls"), ("tool_use", "tool_calls"), ("TOOL_CALL", "tool_calls"), ("function_call", "tool_calls"),
        ("content_filter", "content_filter"), ("content_filter: hate", "content_filter"), ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"),
        ("sensitive", "content_filter"), ("content-filter-violence", "content_filter"), ("IMAGE_SAFETY", "content_filter"),
        ("guardrail_intervened", "content_filter"), ("refusal", "content_filter"), ("ERROR_TOXIC", "content_filter"),
        ("error", "error"), ("network_error", "error"), ("MALFORMED_FUNCTION_CALL", "error"), ("abort", "error"),
        ("UNEXPECTED_TOOL_CALL", "error"), ("insufficient_system_resource", "error"), ("ERROR_LIMIT", "error"),
        ("engine_failed", "error"), ("user_cancelled", "error"), ("server_overloaded", "error"), ("timeout", "error"),
        ("OTHER", "unknown"), ("repetition", "unknown"), ("stopped_by_somebody", "unknown"), (7, "unknown"),
        ("null", "none"), ("None", "none"), ("", "none"), (None, "none"), (False, "none"), ("undefined", "none"),
        ("FINISH_REASON_UNSPECIFIED", "none"),
    ],
)  # fmt: skip
def test_U4_case_separators_prefixes_and_details_do_not_change_what_a_reason_means(reason, means):
    assert meaning(reason) == means


@pytest.mark.parametrize(
    ("reason", "facts", "told"),
    [
        (None, {"has_content": True}, Verdict("stop")),
        (None, {"has_content": False}, Verdict("stop")),
        (None, {"has_content": True, "has_calls": True}, Verdict("tool_calls")),
        ("null", {"has_content": True}, Verdict("stop")),
        ("end_turn", {"has_content": True, "has_calls": True}, Verdict("tool_calls")),
        ("MAX_TOKENS", {"has_content": True}, Verdict("length")),
        ("SAFETY", {"has_content": False}, Verdict("content_filter")),
        ("repetition", {"has_content": True}, Verdict("stop", "repetition")),
        ("repetition", {"has_content": True, "has_calls": True}, Verdict("tool_calls", "repetition")),
        ("x\ny", {"has_content": True}, Verdict("stop", "")),
    ],
)
def test_U4_what_a_reason_makes_of_a_complete_answer(reason, facts, told):
    assert verdict(reason, **facts) == told


@pytest.mark.parametrize(("reason", "has_content"), [("network_error", True), ("error", False), ("OTHER", False)])
def test_U4_a_reason_that_says_or_shows_that_something_is_wrong_is_never_stop(reason, has_content):
    with pytest.raises(UpstreamFailed, match=reason):
        verdict(reason, has_content=has_content)


def ending(*chunks, choices=1):
    """The verdict (complete, final) after each chunk: `(choice, reason, content, plain)`."""
    end = Ending(choices)
    seen = []
    for choice, reason, content, plain in chunks:
        end.add(choice, reason, content=content, plain=plain)
        seen.append((end.complete, end.final))
    return end, seen


def test_U2_a_plain_reason_is_final_and_content_takes_it_back():
    end, seen = ending(
        (0, None, True, False), (0, "stop", False, True), (0, None, True, False), (0, "length", False, True)
    )
    assert seen == [(False, False), (True, True), (False, False), (True, True)]
    assert end.reason == "length"


def test_U2_a_reason_that_comes_with_content_is_complete_but_not_final():
    assert ending((0, "stop", True, False))[1] == [(True, False)]
    assert ending((0, "stop", False, False))[1] == [(True, False)]  # its delta is not empty


def test_U2_a_reason_that_every_chunk_bears_says_nothing():
    _, seen = ending(*[(0, "stop", True, False)] * 3)
    assert seen == [(True, False), (False, False), (False, False)]


def test_U2_another_reason_after_an_early_one_counts():
    end, seen = ending((0, "stop", True, False), (0, "tool_calls", True, False))
    assert (seen[-1], end.reason) == ((True, False), "tool_calls")


def test_U2_usage_alone_after_the_reason_confirms_it():
    end, _ = ending((0, "stop", True, False))
    end.usage()
    assert end.final
    end.add(0, None, content=True, plain=False)
    assert not end.complete
    assert not end.final


def test_U11_every_choice_needs_its_reason_and_calls_outweigh_a_stop():
    end, seen = ending((0, "stop", False, True), (1, None, True, False), (1, "tool_calls", False, True))
    assert (seen, end.reason) == ([(True, True), (False, False), (True, True)], "tool_calls")
    assert ending((0, "stop", False, True), choices=2)[1] == [(False, False)]
    assert ending((1, "stop", False, True))[1] == [(True, True)]  # the only choice, whatever its index
