// The same work as the contenders in src/peers, in Go. It speaks the protocol of src/serve.rs: one JSON line when it is warm, then one
// for each line that it reads.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type job struct {
	workload string
	numbers  map[string]int
}

// A number of the job; without it there is nothing to do.
func (j job) number(name string) int {
	number, ok := j.numbers[name]
	if !ok {
		cannot(j.workload + " needs " + name + "=NUMBER")
	}
	return number
}

// A loop of about so many operations returns how many it was and what they took.
type loop func(operations int) (int, time.Duration)

// Something whose size the job fixes returns its figures.
type once func() map[string]float64

func main() {
	if len(os.Args) != 2 {
		cannot("one argument, please: a workload and its numbers")
	}
	j := parse(os.Args[1])
	if workers, ok := j.numbers["workers"]; ok {
		runtime.GOMAXPROCS(workers)
	}
	serve(sampler(j))
}

func parse(text string) job {
	words := strings.Fields(text)
	if len(words) == 0 {
		cannot("no workload")
	}
	j := job{words[0], map[string]int{}}
	for _, word := range words[1:] {
		name, number, _ := strings.Cut(word, "=")
		value, err := strconv.Atoi(number)
		if err != nil {
			cannot(word + " is not name=NUMBER")
		}
		j.numbers[name] = value
	}
	return j
}

func serve(sample func() map[string]float64) {
	say(map[string]bool{"ready": true})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		say(sample())
	}
}

func say(answer any) {
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func cannot(why string) {
	say(map[string]string{"cannot": why})
	os.Exit(0)
}

func sampler(j job) func() map[string]float64 {
	switch j.workload {
	case "yield":
		return warm(j, yields(j.number("tasks")))
	case "start":
		return warm(j, start(j.number("tasks"), false))
	case "start-locked":
		return warm(j, start(j.number("tasks"), true))
	case "pingpong":
		return warm(j, roundTrips(false, false))
	case "server":
		return warm(j, roundTrips(true, j.number("locked") == 1))
	case "stream":
		return warm(j, stream(j.number("pairs"), j.number("cap")))
	case "select":
		return warm(j, selects(j.number("cases")))
	case "calls":
		return warm(j, calls(j.number("n")))
	case "pipeline":
		return pipeline(j.number("stages"))
	case "parked":
		return parked(j.number("tasks"))
	case "skew":
		return skew(j.number("tasks"), j.number("units"), j.number("workers"))
	case "sweep":
		return sweep(j.number("tasks"), j.number("units"))
	case "sum":
		return sum(j.number("tasks"), j.number("numbers"))
	case "blocking":
		return blocking(j.number("tasks"), time.Duration(j.number("pause_ms"))*time.Millisecond)
	case "timers":
		return timers(j.number("tasks"), j.number("rounds"))
	case "ticker", "ticker-locked":
		hogs := time.Duration(j.number("hog_ms")) * time.Millisecond
		return ticker(j.number("workers"), hogs, j.workload == "ticker-locked")
	case "begin-beside-hogs":
		return begin(j.number("workers"), time.Duration(j.number("hog_ms"))*time.Millisecond)
	}
	cannot("Go has nothing for " + j.workload)
	return nil
}

// Finds out how many operations fill a sample by doubling, which warms everything up, too.
func warm(j job, work loop) func() map[string]float64 {
	sample := 20 * time.Millisecond
	if ms, ok := j.numbers["ms"]; ok {
		sample = time.Duration(ms) * time.Millisecond
	}
	operations := 1
	for {
		done, took := work(operations)
		if took >= sample/2 {
			operations = max(1, int(float64(done)*float64(sample)/float64(took)))
			break
		}
		operations = max(done, operations) * 2
	}
	return func() map[string]float64 {
		done, took := work(operations)
		return map[string]float64{"ns": each(took, done)}
	}
}

func each(took time.Duration, count int) float64 {
	return float64(took.Nanoseconds()) / float64(count)
}

func yields(tasks int) loop {
	return func(operations int) (int, time.Duration) {
		times := (operations + tasks - 1) / tasks
		var group sync.WaitGroup
		started := time.Now()
		group.Add(tasks)
		for i := 0; i < tasks; i++ {
			go func() {
				defer group.Done()
				for i := 0; i < times; i++ {
					runtime.Gosched()
				}
			}()
		}
		group.Wait()
		return times * tasks, time.Since(started)
	}
}

func start(tasks int, locked bool) loop {
	empty := func(group *sync.WaitGroup) { group.Done() }
	if locked {
		// Without an unlock the thread ends with its goroutine.
		empty = func(group *sync.WaitGroup) {
			runtime.LockOSThread()
			group.Done()
		}
	}
	return func(operations int) (int, time.Duration) {
		groups := max(operations/tasks, 1)
		started := time.Now()
		for i := 0; i < groups; i++ {
			var group sync.WaitGroup
			group.Add(tasks)
			for k := 0; k < tasks; k++ {
				go empty(&group)
			}
			group.Wait()
		}
		return groups * tasks, time.Since(started)
	}
}

func roundTrips(serverLocked, clientLocked bool) loop {
	return func(operations int) (int, time.Duration) {
		var took time.Duration
		var client sync.WaitGroup
		client.Add(1)
		go func() {
			defer client.Done()
			if clientLocked {
				runtime.LockOSThread()
			}
			ping, pong := make(chan int), make(chan int)
			started := time.Now()
			go func() {
				if serverLocked {
					runtime.LockOSThread()
				}
				for value := range ping {
					pong <- value
				}
			}()
			for value := 0; value < operations; value++ {
				ping <- value
				if <-pong != value {
					panic("another value came back")
				}
			}
			close(ping)
			took = time.Since(started)
		}()
		client.Wait()
		return operations, took
	}
}

func stream(pairs, capacity int) loop {
	return func(operations int) (int, time.Duration) {
		messages := (operations + pairs - 1) / pairs
		channel := make(chan int, capacity)
		var group sync.WaitGroup
		started := time.Now()
		group.Add(2 * pairs)
		for i := 0; i < pairs; i++ {
			go func() {
				defer group.Done()
				for message := 0; message < messages; message++ {
					channel <- message
				}
			}()
			go func() {
				defer group.Done()
				for k := 0; k < messages; k++ {
					<-channel
				}
			}()
		}
		group.Wait()
		return messages * pairs, time.Since(started)
	}
}

func selects(cases int) loop {
	var one func(from []chan int)
	switch cases {
	case 2:
		one = func(c []chan int) {
			select {
			case <-c[0]:
			case <-c[1]:
			}
		}
	case 4:
		one = func(c []chan int) {
			select {
			case <-c[0]:
			case <-c[1]:
			case <-c[2]:
			case <-c[3]:
			}
		}
	case 8:
		one = func(c []chan int) {
			select {
			case <-c[0]:
			case <-c[1]:
			case <-c[2]:
			case <-c[3]:
			case <-c[4]:
			case <-c[5]:
			case <-c[6]:
			case <-c[7]:
			}
		}
	default:
		cannot("no select with so many cases is written")
	}
	return func(operations int) (int, time.Duration) {
		messages := (operations + cases - 1) / cases
		channels := make([]chan int, cases)
		started := time.Now()
		for i := range channels {
			channel := make(chan int)
			channels[i] = channel
			go func() {
				for message := 0; message < messages; message++ {
					channel <- message
				}
			}()
		}
		for i := 0; i < messages*cases; i++ {
			one(channels)
		}
		return messages * cases, time.Since(started)
	}
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	one := make(chan int, 1)
	go func() { one <- fib(n - 1) }()
	two := fib(n - 2)
	return <-one + two
}

func fibCalls(n int) int {
	if n < 2 {
		return 1
	}
	return 1 + fibCalls(n-1) + fibCalls(n-2)
}

func calls(n int) loop {
	return func(int) (int, time.Duration) {
		started := time.Now()
		fib(n)
		return fibCalls(n), time.Since(started)
	}
}

func rss() int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		cannot(err.Error())
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		cannot(err.Error())
	}
	return pages * 4096
}

