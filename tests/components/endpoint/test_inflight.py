import threading

import pytest

from components.endpoint.inflight import in_order


def test_results_come_in_the_order_of_the_items_though_the_first_ends_last() -> None:
    rest_done = threading.Barrier(3)

    def work(item: int) -> int:
        if item < 3:
            rest_done.wait(10)  # so that three are at work together
        return item * item

    assert list(in_order(work, range(20), at_once=3)) == [item * item for item in range(20)]


def test_items_are_taken_only_a_little_ahead() -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items(), at_once=2)
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()


def test_an_error_comes_in_its_place_and_ends_the_rest() -> None:
    def work(item: int) -> int:
        return 1 // (2 - item)

    results = in_order(work, range(50), at_once=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_threads_end_with_the_work() -> None:
    list(in_order(lambda item: item, range(4), at_once=4))
    for thread in threading.enumerate():
        if thread.name == "in flight":
            thread.join(10)
    assert not [thread for thread in threading.enumerate() if thread.name == "in flight"]
