"""Every contract in front of every way to a model: what arrives there, and what comes back."""

from __future__ import annotations

import pytest

from proxy.testing.upstream import ScriptedUpstream
from tests.matrix.asking import SAID
from tests.matrix.running import TARGETS, Cells
from tests.matrix.table import CONTRACTS, EXPECTED, NOTES, SIGNS
from tests.support.app import StartProxy

THROUGH_LITELLM = [
    pytest.mark.xdist_group("litellm"),
    # Its types warn when they are first built. It silences that itself, but only as long as the test that imports it.
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning"),
]
PAIRS = [
    pytest.param(contract, target, marks=THROUGH_LITELLM if "litellm" in target else [], id=f"{contract} to {target}")
    for target in TARGETS
    for contract in CONTRACTS
]


@pytest.mark.parametrize(("contract", "target"), PAIRS)
async def test_what_the_table_says_passes_and_no_more(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: str, target: str
) -> None:
    proxy = await start_proxy(TARGETS[target].config(upstream))
    found = await Cells(proxy, upstream, contract, TARGETS[target]).all()
    at = CONTRACTS.index(contract)
    assert found == {feature: signs[at] for feature, signs in EXPECTED[target].items()}


def test_the_table_is_complete() -> None:
    assert tuple(SAID) == CONTRACTS
    assert EXPECTED.keys() == TARGETS.keys()
    for table in EXPECTED.values():
        assert table.keys() == EXPECTED["openai"].keys()
        assert all(len(signs) == len(CONTRACTS) and set(signs) <= SIGNS.keys() for signs in table.values())
        assert {feature.removeprefix("whole: ") for feature in table} >= NOTES.keys()