func bytesEach(before, count int) float64 {
	return float64(max(0, rss()-before)) / float64(count)
}

// roll tells when so many goroutines have come to a place.
type roll struct {
	missing atomic.Int64
	full    chan struct{}
}

func newRoll(count int) *roll {
	r := &roll{full: make(chan struct{})}
	r.missing.Store(int64(count))
	return r
}

func (r *roll) here() {
	if r.missing.Add(-1) == 0 {
		close(r.full)
	}
}

func pipeline(stages int) once {
	return func() map[string]float64 {
		before := rss()
		all := newRoll(stages)
		first := make(chan int)
		from := first
		started := time.Now()
		for i := 0; i < stages; i++ {
			to := make(chan int)
			go func(from, to chan int) {
				all.here()
				for value := range from {
					to <- value + 1
				}
				close(to)
			}(from, to)
			from = to
		}
		<-all.full
		create := each(time.Since(started), stages)
		bytes := bytesEach(before, stages)
		started = time.Now()
		const passes = 3
		for i := 0; i < passes; i++ {
			first <- 0
			if <-from != stages {
				panic("a stage is missing")
			}
		}
		transit := each(time.Since(started), passes*stages)
		close(first)
		<-from
		return map[string]float64{"create": create, "transit": transit, "bytes": bytes}
	}
}

func parked(tasks int) once {
	return func() map[string]float64 {
		before := rss()
		all := newRoll(tasks)
		gate := make(chan struct{})
		var group sync.WaitGroup
		started := time.Now()
		for i := 0; i < tasks; i++ {
			group.Add(1)
			go func() {
				all.here()
				<-gate
				group.Done()
			}()
		}
		<-all.full
		create := each(time.Since(started), tasks)
		bytes := bytesEach(before, tasks)
		started = time.Now()
		close(gate)
		group.Wait()
		return map[string]float64{"create": create, "finish": each(time.Since(started), tasks), "bytes": bytes}
	}
}

var sink atomic.Uint64

func spin(units int) {
	state := uint64(0x9E3779B97F4A7C15)
	for i := 0; i < units; i++ {
		state ^= state >> 12
		state ^= state << 25
		state ^= state >> 27
	}
	sink.Store(state)
}

