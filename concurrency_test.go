package lsr

import (
	"fmt"
	"hash/maphash"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// task is a call, the same every time: run returns a hash of all that it gave, to the bit.
type task struct {
	name string
	run  func() uint64
}

// soakFor is how long a soak takes: what the environment's LSR_SOAK says, or else a moment.
func soakFor(tb testing.TB) time.Duration {
	tb.Helper()
	if s := os.Getenv("LSR_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		require.NoError(tb, err, "LSR_SOAK")
		return d
	}
	if testing.Short() {
		return 300 * time.Millisecond
	}
	return 2 * time.Second
}

// soak runs tasks in any order on so many goroutines for a while, and reports the first whose bits are not those that it had
// alone. It returns how many calls there were.
func soak(d time.Duration, goroutines int, tasks []task) (int, error) {
	want := make([]uint64, len(tasks))
	for i := range tasks {
		want[i] = tasks[i].run()
	}
	var wg sync.WaitGroup
	var calls atomic.Int64
	var stop atomic.Bool
	errs := make(chan error, goroutines)
	for n := range goroutines {
		g := generator(n)
		wg.Go(func() {
			for !stop.Load() {
				i := g.intn(len(tasks))
				calls.Add(1)
				if tasks[i].run() != want[i] {
					errs <- fmt.Errorf("%s: not the bits that it has alone", tasks[i].name)
					stop.Store(true)
					return
				}
			}
		})
	}
	for end := time.Now().Add(d); !stop.Load() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	close(errs)
	return int(calls.Load()), <-errs
}

// stay reports goroutines beyond those there were, if they do not end within so many milliseconds.
func stay(before, patience int) error {
	for range patience {
		if runtime.NumGoroutine() <= before {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	return fmt.Errorf("%d goroutines, there were %d: %s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
}

var hashSeed = maphash.MakeSeed()

// hashOf hashes the bits of what a call gives.
func hashOf[T Element](r Result, err error, p PerRow, dst []T) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	maphash.WriteComparable(&h, [...]uint64{bits(r.Loss), bits(r.NLL), uint64(r.Rows), uint64(r.Ignored), uint64(r.Correct)})
	maphash.WriteComparable(&h, fmt.Sprint(err))
	for _, v := range append(p.Loss, p.LSE...) {
		maphash.WriteComparable(&h, bits(v))
	}
	if len(dst) != 0 {
		h.Write(unsafe.Slice((*byte)(base(dst)), len(dst)*int(unsafe.Sizeof(dst[0]))))
	}
	return h.Sum64()
}

// tasksOf are calls of all kinds and shapes with a criterion. Some are errors.
func tasksOf[T Element](g *generator, c *Criterion) (tasks []task) {
	for _, s := range []struct {
		rows int
		layout
	}{
		{2000, layout{2, 2, 1}}, {900, layout{10, 11, 1}}, {256, layout{10, 10, 64}}, {130, layout{37, 37, 1}}, {66, layout{19, 19, 33}},
		{700, layout{100, 100, 1}}, {8, layout{1000, 1000, 1}}, {90, layout{1000, 1003, 1}}, {9, layout{5000, 5000, 1}}, {17, layout{9000, 9000, 1}},
	} {
		x, y, d := g.rows(s.rows, s.classes, 9), g.targets(s.rows, s.classes), g.distributions(s.rows, s.classes)
		x[s.rows-1][0], x[0][s.classes-1], y[s.rows/2] = nan, negInf, -100
		logits, targets := pack[T](x, s.layout), pack[T](d, s.layout)
		wrong := slices.Clone(y)
		wrong[s.rows-1] = int64(s.classes)
		for name, call := range map[string]func(dst Batch[T], p PerRow) (Result, error){
			"Forward":       func(dst Batch[T], p PerRow) (Result, error) { return Forward(c, logits, y, p) },
			"Grad":          func(dst Batch[T], p PerRow) (Result, error) { return Grad(c, dst, logits, y, p) },
			"Grad in place": func(dst Batch[T], p PerRow) (Result, error) { return Grad(c, dst, dst, y, p) },
			"ForwardDist":   func(dst Batch[T], p PerRow) (Result, error) { return ForwardDist(c, logits, targets, p) },
			"GradDist":      func(dst Batch[T], p PerRow) (Result, error) { return GradDist(c, dst, logits, targets, p) },
			"wrong target":  func(dst Batch[T], p PerRow) (Result, error) { return Grad(c, dst, logits, wrong, p) },
			"wrong memory":  func(dst Batch[T], p PerRow) (Result, error) { return GradDist(c, dst, logits, dst, p) },
		} {
			tasks = append(tasks, task{fmt.Sprintf("%T %s %+v", *new(T), name, s), func() uint64 {
				dst := Batch[T]{slices.Clone(logits.Data), s.classes, s.stride, s.inner}
				p := PerRow{Loss: make([]float64, s.rows), LSE: make([]float64, s.rows)}
				r, err := call(dst, p)
				return hashOf(r, err, p, dst.Data)
			}})
		}
	}
	return tasks
}

// TestConcurrency uses one criterion from 64 goroutines, for all types and shapes at once, beside calls that are errors. For
// a minute: LSR_SOAK=60s go test -run Concurrency .
func TestConcurrency(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, options := range map[string][]Option{"plain": {ZLoss(.01)}, "mask": {MaskNegInf()}} {
		t.Run(name, func(t *testing.T) {
			c := criterion(t, append(options, Smoothing(.1), IgnoreIndex(-100), Top1(), Workers(4))...)
			g := generator(51)
			tasks := slices.Concat(tasksOf[float32](&g, c), tasksOf[float64](&g, c), tasksOf[Float16](&g, c), tasksOf[BFloat16](&g, c))
			calls, err := soak(soakFor(t)/2, 64, tasks)
			require.NoError(t, err)
			t.Logf("%d calls", calls)
		})
	}
	require.NoError(t, stay(before, 1000))
}

// TestConcurrencyNotices plants what the tests of this file must notice.
func TestConcurrencyNotices(t *testing.T) {
	t.Run("memory in common", func(t *testing.T) {
		var shared atomic.Uint64
		tasks := make([]task, 2)
		for i := range tasks {
			tasks[i] = task{fmt.Sprint(i), func() uint64 {
				shared.Store(uint64(i))
				runtime.Gosched()
				return shared.Load()
			}}
		}
		_, err := soak(10*time.Second, 64, tasks)
		require.Error(t, err)
		_, err = soak(time.Millisecond, 64, tasks[:1])
		require.NoError(t, err)
	})
	t.Run("every bit", func(t *testing.T) {
		p := PerRow{Loss: []float64{1}, LSE: []float64{2}}
		hashes := []uint64{
			hashOf(Result{}, nil, p, []float32{1}), hashOf(Result{}, nil, p, []float32{1 + 0x1p-23}), hashOf(Result{Loss: 1}, nil, p, []float32{1}),
			hashOf(Result{}, fmt.Errorf("wrong"), p, []float32{1}), hashOf(Result{}, nil, PerRow{Loss: []float64{1}, LSE: []float64{3}}, []float32{1}),
		}
		slices.Sort(hashes)
		require.Len(t, slices.Compact(hashes), 5)
	})
	t.Run("goroutine", func(t *testing.T) {
		before, end := runtime.NumGoroutine(), make(chan bool) // some of those may be about to end
		for range 100 {
			go func() { <-end }()
		}
		require.Error(t, stay(before, 20))
		close(end)
		require.NoError(t, stay(before, 1000))
	})
}

// TestWorkersForget runs jobs of two kinds one after the other, with the same worker. Its memory keeps what all rows of a job have
// in common; the second job must not notice.
func TestWorkersForget(t *testing.T) {
	const classes, rows = 21, 40
	g := generator(36)
	x, y, d := g.rows(rows, classes, 3), g.targets(rows, classes), g.distributions(rows, classes)
	x[3][5], y[7] = negInf, 3
	weights := g.rows(1, classes, 1)[0]
	for k := range weights {
		weights[k] = math.Abs(weights[k])
	}
	jobs := map[string]struct {
		options []Option
		targets [][]float64
		rows    int
		up      []float64
	}{
		"plain":         {rows: rows},
		"other ε":       {options: []Option{Smoothing(.2)}, rows: rows},
		"fewer rows":    {rows: 9},
		"prior":         {options: []Option{Prior(d[0])}, rows: rows},
		"weights":       {options: []Option{Weights(weights)}, rows: rows},
		"masks":         {options: []Option{MaskNegInf()}, rows: rows},
		"ignored":       {options: []Option{IgnoreIndex(3)}, rows: rows},
		"upstream":      {rows: rows, up: g.rows(1, rows, 1)[0]},
		"one upstream":  {rows: rows, up: []float64{-2}},
		"distributions": {rows: rows, targets: d},
	}
	for _, kernel := range Kernels() {
		run := func(name string) outcome {
			j := jobs[name]
			c := criterion(t, append([]Option{Workers(1), Smoothing(.1), Kernel(kernel)}, j.options...)...)
			return compute[float32](t, c, x[:j.rows], y[:j.rows], j.targets, j.up, contiguous(classes))
		}
		for second := range jobs {
			workers[kindOf[float32]()] = sync.Pool{}
			want := run(second)
			for first := range jobs {
				workers[kindOf[float32]()] = sync.Pool{}
				run(first)
				same(t, want, run(second), fmt.Sprintf("%s: %s after %s", kernel, second, first))
			}
		}
	}
}
