"""A worker by itself, its parent being the test."""

from __future__ import annotations

import socket

from proxy.workers.board import SharedState, Turn
from proxy.workers.channel import Decoder
from proxy.workers.child import WorkerSpec
from proxy.workers.worker import work


def test_a_worker_whose_config_is_refused_says_why_and_no_more() -> None:
    """Its parent mostly kills it at once; where it is slower, what the worker never counted is not asked for."""
    ours, theirs = socket.socketpair()
    birth = WorkerSpec(
        number=1,
        workers=1,
        first=True,
        path="config.yaml",
        host=None,
        port=None,
        generation=1,
        content=b"backends: {}\n",
        loaded_at=0,
        board=SharedState(),
        turn=Turn(),
    )
    with ours:
        assert work(birth, theirs) == 1
        told = list(Decoder().feed(ours.recv(64 * 1024)))
    assert [message.word for message in told] == ["refused"]
    assert any("routes" in error for error in told[0].values["errors"])
