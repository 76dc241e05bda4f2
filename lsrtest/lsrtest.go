// Package lsrtest tests kernels of package lsr: those that go generate has made for a class count of one's own. The tests
// that it writes call this package.
package lsrtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/golsr/lsr"
)

// convert rounds a number to an element.
func convert[T lsr.Element](v float64) T {
	switch p := any(new(T)).(type) {
	case *float32:
		*p = float32(v)
		return any(*p).(T)
	case *float64:
		*p = v
		return any(*p).(T)
	case *lsr.Float16:
		*p = lsr.ToFloat16(float32(v))
		return any(*p).(T)
	case *lsr.BFloat16:
		*p = lsr.ToBFloat16(float32(v))
		return any(*p).(T)
	}
	panic("unreachable")
}

// bits are those of an element; all NaN are the same.
func bits[T lsr.Element](v T) uint64 {
	f := 0.0
	switch v := any(v).(type) {
	case float32:
		f = float64(v)
	case float64:
		f = v
	case lsr.Float16:
		f = float64(v.Float32())
	case lsr.BFloat16:
		f = float64(v.Float32())
	}
	if f != f {
		f = math.NaN()
	}
	return math.Float64bits(f)
}

// problem is a batch and its options.
type problem[T lsr.Element] struct {
	classes, stride int
	logits, dist    []T
	targets         []int
	options         []lsr.Option
}

// outcome is all bits that calls in both layouts give, with both kinds of target.
func (p *problem[T]) outcome(tb testing.TB, kernel string) (out []uint64) {
	tb.Helper()
	c, err := lsr.New(append(slices.Clone(p.options), lsr.Kernel(kernel), lsr.IgnoreIndex(-1))...)
	if err != nil {
		tb.Fatal(err)
	}
	rows := len(p.targets)
	spoil, err := lsr.New(append(slices.Clone(p.options), lsr.Kernel("go"))...)
	if err != nil {
		tb.Fatal(err)
	}
	nan := slices.Repeat([]T{convert[T](math.NaN())}, len(p.logits))
	// The rows as they lie, and the same numbers with the class axis before all positions.
	layouts := []func(data []T) lsr.Batch[T]{
		func(data []T) lsr.Batch[T] { return lsr.RowsStride(data, p.classes, p.stride) },
		func(data []T) lsr.Batch[T] { return lsr.Planes(data[:rows*p.classes], p.classes, max(rows, 1)) },
	}
	for i := range 2 * len(layouts) {
		dist, layout := i%2 == 1, layouts[i/2]
		per := lsr.PerRow{Loss: make([]float64, rows), LSE: make([]float64, rows)}
		dst := slices.Clone(p.logits) // in place
		g, x := layout(dst), layout(p.logits)
		var forward, both lsr.Result
		var errs [2]error
		// A kernel that writes nothing must not find the right sums in memory that is used again.
		if _, err := lsr.GradDist(spoil, layout(slices.Clone(nan)), layout(nan), layout(nan)); err != nil {
			tb.Fatal(err)
		}
		if dist {
			t := layout(p.dist)
			forward, errs[0] = lsr.ForwardDist(c, x, t)
			both, errs[1] = lsr.GradDist(c, g, g, t, per)
		} else {
			forward, errs[0] = lsr.Forward(c, x, p.targets)
			both, errs[1] = lsr.Grad(c, g, g, p.targets, per)
		}
		for _, err := range errs {
			if err != nil {
				tb.Fatal(err)
			}
		}
		for _, v := range append(append(per.Loss, per.LSE...), forward.Loss, both.Loss, both.NLL) {
			out = append(out, bits(v))
		}
		for _, v := range dst {
			out = append(out, bits(v))
		}
	}
	return out
}

// exact compares every kernel with plain Go, to the bit.
func (p *problem[T]) exact(tb testing.TB) {
	tb.Helper()
	want := p.outcome(tb, "go")
	for _, kernel := range lsr.Kernels() {
		for i, v := range p.outcome(tb, kernel) {
			if v != want[i] {
				tb.Fatalf("%s, %d classes: number %d is %x, plain Go gives %x\nlogits %v\ntargets %v", kernel, p.classes, i, v, want[i], p.logits, p.targets)
			}
		}
	}
}

