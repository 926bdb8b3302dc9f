"""Which answers can be written from their events, without the bytes of their upstream."""

from proxy.request import ChatRequest


def rewritable(request: ChatRequest) -> bool:
    """Whether the events of an answer to this hold all of it: one choice, no probabilities, no tools run elsewhere."""
    params = request.params
    return (
        request.task == "chat"
        and params.get("n") in {None, 1}
        and not params.get("logprobs")
        and not request.hosted_tools
    )
