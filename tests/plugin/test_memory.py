"""Freed memory is used again, not given back to the kernel: told by the pages that the kernel has to fill."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is tuned")

PROGRAM = """
import resource, torch
from fairseq_seqvae.support.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(1 << 24)  # 64 MiB, more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults(), faults())
"""


def run(**variables) -> list[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment | variables
    )
    return result.stdout.split()


def test_large_blocks_are_used_again():
    before, done, _, after = run()
    assert done == "True" and int(after) < int(before) / 10


def test_the_settings_of_the_user_are_left_alone():
    before, done, _, after = run(MALLOC_ARENA_MAX="4")
    assert done == "False" and int(after) > int(before) / 2
