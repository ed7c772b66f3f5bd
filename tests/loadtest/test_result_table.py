"""What a run says in the terminal."""

import io

from loadtest.metric_meanings import MEANINGS, read_numbers
from loadtest.result_table import list_failures, write_table
from loadtest.run_result import METRICS, CheckedThreshold, Checks, RunResult
from tests.loadtest.results import result


def written(run: RunResult) -> str:
    stream = io.StringIO()
    write_table(run, stream)
    return stream.getvalue()


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def test_every_number_has_a_meaning() -> None:
    assert list(MEANINGS) == list(METRICS)


def test_only_what_the_run_did_has_numbers() -> None:
    assert "connects_per_s" not in read_numbers(result())
    assert "ack_p50_ms" not in read_numbers(result())
    assert read_numbers(result())["delivered_per_cpu_s"] == 20_000


def test_a_good_run_shows_its_numbers_and_says_that_it_is_good() -> None:
    text = written(result(checked=[CheckedThreshold("delivery_p50_ms", 2.0, at_most=5.0)]))
    assert "20,000" in row(text, "delivered_per_cpu_s")
    assert "held: at most 5.00 ms" in row(text, "delivery_p50_ms")
    assert "Good:" in text
    assert "Failed" not in text


def test_a_failed_run_says_in_sentences_what_failed() -> None:
    run = result(
        checks=Checks(expected=10, received=7, lost=3, doubled=1, first="one [b]lost[/b]"),
        checked=[CheckedThreshold("acked_per_s", 100.0, at_least=1000.0), CheckedThreshold("connect_p99_ms", None, 1)],
    )
    assert list_failures(run) == [
        "of 10 expected deliveries 7 came; 3 lost, 1 received twice. The first: one [b]lost[/b]",
        "acked_per_s is 100; the threshold is at least 1,000.",
        "connect_p99_ms was not measured; the threshold is at most 1.00 ms.",
    ]
    text = written(run)
    assert all(f"Failed: {sentence}" in text for sentence in list_failures(run))
    assert "Good" not in text


def test_a_bottleneck_is_named() -> None:
    assert "Bottleneck: a worker" in written(result(bottleneck="a worker used 95 % of a core"))
