"""Work spread over processes, in order, ending with the process that asked for it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

from components.errors import MscflowError

# Starting processes costs about a second; less work than this is done in the caller's own.
TASKS_WORTH_PROCESSES = 60

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(function: Callable[[Task], Result], tasks: Sequence[Task], processes: int | None) -> Iterator[Result]:
    """Apply a function to tasks, several at a time, and give the results in the tasks' order.

    Args:
        function: Importable by name, or a partial of such a function.
        tasks: What it is applied to.
        processes: How many work; 1 works in this process, None takes one a core for many tasks.

    Raises:
        MscflowError: if a process died.
    """
    if processes is None:
        processes = (os.cpu_count() or 1) if len(tasks) >= TASKS_WORTH_PROCESSES else 1
    if processes == 1:
        yield from map(function, tasks)
        return
    # Forking is unsafe beside the threads that a caller may have.
    context = multiprocessing.get_context("spawn")
    watched, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(processes, len(tasks)), context, initializer=_hang_on_lifeline, initargs=(watched,))
    try:
        yield from pool.map(function, tasks, chunksize=4)
        pool.shutdown()
    except BrokenProcessPool as error:
        raise MscflowError(
            "a process that draws images died: memory may have run out, or the main module cannot be imported; "
            "try again with processes=1"
        ) from error
    finally:
        # Ends processes that still work at once; a second Ctrl-C may break off the waiting, not this.
        lifeline.close()
        pool.shutdown(cancel_futures=True)
        watched.close()


def _hang_on_lifeline(watched: Connection) -> None:
    """Leave Ctrl-C to the parent, and end when its end of the pipe closes, even because it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_lifeline, args=(watched,), daemon=True).start()


def _end_with_lifeline(watched: Connection) -> None:
    watched.poll(None)
    os._exit(1)
