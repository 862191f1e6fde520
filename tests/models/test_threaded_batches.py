"""Batches on cores of their own: the same results in the same order, and threads as they were."""

import threading
from collections.abc import Iterator

import pytest
import torch

from langadapt.models.frozen_text import map_batches_threaded

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def where(item: int) -> tuple[int, str, int]:
    return item, threading.current_thread().name, torch.get_num_threads()


def threads_of_a_new_thread() -> int:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


def test_many_items_run_on_cores_of_their_own_and_keep_their_order() -> None:
    here = threading.current_thread().name
    found = list(map_batches_threaded(where, iter(range(40)), CPU))
    assert [item for item, _, _ in found] == list(range(40))
    assert found[0] == (0, here, 3), "the first one alone, on all cores"
    assert {threads for _, _, threads in found[1:]} == {1}
    assert here not in {name for _, name, _ in found[1:]}
    assert torch.get_num_threads() == threads_of_a_new_thread() == 3


def test_as_many_at_once_as_there_are_cores() -> None:
    met = threading.Barrier(3)

    def meet(item: int) -> int:
        if item:
            met.wait(timeout=20)  # broken where fewer than three run at the same time
        return item

    assert list(map_batches_threaded(meet, range(13), CPU)) == list(range(13))


@pytest.mark.parametrize(("count", "threads"), [(5, 3), (40, 1)], ids=["few items", "one core"])
def test_what_gains_nothing_runs_here(count: int, threads: int) -> None:
    torch.set_num_threads(threads)
    here = threading.current_thread().name
    assert list(map_batches_threaded(where, range(count), CPU)) == [
        (item, here, threads) for item in range(count)
    ]


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    for item in map_batches_threaded(where, items(), CPU):
        if item[0] == 20:
            break
    assert len(taken) < 40
    assert threads_of_a_new_thread() == 3


def test_an_error_comes_through_and_the_rest_is_left() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 9:
            raise ValueError("nine")
        done.append(item)
        return item

    found = map_batches_threaded(work, range(1000), CPU)
    with pytest.raises(ValueError, match="nine"):
        list(found)
    assert len(done) < 30


def test_a_gpu_is_fed_by_three_threads_in_order_even_from_one_core() -> None:
    torch.set_num_threads(1)
    met = threading.Barrier(3)

    def meet(item: int) -> int:
        if item:
            met.wait(timeout=20)
        return item

    assert list(map_batches_threaded(meet, range(13), torch.device("cuda"))) == list(range(13))