// draw makes a problem from a generator of numbers.
func draw[T lsr.Element](classes, rows int, special bool, g *rand.Rand) *problem[T] {
	p := &problem[T]{classes: classes, stride: classes + g.IntN(3)}
	scale := []float64{1, 5, 60}[g.IntN(3)]
	for range rows * p.stride {
		v := g.NormFloat64() * scale
		if special && g.IntN(4*classes) == 0 {
			v = []float64{math.Inf(-1), math.Inf(1), math.NaN(), -1e9, 1e4}[g.IntN(5)]
		}
		p.logits = append(p.logits, convert[T](v))
		p.dist = append(p.dist, convert[T](float64(g.IntN(5))/8))
	}
	for range rows {
		p.targets = append(p.targets, g.IntN(classes+1)-1)
	}
	p.options = []lsr.Option{lsr.Smoothing([]float64{0, .01, .1, 1}[g.IntN(4)])}
	if g.IntN(2) == 0 {
		weights := make([]float64, classes)
		for k := range weights {
			weights[k] = float64(g.IntN(4)) / 2
		}
		p.options = append(p.options, lsr.Weights(weights), lsr.ZLoss(1e-3))
	}
	return p
}

// Exact tests that all kernels for rows of so many classes give the bits of plain Go, and that there are specialized ones for
// those of the named instruction sets (if none is named, for all) that the machine has.
func Exact[T lsr.Element](t *testing.T, classes int, isas ...string) {
	t.Helper()
	specialized := lsr.SpecializedFor[T](classes)
	for _, name := range lsr.Kernels() {
		if name != "go" && (len(isas) == 0 || slices.Contains(isas, name)) && !slices.Contains(specialized, name) {
			t.Errorf("specialized kernels for %d classes: %v, expected %s as well", classes, specialized, name)
		}
	}
	g := rand.New(rand.NewPCG(uint64(classes), 1))
	rounds := max(4, min(24, 1<<19/classes))
	if testing.Short() {
		rounds = 4
	}
	for n := range rounds {
		most := max(2, min(300, 20000/classes))
		if n%4 >= 2 {
			most = 7 // too few to be the lanes of vectors
		}
		draw[T](classes, 1+g.IntN(most), n%2 == 1, g).exact(t)
	}
}

// Fuzz compares all kernels for rows of so many classes with plain Go.
func Fuzz[T lsr.Element](f *testing.F, classes int) {
	f.Helper()
	for seed := range uint64(4) {
		f.Add(seed, uint8(seed*17), seed%2 == 1)
	}
	f.Fuzz(func(t *testing.T, seed uint64, rows uint8, special bool) {
		draw[T](classes, min(int(rows), 1+100000/classes), special, rand.New(rand.NewPCG(seed, 2))).exact(t)
	})
}

// Benchmark measures every kernel for rows of so many classes on one goroutine, forward and with the gradient.
func Benchmark[T lsr.Element](b *testing.B, classes int) {
	p := draw[T](classes, max(8, 1<<18/classes), false, rand.New(rand.NewPCG(1, 1)))
	dst := make([]T, len(p.logits))
	x, g := lsr.RowsStride(p.logits, classes, p.stride), lsr.RowsStride(dst, classes, p.stride)
	for _, kernel := range lsr.Kernels() {
		c, err := lsr.New(lsr.Smoothing(.1), lsr.IgnoreIndex(-1), lsr.Workers(1), lsr.Kernel(kernel))
		if err != nil {
			b.Fatal(err)
		}
		for _, pass := range []struct {
			name string
			run  func() error
		}{
			{"forward", func() error { _, err := lsr.Forward(c, x, p.targets); return err }},
			{"grad", func() error { _, err := lsr.Grad(c, g, x, p.targets); return err }},
		} {
			b.Run(fmt.Sprintf("%s/%s", kernel, pass.name), func(b *testing.B) {
				for b.Loop() {
					if err := pass.run(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(p.targets)*classes), "ns/logit")
			})
		}
	}
}
