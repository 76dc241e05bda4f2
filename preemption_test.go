package lsr

import (
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/coef"
)

// A goroutine cannot be stopped inside of a kernel: the garbage collector waits for its end. These benchmarks say how long
// that is: go test -run '^$' -bench Preemption -benchtime 1x .

// maxStop is how long the garbage collector may have to wait.
const maxStop = 2 * time.Millisecond

// quickest is the least time of several calls of a kernel: what it takes when the machine does nothing else.
func quickest(k kernel, a *args) time.Duration {
	least := time.Duration(math.MaxInt64)
	for range 10 {
		start := time.Now()
		k.call(a)
		least = min(least, time.Since(start))
	}
	return least
}

// BenchmarkPreemptionKernels prints the longest single call of a kernel: no call has more than a chunk of rows, or of a longer
// row no more segments than segmentRows. A fold has all of a row's segments, here of 2^20 classes.
func BenchmarkPreemptionKernels(b *testing.B) {
	for b.Loop() {
		var longest time.Duration
		var name string
		for _, k := range callable(b) {
			for _, n := range k.sizes(1, 2, 10, 64, 200, 256, 512, 1000, coef.Segment, coef.Long) {
				rows := rowsOfClasses[float32](n)
				if k.double() {
					rows = rowsOfClasses[float64](n)
				}
				rows = max(16, rows&^15)
				switch {
				case k.op == opFold:
					rows, n = 16, 1<<20
				case n == coef.Segment:
					rows = segmentRows
				}
				a := kernelArgs(b, k, rows, n)
				if k.op == opFold {
					a.folds, a.blocks = n/coef.Segment, a.rowBlocks*coef.Segment/n
				}
				if took := quickest(k, a); took > longest {
					longest, name = took, k.name
				}
			}
		}
		b.Logf("longest call of a kernel: %v (%s)", longest, name)
		b.ReportMetric(float64(longest.Nanoseconds()), "ns/longest-call")
		if longest > maxStop {
			b.Errorf("%s: %v in one call", name, longest)
		}
	}
}

// stops collects garbage so often while every CPU has a loop of what f makes, and returns the 99th percentiles of how long it took to
// stop all goroutines, and of how long they stood.
func stops(collections int, f func() func()) (stopping, total time.Duration) {
	samples := []metrics.Sample{{Name: "/sched/pauses/stopping/gc:seconds"}, {Name: "/sched/pauses/total/gc:seconds"}}
	read := func() (h [2]metrics.Float64Histogram) {
		metrics.Read(samples)
		for i := range h {
			h[i] = *samples[i].Value.Float64Histogram()
			h[i].Counts = append([]uint64(nil), h[i].Counts...) // Read reuses them
		}
		return h
	}
	var end atomic.Bool
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for call := f(); !end.Load(); {
				call()
			}
		})
	}
	time.Sleep(10 * time.Millisecond)
	before := read()
	for range collections {
		runtime.GC()
	}
	after := read()
	end.Store(true)
	wg.Wait()
	var p [2]time.Duration
	for i := range p {
		for j := range after[i].Counts {
			after[i].Counts[j] -= before[i].Counts[j]
		}
		p[i] = percentile(&after[i], .99)
	}
	return p[0], p[1]
}

// percentile is the upper end of the bucket that has it.
func percentile(h *metrics.Float64Histogram, share float64) time.Duration {
	all, sum := uint64(0), uint64(0)
	for _, n := range h.Counts {
		all += n
	}
	for i, n := range h.Counts {
		if sum += n; float64(sum) >= share*float64(all) {
			s := h.Buckets[i+1]
			if math.IsInf(s, 1) {
				s = h.Buckets[i]
			}
			return time.Duration(s * 1e9)
		}
	}
	return 0
}

// BenchmarkPreemptionGC prints how long the garbage collector waits under a loop of large calls.
func BenchmarkPreemptionGC(b *testing.B) {
	for _, shape := range [][2]int{{4096, 10}, {1024, 1000}, {64, 32000}, {1, 1 << 20}} {
		rows, classes := shape[0], shape[1]
		b.Run(fmt.Sprintf("K=%d", classes), func(b *testing.B) {
			logits, targets := normal(rows, classes)
			c, x := criterion(b, Smoothing(.1)), Rows(logits, classes)
			for b.Loop() {
				stopping, total := stops(100, func() func() {
					dst := Rows(make([]float32, len(logits)), classes)
					return func() { _, _ = Grad(c, dst, x, targets) }
				})
				b.ReportMetric(float64(stopping.Nanoseconds()), "ns/p99-stopping")
				b.ReportMetric(float64(total.Nanoseconds()), "ns/p99-stopped")
				if stopping > maxStop || total > maxStop {
					b.Errorf("the garbage collector waits for %v, and all stand for %v", stopping, total)
				}
			}
		})
	}
}

// TestPreemptionNotices plants a kernel's call that takes too long.
func TestPreemptionNotices(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: that too long a call would be noticed")
	}
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("NOT TESTED: on one CPU, the garbage collector's turn comes after a call, and it never waits for one")
	}
	ks := callable(t)
	k := ks[slices.IndexFunc(ks, func(k kernel) bool { return k.op == opMax && k.element == float32Kind })]
	a := kernelArgs(t, k, maxSlots, 1)
	a.xStride = 0 // one long row, again and again
	for quickest(k, a) < 2*maxStop {
		a.n *= 2
		a.x = base(make([]float32, a.n))
	}
	stopping, _ := stops(5, func() func() {
		own := *a
		return func() { k.call(&own) }
	})
	require.Greater(t, stopping, maxStop, k.name)
}
