import random
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets import sorting
from components.datasets.sorting import sorted_lines
from components.errors import StorageError


@given(st.lists(st.binary(max_size=12)))
def test_lines_come_out_in_order(lines: list[bytes]) -> None:
    assert list(sorted_lines(iter(lines))) == sorted(lines)


def test_more_than_memory_may_hold_is_sorted_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_BYTES", 10_000)
    lines = [b"%d\n\0" % number for number in range(5000)]
    shuffled = random.Random(0).sample(lines, len(lines))
    assert list(sorted_lines(iter(shuffled))) == sorted(lines)


def test_a_temporary_folder_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_BYTES", 10)
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    with pytest.raises(StorageError, match=r"/no/such/folder: .*set TMPDIR"):
        list(sorted_lines([b"a", b"b"]))
