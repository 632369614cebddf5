"""Work made ahead: in order, bounded, resumed exactly, by any number of threads."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from dafxhost.data.examples import Examples
from dafxhost.data.stream import Ahead, ExampleStream
from dafxhost.execution.executor import Executor
from dafxhost.registry import effect
from dafxhost.training.augmentation import AugmentedSource
from test_examples_protocol import RATE, FakeExecutor, Source, T, drive


def until(condition: Any) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("threads", [1, 3])
def test_items_come_in_order_whatever_took_longer(threads: int) -> None:
    def make(i: int) -> int:
        time.sleep(0.02 if i % 3 == 0 else 0)
        return i * i

    with Ahead(make, start=4, stop=20, ahead=4, threads=threads) as ahead:
        assert list(ahead) == [i * i for i in range(4, 20)]
        assert ahead.index == 20


def test_no_more_is_made_than_was_asked_for() -> None:
    made: list[int] = []
    with Ahead(lambda i: made.append(i) or i, ahead=3, threads=2) as ahead:
        assert until(lambda: len(made) == 4)
        time.sleep(0.05)
        assert len(made) == 4
        assert next(ahead) == 0
        assert until(lambda: len(made) == 5)


def test_an_error_comes_where_its_item_was_due() -> None:
    def make(i: int) -> int:
        if i == 2:
            raise TimeoutError("two")
        return i

    for ahead in (0, 3):
        with Ahead(make, ahead=ahead) as items:
            assert [next(items), next(items)] == [0, 1]
            with pytest.raises(TimeoutError, match="two"):
                next(items)
            with pytest.raises(StopIteration):
                next(items)


def test_it_can_be_closed_from_elsewhere_while_somebody_waits() -> None:
    go = threading.Event()
    items = Ahead(lambda i: go.wait(20), ahead=2, threads=1)
    ended: list[str] = []

    def wait() -> None:
        try:
            next(items)
            next(items)
        except StopIteration:
            ended.append("stopped")

    thread = threading.Thread(target=wait)
    thread.start()
    closer = threading.Thread(target=items.close)
    closer.start()
    go.set()
    thread.join(20)
    closer.join(20)
    assert ended == ["stopped"] and not thread.is_alive() and not closer.is_alive()


def test_examples_are_the_same_with_any_number_of_threads_and_workers_and_resume_exactly() -> None:
    """With the real executor, augmented, and taken up again in the middle."""
    drawn: list[list[np.ndarray]] = []
    for workers, threads, ahead, start in ((1, 1, 0, 0), (2, 3, 4, 0), (1, 2, 2, 3)):
        with Executor(effect("mda-combo"), workers=workers) as executor:
            examples = Examples(AugmentedSource(Source()), executor, sample_rate=RATE, samples=T)
            with ExampleStream(examples, 2, 11, start=start, ahead=ahead, threads=threads) as stream:
                batches = [next(stream) for _ in range(5 - start)]
        drawn.append([np.concatenate([b.dry, b.reference, b.target]) for b in batches])
    for other in drawn[1:]:
        for a, b in zip(drawn[0][5 - len(other) :], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batches_are_made_side_by_side() -> None:
    """One batch waits in its render until another has come as far."""
    both = threading.Barrier(2, timeout=20)

    class Meeting(FakeExecutor):
        def render(self, *arguments: Any, **options: Any) -> np.ndarray:
            if len(self.calls) < 2:
                both.wait()
            return super().render(*arguments, **options)

    examples = Examples(Source(), Meeting(drive), sample_rate=RATE, samples=T, apply_probability=1.0)
    with ExampleStream(examples, 2, 0, ahead=1, threads=2) as stream:
        assert len(next(stream)) == 2
