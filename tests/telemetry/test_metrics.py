import re
import subprocess
import sys
import time
import uuid

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.request import Usage
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.record import AttemptRecord, StreamRecord


@pytest.fixture
def metrics():
    made = Metrics()
    configure(made)
    return made


def test_the_start_of_the_process_is_known_to_less_than_a_second():
    before = time.time()
    code = "from proxy.telemetry.metrics import Metrics; print(Metrics().exposition()[0].decode())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    (started,) = re.findall(r"^process_start_time_seconds (\S+)$", shown, re.MULTILINE)
    assert before - 0.05 < float(started) < time.time()


def configure(metrics: Metrics, *, generation: int = 1, route: str = "default") -> None:
    metrics.configured(
        generation=generation,
        contracts=["chat", "openai"],
        routes=[route],
        backends=["openai", "local"],
        models=["gpt-4o-mini"],
        keys=["web"],
    )


def ended(end="done", *, started_at=100.0, status=200, **fields) -> StreamRecord:
    fields = {"contract": "chat", "route": "default", "backend": "openai", "upstream_model": "gpt-4o-mini"} | fields
    record = StreamRecord(request_id="r", started_at=started_at, status=status, **fields)
    record.finish(end, started_at + 2)
    return record


def samples(metrics: Metrics) -> dict[tuple, float]:
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name.removeprefix("chat_proxy_"), *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def account(metrics: Metrics, record: StreamRecord) -> None:
    metrics.stream_started()
    metrics.ended(record)
    metrics.stream_left()


def test_r7_each_stream_ends_with_one_sample_of_its_reason(metrics):
    for reason in ("done", "done", "upstream_truncated", "client_gone", "rejected"):
        account(metrics, ended(reason))
    seen = samples(metrics)
    assert sum(value for key, value in seen.items() if key[0] == "stream_end_total") == 5
    assert seen["stream_end_total", "backend=openai", "reason=done", "route=default"] == 2
    assert seen["stream_end_total", "backend=openai", "reason=upstream_truncated", "route=default"] == 1


def test_c01_a_client_that_left_is_accounted_as_499_whatever_was_sent(metrics):
    account(metrics, ended("client_gone", status=200))
    assert samples(metrics)["requests_total", "backend=openai", "contract=chat", "route=default", "status=499"] == 1


def test_active_streams_rise_and_fall(metrics):
    metrics.stream_started()
    metrics.stream_started()
    metrics.stream_left()
    assert samples(metrics)[("active_streams",)] == 1


def test_timings_are_observed_once_per_stream_not_per_token(metrics):
    record = ended()
    for n in range(1001):
        record.content(100.4 + n * 0.01, 1)
    account(metrics, record)
    account(metrics, ended("upstream_idle"))  # no content: no first token, no gaps
    seen, labels = samples(metrics), ("backend=openai", "route=default")
    for name in ("first_token_seconds", "content_gap_mean_seconds", "content_gap_max_seconds"):
        assert seen[f"{name}_count", *labels] == 1
    assert seen["first_token_seconds_sum", *labels] == pytest.approx(0.4)
    assert seen["content_gap_mean_seconds_sum", *labels] == pytest.approx(0.01)
    assert seen["request_duration_seconds_count", *labels] == 2


def test_N6_tokens_are_counted_per_key_and_model_and_attempts_per_backend(metrics):
    record = ended(usage=Usage(input_tokens=11, output_tokens=7), key="web")
    record.attempts = [AttemptRecord("local", error_code="upstream_connect"), AttemptRecord("openai")]
    account(metrics, record)
    seen = samples(metrics)
    assert seen["tokens_total", "backend=openai", "direction=in", "key=web", "model=gpt-4o-mini"] == 11
    assert seen["tokens_total", "backend=openai", "direction=out", "key=web", "model=gpt-4o-mini"] == 7
    assert seen["upstream_attempts_total", "backend=local", "outcome=upstream_connect"] == 1
    assert seen["upstream_attempts_total", "backend=openai", "outcome=ok"] == 1


def test_b03_done_without_a_finish_reason_is_done_but_counted(metrics):
    account(metrics, ended(has_finish_reason=False))
    account(metrics, ended("upstream_truncated", has_finish_reason=False))
    assert samples(metrics)["done_without_finish_reason_total", "backend=openai"] == 1


def test_a_request_refused_before_it_had_a_route_has_none(metrics):
    account(metrics, ended("rejected", status=401, route="", backend=""))
    assert samples(metrics)["requests_total", "backend=none", "contract=chat", "route=none", "status=401"] == 1


def test_d07_a_hundred_thousand_names_make_no_new_series(metrics):
    hostile = ended(usage=Usage(1, 1))
    account(metrics, hostile)
    before = len(samples(metrics))
    for n in range(100_000 // 50):
        name = uuid.uuid4().hex
        record = ended(
            contract=name, route=name, backend=name, upstream_model=name, path=name, key=name, usage=Usage(1, 1)
        )
        record.status, record.error_code = n, name
        record.attempts.append(AttemptRecord(name, error_code=name))
        account(metrics, record)
    assert len(samples(metrics)) - before < 250  # one set of `other` labels, and one series per real status
    once = len(samples(metrics))
    for _ in range(50):
        name = uuid.uuid4().hex
        account(metrics, ended(route=name, backend=name, upstream_model=name, status=777))
    assert len(samples(metrics)) - once <= 1


def test_names_of_an_earlier_config_stay_known(metrics):
    configure(metrics, generation=2, route="newer")
    account(metrics, ended(route="default"))
    account(metrics, ended(route="newer"))
    routes = {key[3] for key in samples(metrics) if key[0] == "stream_end_total"}
    assert routes == {"route=default", "route=newer"}


def test_negative_usage_from_a_upstream_breaks_nothing(metrics):
    account(metrics, ended(usage=Usage(input_tokens=-5, output_tokens=3), key="web"))
    assert samples(metrics)["tokens_total", "backend=openai", "direction=in", "key=web", "model=gpt-4o-mini"] == 0


def test_e02_reloads_and_the_generation_in_force_are_reported(metrics):
    metrics.config_reload("accepted")
    configure(metrics, generation=2)
    metrics.config_reload("rejected")
    seen = samples(metrics)
    assert seen["config_reload_total", "result=rejected"] == 1
    assert seen["config_reload_total", "result=accepted"] == 1
    assert seen[("config_generation",)] == 2


def test_dropped_log_lines_and_the_version_are_reported():
    metrics = Metrics()
    metrics.watch_log(lambda: 17)
    seen = samples(metrics)
    assert seen[("log_lines_dropped_total",)] == 17
    assert any(key[0] == "build_info" for key in seen)


def test_two_apps_in_one_process_do_not_mix():
    one, other = Metrics(), Metrics()
    one.stream_started()
    assert samples(one)[("active_streams",)] == 1
    assert samples(other)[("active_streams",)] == 0


def test_nothing_but_values_and_their_sums_is_exposed(metrics):
    account(metrics, ended())
    assert b"_created" not in metrics.exposition()[0]