func skewed(task, tasks, units int) int {
	rank := (task*379)%tasks + 1
	harmonic := math.Log(float64(tasks)) + 0.577
	return int(float64(units) / harmonic / float64(rank))
}

func skew(tasks, units, workers int) once {
	return func() map[string]float64 {
		started := time.Now()
		for task := 0; task < tasks; task++ {
			spin(skewed(task, tasks, units))
		}
		ideal := float64(time.Since(started)) / float64(workers)
		var group sync.WaitGroup
		started = time.Now()
		for task := 0; task < tasks; task++ {
			group.Add(1)
			go func(task int) {
				defer group.Done()
				spin(skewed(task, tasks, units))
			}(task)
		}
		group.Wait()
		return map[string]float64{"ideal": float64(time.Since(started)) / ideal}
	}
}

func sweep(tasks, units int) once {
	return func() map[string]float64 {
		var group sync.WaitGroup
		started := time.Now()
		for i := 0; i < tasks; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				spin(units / tasks)
			}()
		}
		group.Wait()
		return map[string]float64{"total": float64(time.Since(started))}
	}
}

// The seed's benchmark: workers that add up random numbers of xorshift64*.
func sum(tasks, numbers int) once {
	return func() map[string]float64 {
		var group sync.WaitGroup
		started := time.Now()
		for task := 0; task < tasks; task++ {
			group.Add(1)
			go func(task int) {
				defer group.Done()
				state := uint64(task+1)*0x9E3779B97F4A7C15 | 1
				total := uint64(0)
				for i := 0; i < numbers; i++ {
					state ^= state >> 12
					state ^= state << 25
					state ^= state >> 27
					total += state * 0x2545F4914F6CDD1D
				}
				sink.Store(total)
			}(task)
		}
		group.Wait()
		return map[string]float64{"total": float64(time.Since(started))}
	}
}

// A system call that blocks its thread: time.Sleep would park the goroutine.
func blocking(tasks int, pause time.Duration) once {
	return func() map[string]float64 {
		var group sync.WaitGroup
		started := time.Now()
		for i := 0; i < tasks; i++ {
			group.Add(1)
			go func() {
				defer group.Done()
				left := syscall.NsecToTimespec(pause.Nanoseconds())
				// Pre-emption's signals interrupt it.
				for syscall.Nanosleep(&left, &left) == syscall.EINTR {
				}
			}()
		}
		group.Wait()
		total := float64(time.Since(started))
		return map[string]float64{"total": total, "threads": float64(threads())}
	}
}

func threads() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		cannot(err.Error())
	}
	_, rest, _ := strings.Cut(string(status), "Threads:")
	count, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		cannot(err.Error())
	}
	return count
}

func nap(task, round int) time.Duration {
	state := uint64(task*1000+round+1) * 0x9E3779B97F4A7C15
	state ^= state >> 32
	return time.Duration(500+state%19500) * time.Microsecond
}

func timers(tasks, rounds int) once {
	return func() map[string]float64 {
		all := make([]time.Duration, tasks*rounds)
		var group sync.WaitGroup
		for task := 0; task < tasks; task++ {
			group.Add(1)
			go func(task int) {
				defer group.Done()
				for round := 0; round < rounds; round++ {
					pause := nap(task, round)
					asleep := time.Now()
					time.Sleep(pause)
					all[task*rounds+round] = max(0, time.Since(asleep)-pause)
				}
			}(task)
		}
		group.Wait()
		sort.Slice(all, func(i, k int) bool { return all[i] < all[k] })
		at := func(part float64) float64 { return float64(all[int(part*float64(len(all)-1))]) }
		return map[string]float64{"p50": at(0.5), "p99": at(0.99), "max": at(1)}
	}
}

// Returns when every P has a goroutine that computes and never lets go.
func hogs(workers int, long time.Duration, group *sync.WaitGroup) {
	all := newRoll(workers)
	for i := 0; i < workers; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			all.here()
			for begun := time.Now(); time.Since(begun) < long; {
				spin(1000)
			}
		}()
	}
	<-all.full
}

const period = 5 * time.Millisecond

func ticker(workers int, long time.Duration, locked bool) once {
	return func() map[string]float64 {
		var group sync.WaitGroup
		ready, late := make(chan struct{}), make(chan time.Duration, 1)
		go func() {
			if locked {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
			}
			close(ready)
			worst := time.Duration(0)
			for begun := time.Now(); time.Since(begun) < long; {
				before := time.Now()
				time.Sleep(period)
				worst = max(worst, time.Since(before)-period)
			}
			late <- worst
		}()
		<-ready
		hogs(workers, long, &group)
		worst := <-late
		group.Wait()
		return map[string]float64{"late": float64(worst)}
	}
}

func begin(workers int, long time.Duration) once {
	return func() map[string]float64 {
		var group sync.WaitGroup
		hogs(workers, long, &group)
		begun := make(chan time.Duration, 1)
		started := time.Now()
		go func() { begun <- time.Since(started) }()
		late := <-begun
		group.Wait()
		return map[string]float64{"late": float64(late)}
	}
}
