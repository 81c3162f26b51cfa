"""Python's part of the benchmark: the queues of its multiprocessing package between processes.

    queues.py Queue|SimpleQueue "stream pairs=1 bytes=8 cap=1024"
    queues.py Queue|SimpleQueue "ping pinned=0"

It speaks as the Rust contenders do: {"ready":true}, then a sample for each line of standard input.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time

fork = multiprocessing.get_context("fork")


def queue(kind, slots):
    # A SimpleQueue has as much room as a pipe.
    return fork.Queue(slots) if kind == "Queue" else fork.SimpleQueue()


def message(number, size):
    return number.to_bytes(8, "little") * (size // 8)


def number(message):
    """Reads a message to its end."""
    first = message[:8]
    if message != first * (len(message) // 8):
        raise SystemExit("a message is torn")
    return int.from_bytes(first, "little")


class Crew:
    """Workers that stay between laps and are told by a pipe each how much to do."""

    def __init__(self, works):
        self.pipes, self.workers = [], []
        for work in works:
            here, there = fork.Pipe()
            worker = fork.Process(target=self.work, args=(work, there), daemon=True)
            worker.start()
            self.pipes.append(here)
            self.workers.append(worker)

    @staticmethod
    def work(work, pipe):
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        while True:
            pipe.send(work(pipe.recv()))

    def lap(self, count):
        started = time.perf_counter_ns()
        for pipe in self.pipes:
            pipe.send(count)
        notes = [pipe.recv() for pipe in self.pipes]
        return time.perf_counter_ns() - started, notes


def stream(kind, job):
    pairs, size = job["pairs"], job["bytes"]
    channel = queue(kind, job["cap"])

    def put(putter):
        def lap(count):
            for index in range(count):
                channel.put(message(index << 3 | putter, size))

        return lap

    def take(count):
        for _ in range(count):
            number(channel.get())

    crew = Crew([take] * pairs + [put(putter) for putter in range(pairs)])
    count, wanted = 1, job.get("ms", 20) * 1e6
    # A lap may have been held up: two have to agree.
    while (took := min(crew.lap(count)[0] for _ in range(2))) < wanted / 2:
        count *= 2
    count = max(1, int(count * wanted / took))

    def sample():
        took, _ = crew.lap(count)
        return {"ns": took / (count * pairs)}

    return sample


def ping(kind, job):
    to, fro = queue(kind, 1), queue(kind, 1)

    def serve(count):
        trips = []
        before = started = time.perf_counter_ns()
        for trip in range(count):
            to.put(message(trip, 8))
            if number(fro.get()) != trip:
                raise SystemExit("another message came back")
            now = time.perf_counter_ns()
            trips.append(now - before)
            before = now
        trips.sort()
        return {
            "p50": trips[count // 2],
            "p99": trips[count * 99 // 100],
            "mean": (before - started) / count,
        }

    def answer(count):
        for _ in range(count):
            fro.put(to.get())

    crew = Crew([answer, serve])
    count = 2000 if "ms" not in job else 100
    crew.lap(count // 10)
    return lambda: crew.lap(count)[1][1]


def main():
    kind, (workload, *numbers) = sys.argv[1], sys.argv[2].split()
    job = {name: int(value) for name, value in (pair.split("=") for pair in numbers)}
    if job.get("pinned"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sample = {"stream": stream, "ping": ping}[workload](kind, job)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(sample()), flush=True)


main()
