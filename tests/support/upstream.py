"""The scripted upstream of `proxy.testing`, by one name for all tests."""

from proxy.testing.script import *  # noqa: F403 - steps and bytes, all of them
from proxy.testing.upstream import Closed, ScriptedUpstream, Seen, eventually

__all__ = ["Closed", "ScriptedUpstream", "Seen", "eventually"]
