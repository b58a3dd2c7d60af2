"""What a request has freed, the next one finds: no page is asked for twice."""

import subprocess
import sys

import pytest

# A few megabytes in pieces, again and again: how many pages are touched for the first time?
REQUESTS = """
import resource

import numpy as np

{tell}
def request():
    pieces = [np.ones(3 << 20, np.uint8) for _ in range(4)]
    return sum(piece[-1] for piece in pieces)

for _ in range(5):
    request()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    request()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""
TELL = "from service.allocation import keep_freed_memory\nkeep_freed_memory()\n"
PAGES = (12 << 20) // 4096


def faults(tell: str) -> int:
    program = REQUESTS.format(tell=tell)
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is told")
def test_freed_memory_is_kept_for_the_next_request() -> None:
    assert faults("") > PAGES // 2
    assert faults(TELL) < PAGES // 100
