"""Nothing that a client can say gets lost without a word, from any contract to any vendor (R4)."""

from __future__ import annotations

import pytest

from tests.matrix.losses import THINGS, verdict
from tests.matrix.table import CONTRACTS, LEFT_OUT
from tests.matrix.vendors import VENDORS


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("contract", CONTRACTS)
def test_R4_nothing_is_lost_in_silence(contract: str, vendor: str) -> None:
    _, things = THINGS[contract]
    assert [name for name in things if verdict(vendor, contract, name) == LEFT_OUT] == []
