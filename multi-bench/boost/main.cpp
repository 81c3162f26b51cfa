// Boost's part of the benchmark: boost::interprocess::message_queue between processes.
//
//     multi-bench-boost "stream pairs=1 bytes=8 cap=1024"
//     multi-bench-boost "ping pinned=0"
//
// It speaks as the Rust contenders do: {"ready":true}, then a sample for each line of standard input.

#include <algorithm>
#include <atomic>
#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sched.h>
#include <semaphore.h>
#include <sstream>
#include <string>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>

namespace ipc = boost::interprocess;
using Clock = std::chrono::steady_clock;
using Queue = ipc::message_queue;

[[noreturn]] static void fail(const char *why) {
    std::fprintf(stderr, "%s\n", why);
    _exit(1);
}

// What the processes share: the size of a lap, a semaphore for each worker to sleep on, one for their owner, and figures.
struct Board {
    std::atomic<std::uint64_t> count;
    sem_t go[16], done;
    double notes[3];
};

// Workers that stay between laps.
class Crew {
    ipc::mapped_region memory = ipc::anonymous_shared_memory(sizeof(Board));
    int size = 0;

  public:
    Board *board = new (memory.get_address()) Board{};

    Crew() { sem_init(&board->done, 1, 0); }

    void hire(const std::function<void(std::uint64_t)> &work) {
        sem_t *go = &board->go[size++];
        sem_init(go, 1, 0);
        pid_t parent = getpid();
        if (fork() != 0) return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        for (;;) {
            while (sem_wait(go) != 0) {}
            work(board->count);
            sem_post(&board->done);
        }
    }

    double lap(std::uint64_t count) {
        board->count = count;
        auto started = Clock::now();
        for (int worker = 0; worker < size; ++worker) sem_post(&board->go[worker]);
        for (int worker = 0; worker < size; ++worker) while (sem_wait(&board->done) != 0) {}
        return std::chrono::duration<double, std::nano>(Clock::now() - started).count();
    }
};

// A queue whose name is gone before anybody can collide with it.
static std::unique_ptr<Queue> queue(std::size_t slots, std::size_t bytes) {
    static int number = 0;
    std::string name = "multi-bench-" + std::to_string(getpid()) + "-" + std::to_string(number++);
    auto queue = std::make_unique<Queue>(ipc::create_only, name.c_str(), slots, bytes);
    Queue::remove(name.c_str());
    return queue;
}

// One end: every word of a message is written before it is sent, and read after it came.
struct End {
    Queue &queue;
    std::vector<std::uint64_t> message;

    End(Queue &queue, std::size_t bytes) : queue(queue), message(bytes / 8) {}

    void put(std::uint64_t number) {
        std::fill(message.begin(), message.end(), number);
        queue.send(message.data(), message.size() * 8, 0);
    }

    std::uint64_t take() {
        ipc::message_queue::size_type size;
        unsigned priority;
        queue.receive(message.data(), message.size() * 8, size, priority);
        std::uint64_t different = 0;
        for (std::uint64_t word : message) different |= word ^ message[0];
        if (different != 0 || size != message.size() * 8) fail("a message is torn");
        return message[0];
    }
};

using Job = std::map<std::string, std::uint64_t>;

static void answer(const std::function<void()> &sample) {
    std::puts("{\"ready\":true}");
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        sample();
        std::fflush(stdout);
    }
    // The workers die with us.
    _exit(0);
}

static void stream(Job job) {
    std::uint64_t pairs = job["pairs"], bytes = job["bytes"];
    auto channel = queue(job["cap"], bytes);
    Crew crew;
    for (std::uint64_t putter = 0; putter < pairs; ++putter) {
        crew.hire([&](std::uint64_t count) {
            End end(*channel, bytes);
            while (count-- > 0) end.take();
        });
        crew.hire([&, putter](std::uint64_t count) {
            End end(*channel, bytes);
            for (std::uint64_t index = 0; index < count; ++index) end.put(index << 3 | putter);
        });
    }
    double wanted = (job.count("ms") ? job["ms"] : 20) * 1e6, took;
    std::uint64_t count = 1;
    // A lap may have been held up: two have to agree.
    while ((took = std::min(crew.lap(count), crew.lap(count))) < wanted / 2) count *= 2;
    count = std::max<std::uint64_t>(1, count * wanted / took);
    answer([&] { std::printf("{\"ns\":%f}\n", crew.lap(count) / (count * pairs)); });
}

static void ping(Job job) {
    auto to = queue(1, 8), fro = queue(1, 8);
    Crew crew;
    crew.hire([&](std::uint64_t count) {
        End ping(*to, 8), pong(*fro, 8);
        while (count-- > 0) pong.put(ping.take());
    });
    crew.hire([&](std::uint64_t count) {
        End ping(*to, 8), pong(*fro, 8);
        std::vector<double> trips;
        auto started = Clock::now(), before = started;
        for (std::uint64_t trip = 0; trip < count; ++trip) {
            ping.put(trip);
            if (pong.take() != trip) fail("another message came back");
            auto now = Clock::now();
            trips.push_back(std::chrono::duration<double, std::nano>(now - before).count());
            before = now;
        }
        std::sort(trips.begin(), trips.end());
        crew.board->notes[0] = trips[count / 2];
        crew.board->notes[1] = trips[count * 99 / 100];
        crew.board->notes[2] =
            std::chrono::duration<double, std::nano>(before - started).count() / count;
    });
    std::uint64_t count = job.count("ms") ? 100 : 2000;
    crew.lap(count);
    answer([&] {
        crew.lap(count);
        double *notes = crew.board->notes;
        std::printf("{\"p50\":%f,\"p99\":%f,\"mean\":%f}\n", notes[0], notes[1], notes[2]);
    });
}

int main(int, char **arguments) {
    std::istringstream words(arguments[1]);
    std::string workload, word;
    words >> workload;
    Job job;
    while (words >> word) {
        auto at = word.find('=');
        job[word.substr(0, at)] = std::stoull(word.substr(at + 1));
    }
    if (job["pinned"] == 1) {
        cpu_set_t all, one;
        sched_getaffinity(0, sizeof all, &all);
        int last = CPU_SETSIZE - 1;
        while (!CPU_ISSET(last, &all)) --last;
        CPU_ZERO(&one);
        CPU_SET(last, &one);
        sched_setaffinity(0, sizeof one, &one);
    }
    workload == "ping" ? ping(job) : stream(job);
}
