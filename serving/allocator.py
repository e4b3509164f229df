"""Memory that one request gives back is there for the next."""

import ctypes

# From glibc's malloc.h: memory free at the end of a heap that stays with the process, and the size from which an
# allocation is mapped and unmapped by itself (the largest that glibc takes). Larger images go back when they are done.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BYTES, MAPPED_BYTES = 256 << 20, 32 << 20


def keep_memory() -> bool:
    """Let glibc keep the memory of a decoded image for the next one.

    By default it may give the pages back after each image and take them again for the next: thousands of page
    faults a request, which can cost as much as the inference does.

    Returns:
        Whether the C library knows the setting; others than glibc manage their memory otherwise.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, MAPPED_BYTES))
