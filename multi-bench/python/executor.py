"""Python's part of the benchmark: its concurrent.futures.ProcessPoolExecutor, whose workers are forked.

    executor.py "ping pinned=0"
    executor.py "jobs us=100 workers=2"

It speaks as the Rust contenders do: {"ready":true}, then a sample for each line of standard input.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def die_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def pool(workers):
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, fork, initializer=die_with_parent)


def same(number):
    return number


def burn(us):
    until = time.perf_counter_ns() + 1000 * us
    while time.perf_counter_ns() < until:
        pass


def ping(job):
    worker = pool(1)
    count = 20 if "ms" in job else 200

    def sample():
        trips = []
        before = started = time.perf_counter_ns()
        for trip in range(count):
            if worker.submit(same, trip).result() != trip:
                raise SystemExit("another number came back")
            now = time.perf_counter_ns()
            trips.append(now - before)
            before = now
        trips.sort()
        return {
            "p50": trips[count // 2],
            "p99": trips[count * 99 // 100],
            "mean": (before - started) / count,
        }

    sample()
    return sample


def jobs(job):
    workers = pool(job["workers"])

    def lap(count):
        started = time.perf_counter_ns()
        for _ in workers.map(burn, [job["us"]] * count):
            pass
        return time.perf_counter_ns() - started

    count, wanted = 1, job.get("ms", 20) * 1e6
    # A lap may have been held up: two have to agree.
    while (took := min(lap(count) for _ in range(2))) < wanted / 2:
        count *= 2
    count = max(1, int(count * wanted / took))
    return lambda: {"ns": lap(count) / count}


def main():
    workload, *numbers = sys.argv[1].split()
    job = {name: int(value) for name, value in (pair.split("=") for pair in numbers)}
    if job.get("pinned"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sample = {"ping": ping, "jobs": jobs}[workload](job)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(sample()), flush=True)


main()
