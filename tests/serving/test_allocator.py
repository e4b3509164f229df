"""Memory stays with the server from one request to the next."""

import platform
import subprocess
import sys

import pytest

# Two threads that each take and free what an image of a megapixel needs, as the server's workers do.
FAULTS = """
import resource, sys, threading
if sys.argv[1] == "kept":
    from serving.allocator import keep_memory
    assert keep_memory()

def work(rounds):
    for _ in range(rounds):
        parts = [bytes(b"x") * size for size in (900_000, 640_000, 4_200_000, 3_100_000, 1_100_000)]
        del parts

def both(rounds):
    threads = [threading.Thread(target=work, args=(rounds,)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

both(20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
both(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_images_use_the_memory_of_those_before_them() -> None:
    assert page_faults("kept") < page_faults("default") / 4


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)
