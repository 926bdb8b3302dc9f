"""Every recording through every contract, and what the official SDKs make of the same bytes: docs/proofs/field.md."""

from __future__ import annotations

import pytest

from proxy.testing.upstream import ScriptedUpstream
from tests.field.proxied import client_reads, config, differs
from tests.field.recordings import DELIVERIES, RECORDINGS, Recording, answers
from tests.field.sdks import difference, sdk_reads
from tests.field.table import DIFFERENCES
from tests.matrix.asking import SAID
from tests.support.app import StartProxy

CONTRACTS = tuple(SAID)
WHOLE = "whole"
WAYS = (*DELIVERIES, WHOLE)

Pair = tuple[str, str]


def _marks(one: Recording) -> list[pytest.MarkDecorator]:
    if one.kind != "litellm":
        return []
    # Its types warn when they are first built. It silences that itself, but only as long as the test that imports it.
    silent = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning")
    return [pytest.mark.xdist_group("litellm"), silent]


def pairs(one: Recording) -> list[Pair]:
    """The contracts and the ways in which they are asked for this answer."""
    return [
        (contract, way)
        for contract in CONTRACTS
        for way in WAYS
        if way != WHOLE or (contract != "ag-ui" and (one.whole is not None or one.kind == "litellm"))
    ]


EACH = [pytest.param(one, id=one.name, marks=_marks(one)) for one in RECORDINGS]


async def _check(one: Recording, some: list[Pair], start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(one, upstream))
    for contract, way in some:
        upstream.decide(answers(one, way if way in DELIVERIES else "in one write"))
        got = await client_reads(proxy.port, contract, stream=way != WHOLE)
        assert not differs(got, one.meant(stream=way != WHOLE), contract), (contract, way, got)


@pytest.mark.parametrize("one", EACH)
async def test_a_recording_means_the_same_in_a_few_contracts(
    one: Recording, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    quick = [pair for pair in pairs(one) if pair[1] != "as recorded"]
    first = RECORDINGS.index(one)
    await _check(one, quick[first % 11 :: 11], start_proxy, upstream)


@pytest.mark.heavy
@pytest.mark.parametrize("one", EACH)
async def test_a_recording_means_the_same_in_every_contract_however_it_comes(
    one: Recording, start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    await _check(one, pairs(one), start_proxy, upstream)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("one", RECORDINGS, ids=lambda one: one.name)
async def test_the_official_sdk_reads_it_the_same_but_for_what_the_page_says(
    one: Recording, upstream: ScriptedUpstream
) -> None:
    upstream.decide(answers(one, "in one write"))
    for form in ("streamed", "whole") if one.whole is not None else ("streamed",):
        found = difference(
            await sdk_reads(one, upstream, stream=form == "streamed"), one.meant(stream=form == "streamed")
        )
        listed = [kind for kind, names in DIFFERENCES.items() if f"{one.name}, {form}" in names]
        assert listed == ([found] if found else []), (form, found)


def test_only_recordings_are_listed_as_differing() -> None:
    names = {one.name for one in RECORDINGS}
    assert {entry.partition(",")[0] for entries in DIFFERENCES.values() for entry in entries} <= names
