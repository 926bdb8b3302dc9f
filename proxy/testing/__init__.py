"""Conformance suites for plug-ins: subclass `BackendConformance`, `UpstreamConformance` or `ContractConformance`.

Only tests import this package. It needs pytest and pytest-aiohttp, which the proxy itself does not.
See docs/extend/backend.md and docs/extend/contract.md.
"""

import pytest

# So that a failing check shows its values.
pytest.register_assert_rewrite("proxy.testing.backend", "proxy.testing.contract", "proxy.testing.upstream")
