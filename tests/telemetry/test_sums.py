"""Counts of several processes, added up: as if one had counted, and never going back."""

import json
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry import sums
from proxy.telemetry.metrics import Metrics, exposition
from proxy.telemetry.record import StreamRecord


def counted(requests: int, *, generation: int = 3, route: str = "default", seconds: float = 1.0) -> Metrics:
    metrics = Metrics()
    metrics.configured(
        generation=generation,
        contracts=["chat"],
        routes=["default", "other-route"],
        backends=["far"],
        models=["m"],
        keys=[],
    )
    for number in range(requests):
        record = StreamRecord(request_id=str(number), started_at=0.0, contract="chat", route=route, backend="far")
        record.status = 200
        record.finish("done", seconds)
        metrics.ended(record)
    return metrics


def samples(families: list[sums.Family]) -> dict[tuple[Any, ...], float]:
    text = exposition(families)[0].decode()
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def over_the_wire(metrics: Metrics) -> list[sums.Family]:
    told: list[sums.Family] = json.loads(json.dumps(metrics.snapshot()))
    return told


def mine(families: list[sums.Family]) -> dict[tuple[Any, ...], float]:
    """Without what is the process's own and moves by itself."""
    return {key: value for key, value in samples(families).items() if not key[0].startswith("process_")}


def test_the_sum_of_one_is_what_it_tells_itself() -> None:
    metrics = counted(5)
    text = metrics.exposition()[0].decode()
    alone = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if not one.name.startswith("process_")
    }
    assert mine(sums.total([over_the_wire(metrics)], [])) == alone
    assert len(alone) > 20


def test_two_that_shared_the_requests_count_as_one_that_had_them_all() -> None:
    both = [over_the_wire(counted(2)), over_the_wire(counted(3, seconds=50.0))]
    one = counted(2)
    record = StreamRecord(request_id="x", started_at=0.0, contract="chat", route="default", backend="far", status=200)
    record.finish("done", 50.0)
    for _ in range(3):
        one.ended(record)
    assert mine(sums.total(both, [])) == mine(sums.total([over_the_wire(one)], []))


def test_labels_that_only_one_has_are_there_and_its_buckets_stay_in_order() -> None:
    families = sums.total([over_the_wire(counted(1)), over_the_wire(counted(4, route="other-route"))], [])
    duration = next(one for one in families if one[0] == "chat_proxy_request_duration_seconds")
    of_other = [
        dict(labels)["le"]
        for name, labels, _ in duration[3]
        if name.endswith("_bucket") and dict(labels)["route"] == "other-route"
    ]
    assert of_other == sorted(of_other, key=float)
    assert of_other[-1] == "+Inf"


def test_generation_and_build_are_not_summed_and_a_start_is_the_first() -> None:
    families = sums.total([over_the_wire(counted(0)), over_the_wire(counted(0, generation=4))], [])
    found = samples(families)
    assert found["chat_proxy_config_generation",] == 4
    assert [value for key, value in found.items() if key[0] == "chat_proxy_build_info"] == [1]
    assert found["process_start_time_seconds",] < time.time()


def test_what_belongs_to_a_process_is_summed_over_those_that_live() -> None:
    one = over_the_wire(counted(0))
    alone, twice = samples(sums.total([one], [])), samples(sums.total([one, one], []))
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_cpu_seconds_total"):
        assert twice[name,] == pytest.approx(2 * alone[name,])


def test_the_dead_keep_their_counters_and_lose_their_gauges() -> None:
    dying = counted(7)
    dying.stream_started()
    dead = sums.bury([], over_the_wire(dying))
    dead = sums.bury(dead, over_the_wire(counted(5)))
    found = samples(sums.total([over_the_wire(counted(1))], dead))
    key = (
        "chat_proxy_requests_total",
        ("backend", "far"),
        ("contract", "chat"),
        ("route", "default"),
        ("status", "200"),
    )
    assert found[key] == 13
    assert found["chat_proxy_active_streams",] == 0
    assert found["chat_proxy_config_generation",] == 3


def test_adding_up_changes_nothing_that_was_told() -> None:
    told = over_the_wire(counted(2))
    before = json.dumps(told)
    sums.total([told, told], sums.bury([], told))
    assert json.dumps(told) == before
