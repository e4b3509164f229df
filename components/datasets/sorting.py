"""Sorting more lines than fit into memory."""

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from components.errors import StorageError

RUN_BYTES = 16_000_000
_LENGTH = struct.Struct("<I")


def sorted_lines(lines: Iterable[bytes], run_bytes: int = RUN_BYTES) -> Iterator[bytes]:
    """Give byte strings in ascending order, with at most about ``run_bytes`` of them in memory.

    Longer inputs are sorted in runs, which wait in temporary files and are merged. The input is
    consumed whole before the first line comes out.

    Raises:
        StorageError: if the temporary folder has no space left.
    """
    runs = _sorted_runs(lines, run_bytes)
    first = next(runs, [])
    second = next(runs, None)
    if second is None:
        yield from first
        return
    files: list[IO[bytes]] = []
    try:
        files += [_spill(first), _spill(second)]
        del first, second
        files += [_spill(run) for run in runs]
        yield from heapq.merge(*map(_read_back, files))
    finally:
        for file in files:
            file.close()


def _sorted_runs(lines: Iterable[bytes], run_bytes: int) -> Iterator[list[bytes]]:
    run: list[bytes] = []
    held = 0
    for line in lines:
        run.append(line)
        held += len(line) + 50  # what Python keeps for each beside its bytes
        if held >= run_bytes:
            yield sorted(run)
            run, held = [], 0
    if run:
        yield sorted(run)


def _spill(run: list[bytes]) -> IO[bytes]:
    # No `with`: the file lives until the merge has read it, and closing it deletes it.
    file = tempfile.TemporaryFile(prefix="mscflow-sort-")  # noqa: SIM115
    try:
        file.writelines(_LENGTH.pack(len(line)) + line for line in run)
        file.seek(0)
    except OSError as error:
        file.close()
        folder = tempfile.gettempdir()
        raise StorageError(f"{folder}: {error.strerror}; free some space, or set TMPDIR to another folder") from error
    return file


def _read_back(file: IO[bytes]) -> Iterator[bytes]:
    while header := file.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(header)
        yield file.read(length)
