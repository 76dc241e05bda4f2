package lsr

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAgainstReference(t *testing.T) {
	everyType(t, againstReference[float32], againstReference[float64], againstReference[Float16], againstReference[BFloat16])
}

func againstReference[T Element](t *testing.T) {
	g := generator(1)
	var m maxima
	n := 0
	for _, classes := range []int{1, 2, 3, 5, 15, 16, 17, 33, 63, 64, 65, 130} {
		if testing.Short() && classes != 1 && classes != 3 && classes != 16 && classes != 65 {
			continue
		}
		for _, eps := range []float64{0, .1, 1} {
			if testing.Short() && classes > 3 && eps != .1 {
				continue
			}
			prior, weights := g.vectors(classes)
			for _, o := range []refOptions{
				{},
				{reduction: Sum, upstream: []float64{2.5}},
				{reduction: None, upstream: []float64{1, -2, .5, 0}},
				{prior: prior},
				{weights: weights},
				{prior: prior, weights: weights, zloss: .01, ignores: true, ignore: -100},
				{denominator: 7, zloss: 1e-3},
				{mask: true},
				{mask: true, prior: prior},
				{mask: true, weights: weights},
				{weights: extreme(classes)},
			} {
				o.smoothing = eps
				scale := []float64{1, 10, 100}[g.intn(3)]
				x, y, d := g.rows(4, classes, scale), g.targets(4, classes), g.distributions(4, classes)
				if o.ignores {
					y[g.intn(4)] = -100
				}
				if o.mask && classes > 2 {
					for i := range x {
						x[i][(int(y[i])+1)%classes] = negInf
						d[i][(int(y[i])+1)%classes] = 0
					}
				}
				l := []layout{contiguous(classes), {classes, classes + 3, 1}, {classes, classes, 2}}[n/2%3]
				e := verify[T](t, o, x, y, nil, l)
				f := verify[T](t, o, x, nil, d, l)
				m = maxima{max(m.loss, e.loss, f.loss), max(m.grad, e.grad, f.grad)}
				n += 2
			}
		}
	}
	t.Logf("%d batches: largest errors, as shares of the limits: loss %.2f, gradient %.2f", n, m.loss, m.grad)
}

// extreme are the least and the largest weights that there may be.
func extreme(classes int) []float64 {
	w := make([]float64, classes)
	for k := range w {
		w[k] = []float64{1e-15, 1e15}[k%2]
	}
	return w
}

// TestValues checks against values published by others.
func TestValues(t *testing.T) {
	for _, test := range []struct {
		source  string
		rows    [][]float64
		y       []int
		eps     float64
		want    []float64
		epsilon float64
	}{
		{"Keras", [][]float64{{100, -100, -100}}, []int{0}, .1, []float64{400 * .1 / 3}, 1e-14},
		{"Keras", [][]float64{{8, 1, 1}, {0, 9, 1}, {2, 3, 5}}, []int{0, 1, 2}, 0,
			[]float64{.0018221028929251, .0004587671822310, .1698460195562855}, 1e-12},
		{"optax", [][]float64{{10, 1, -2}, {1, 4, .2}}, []int{1, 0}, 0, []float64{9.000129545625043, 3.069673290824963}, 1e-14},
		{"optax", [][]float64{{1.2, -.8, -.5}, {.9, -1.2, 1.1}}, []int{0, 1}, 0, []float64{.2761297057, 2.9517987959}, 1e-9},
		{"", [][]float64{{2, 1, 0, -1, .5}}, []int{0}, .1, []float64{.7244379396277961}, 1e-14},
		{"over the others", [][]float64{{2, 1, 0, -1, .5}}, []int{0}, SmoothingOverOthers(.1, 5), []float64{.7619379396277961}, 1e-14},
		{"", [][]float64{{-431, 279, 427}}, []int{0}, 0, []float64{858}, 1e-15},
		{"", [][]float64{{1, 1}, {3.7, 3.7}, {1e3, 1e3}, {1e8, 1e8}}, []int{0, 1, 0, 1}, 0,
			[]float64{math.Ln2, math.Ln2, math.Ln2, math.Ln2}, 1e-15},
	} {
		c := criterion(t, Smoothing(test.eps), Reduce(None))
		classes := len(test.rows[0])
		p := PerRow{Loss: make([]float64, len(test.rows))}
		_, err := Forward(c, pack[float64](test.rows, contiguous(classes)), test.y, p)
		require.NoError(t, err)
		assert.InEpsilonSlice(t, test.want, p.Loss, test.epsilon, "%+v", test)
		_, err = Forward(c, pack[float32](test.rows, contiguous(classes)), test.y, p)
		require.NoError(t, err)
		for i, want := range test.want {
			assert.InDelta(t, want, p.Loss[i], lossLimit*single.ulp(max(want, 1)), "%+v", test)
		}
	}
	assert.Equal(t, .3, SmoothingOverOthers(.3, 1))
}

func TestDefaults(t *testing.T) {
	c := criterion(t)
	assert.Equal(t, .01, c.smoothing)
	assert.Equal(t, Mean, c.reduction)
	assert.Equal(t, "mean sum none Reduction(9)", fmt.Sprint(Mean, Sum, None, Reduction(9)))
}

func TestEmpty(t *testing.T) {
	for _, test := range []struct {
		name    string
		options []Option
		y       []int
		want    float64
	}{
		{"none", []Option{Reduce(None)}, nil, nan},
		{"sum", []Option{Reduce(Sum)}, nil, 0},
		{"mean", nil, nil, 0},
		{"mean, NaN", []Option{EmptyNaN()}, nil, nan},
		{"denominator", []Option{Denominator(3)}, nil, 0},
		{"all ignored, sum", []Option{Reduce(Sum), IgnoreIndex(-1)}, []int{-1, -1}, 0},
		{"all ignored, mean", []Option{IgnoreIndex(-1)}, []int{-1, -1}, 0},
		{"all ignored, mean, NaN", []Option{IgnoreIndex(-1), EmptyNaN()}, []int{-1, -1}, nan},
		{"weights 0, mean", []Option{Weights([]float64{0, 1, 1})}, []int{0, 0}, 0},
		{"weights 0, mean, NaN", []Option{Weights([]float64{0, 1, 1}), EmptyNaN()}, []int{0, 0}, nan},
		{"weights 0, z-loss, mean", []Option{Weights([]float64{0, 1, 1}), ZLoss(1)}, []int{0, 0}, 0},
	} {
		c := criterion(t, test.options...)
		x := []float32{1, 2, 3, 4, 5, 6}[:3*len(test.y)]
		dst := []float32{7, 7, 7, 7, 7, 7}[:3*len(test.y)]
		for range 2 {
			r, err := Grad(c, Rows(dst, 3), Rows(x, 3), test.y)
			require.NoError(t, err, test.name)
			assert.Equal(t, math.Float64bits(test.want) == math.Float64bits(0), math.Float64bits(r.Loss) == 0, test.name)
			assert.Equal(t, math.IsNaN(test.want), math.IsNaN(r.Loss), test.name)
			assert.Equal(t, make([]float32, len(x)), dst, test.name)
		}
		if len(test.y) == 0 {
			r, err := GradDist(c, Rows(dst, 3), Rows(x, 3), Rows(x, 3))
			require.NoError(t, err, test.name)
			assert.Equal(t, math.IsNaN(test.want), math.IsNaN(r.Loss), test.name)
			assert.True(t, math.IsNaN(r.NLL), test.name)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, o := range []Option{
		Smoothing(-.1), Smoothing(1.1), Smoothing(nan), Prior([]float64{.5, .6}), Prior([]float64{-1, 2}), Prior([]float64{nan, 1}),
		Weights([]float64{-1}), Weights([]float64{nan}), Weights([]float64{inf}), Weights([]float64{1e-16}), Weights([]float64{1, 1e16}), Reduce(3), Reduce(-1), Denominator(0),
		Denominator(-1), Denominator(nan), Denominator(inf), ZLoss(-1), ZLoss(nan), ZLoss(inf), Workers(-1),
	} {
		c, err := New(o)
		assert.Error(t, err)
		assert.Nil(t, c)
		assert.Contains(t, err.Error(), "got ")
	}
	for _, o := range [][]Option{
		{Reduce(Sum), Denominator(2)}, {Denominator(2), Reduce(None)}, {Prior([]float64{.5, .5}), Weights([]float64{1})},
	} {
		_, err := New(o...)
		assert.Error(t, err)
	}
	_, err := New(Smoothing(0), Smoothing(1), Prior([]float64{.5, .500009}), Denominator(2))
	assert.NoError(t, err)

	x := make([]float32, 24)
	c := criterion(t)
	y := make([]int, 6)
	dst := make([]float32, 24)
	for i := range dst {
		dst[i] = 5
	}
	untouched := append([]float32(nil), dst...)
	losses := []float64{5, 5, 5, 5, 5, 5}
	good := Rows(x, 4)
	for name, f := range map[string]func() (Result, error){
		"nil criterion": func() (Result, error) { return Grad(nil, Rows(dst, 4), good, y) },
		"nil with option": func() (Result, error) {
			_, err := (*Criterion)(nil).With(Denominator(2))
			return Result{}, err
		},
		"no classes":        func() (Result, error) { return Grad(c, Rows(dst, 4), Rows(x, 0), y) },
		"negative classes":  func() (Result, error) { return Forward(c, Rows(x, -1), y) },
		"zero batch":        func() (Result, error) { return Forward(c, Batch[float32]{}, y) },
		"no whole rows":     func() (Result, error) { return Forward(c, Rows(x, 5), y) },
		"no inner":          func() (Result, error) { return Forward(c, Planes(x, 4, 0), y) },
		"no whole planes":   func() (Result, error) { return Forward(c, Planes(x, 4, 4), y) },
		"huge inner":        func() (Result, error) { return Forward(c, Planes(x, 4, math.MaxInt), y) },
		"small stride":      func() (Result, error) { return Forward(c, RowsStride(x, 4, 3), y) },
		"inner with stride": func() (Result, error) { return Forward(c, Batch[float32]{x, 4, 6, 2}, y) },
		"targets":           func() (Result, error) { return Grad(c, Rows(dst, 4), good, y[1:]) },
		"loss":              func() (Result, error) { return Grad(c, Rows(dst, 4), good, y, PerRow{Loss: losses[1:]}) },
		"lse":               func() (Result, error) { return Grad(c, Rows(dst, 4), good, y, PerRow{LSE: losses[1:]}) },
		"upstream":          func() (Result, error) { return Grad(c, Rows(dst, 4), good, y, PerRow{Upstream: losses[1:]}) },
		"no upstream":       func() (Result, error) { return Grad(c, Rows(dst, 4), good, y, PerRow{Upstream: losses[:0]}) },
		"two PerRow":        func() (Result, error) { return Grad(c, Rows(dst, 4), good, y, PerRow{}, PerRow{}) },
		"destination":       func() (Result, error) { return Grad(c, Rows(dst[4:], 4), good, y) },
		"no destination":    func() (Result, error) { return Grad(c, Rows(dst[:0], 4), good, y) },
		"shape":             func() (Result, error) { return Grad(c, Planes(dst, 4, 2), good, y) },
		"overlap":           func() (Result, error) { return Grad(c, Rows(dst[4:24], 4), Rows(dst[:20], 4), y[:5]) },
		"stride overlap": func() (Result, error) {
			return Grad(c, RowsStride(dst[:20], 4, 5), Rows(dst[:16], 4), y[:4])
		},
		"dist targets": func() (Result, error) { return GradDist(c, Rows(dst, 4), good, Rows(x, 6)) },
		"dist shape":   func() (Result, error) { return GradDist(c, Rows(dst, 4), good, Planes(x, 4, 2)) },
		"dist overlap": func() (Result, error) { return GradDist(c, Rows(dst, 4), good, Rows(dst, 4)) },
		"prior": func() (Result, error) {
			return Grad(criterion(t, Prior([]float64{1})), Rows(dst, 4), good, y)
		},
		"weights": func() (Result, error) {
			return Grad(criterion(t, Weights([]float64{1})), Rows(dst, 4), good, y)
		},
		"target": func() (Result, error) {
			return Grad(c, Rows(dst, 4), good, []int{0, 1, 2, 3, 4, 0}, PerRow{Loss: losses})
		},
		"ignore elsewhere": func() (Result, error) {
			return Grad(criterion(t, IgnoreIndex(-2)), Rows(dst, 4), good, []int{0, 1, -2, -1, 1, 0}, PerRow{Loss: losses})
		},
	} {
		_, err := f()
		require.Error(t, err, name)
		assert.Equal(t, untouched, dst, name)
		assert.Equal(t, []float64{5, 5, 5, 5, 5, 5}, losses, name)
	}
	_, err = Forward(c, good, []int{0, 1, 2, 3, 4, 0})
	var te *TargetError
	require.True(t, errors.As(err, &te))
	assert.Equal(t, TargetError{4, 4, 4}, *te)
	assert.Equal(t, "lsr: target of row 4 is 4, expected a class in [0, 4) or the ignore index", te.Error())
}

func TestLabels(t *testing.T) {
	labels[int](t)
	labels[int8](t)
	labels[int16](t)
	labels[int32](t)
	labels[int64](t)
	labels[uint](t)
	labels[uint8](t)
	labels[uint16](t)
	labels[uint32](t)
	labels[uint64](t)
	type class int16
	labels[class](t)

	x := Rows([]float32{1, 2, 3, 4}, 2)
	var te *TargetError
	_, err := Forward(criterion(t, IgnoreIndex(-1)), x, []uint64{0, math.MaxUint64})
	require.True(t, errors.As(err, &te))
	assert.Equal(t, TargetError{1, math.MaxInt64, 2}, *te)
	_, err = Forward(criterion(t), x, []int8{-128, 0})
	require.True(t, errors.As(err, &te))
	assert.Equal(t, TargetError{0, -128, 2}, *te)
	_, err = Forward(criterion(t), x, []int64{1 << 32, 0})
	require.True(t, errors.As(err, &te), "must not wrap to class 0")
	r, err := Forward(criterion(t, IgnoreIndex(math.MaxInt64)), x, []uint64{0, math.MaxInt64})
	require.NoError(t, err)
	assert.Equal(t, 1, r.Ignored)
}

func labels[L Label](t *testing.T) {
	t.Helper()
	x := Rows([]float32{1, 2, 3, 4, 5, 1, 0, 2, 7}, 3)
	c := criterion(t, IgnoreIndex(100))
	want, err := Forward(c, x, []int{2, 100, 1})
	require.NoError(t, err)
	got, err := Forward(c, x, []L{2, 100, 1})
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = Forward(c, x, []L{2, 100, 3})
	var te *TargetError
	require.True(t, errors.As(err, &te))
	assert.Equal(t, TargetError{2, 3, 3}, *te)
}

func TestInvariants(t *testing.T) {
	everyType(t, invariants[float32], invariants[float64], invariants[Float16], invariants[BFloat16])
}

func invariants[T Element](t *testing.T) {
	g := generator(3)
	ulp := 0x1p-24
	if precisionOf[T]() == double {
		ulp = 0x1p-53
	}
	for _, classes := range []int{1, 2, 7, 64, 100, 515, 8200} {
		const n = 12
		x, y := round[T](g.rows(n, classes, 4)), g.targets(n, classes)
		for _, eps := range []float64{0, .1, 1} {
			if classes > 1000 && eps != .1 {
				continue
			}
			c := criterion(t, Smoothing(eps), Reduce(Sum))
			l := contiguous(classes)
			want := compute[T](t, c, x, y, nil, nil, l)
			shifted, reversed, oneHot := make([][]float64, n), make([][]float64, n), make([][]float64, n)
			back := make([]int64, n)
			for i := range x {
				reversed[i], shifted[i], oneHot[i] = make([]float64, classes), make([]float64, classes), make([]float64, classes)
				back[i] = int64(classes-1) - y[i]
				for k, v := range x[i] {
					shifted[i][k], reversed[i][classes-1-k] = v-.5, v
				}
				oneHot[i][y[i]] = 1
			}
			if kindOf[T]() == float64Kind {
				got := compute[T](t, c, shifted, y, nil, nil, l)
				assert.InDeltaSlice(t, want.loss, got.loss, 64*ulp, "shift")
			}
			got := compute[T](t, c, reversed, back, nil, nil, l)
			assert.InDeltaSlice(t, want.loss, got.loss, 128*ulp, "permutation")
			got = compute[T](t, c, x, nil, oneHot, nil, l)
			assert.InDeltaSlice(t, want.loss, got.loss, 128*ulp, "one-hot distribution")
			if !isHalf[T]() {
				for i := range x {
					sum := 0.0
					for k := range x[i] {
						sum += want.grad[i][k]
						assert.InDelta(t, want.grad[i][k], got.grad[i][k], 64*ulp, "one-hot distribution")
					}
					assert.InDelta(t, 0, sum, 64*ulp*math.Sqrt(float64(classes)), "the gradient sums to 0")
				}
			}
			// Strides and planes.
			same(t, want, compute[T](t, c, x, y, nil, nil, layout{classes, classes + 5, 1}), "strided")
			same(t, want, compute[T](t, c, x, y, nil, nil, layout{classes, classes, 3}), "planes")
			dist := compute[T](t, c, x, nil, x, nil, l)
			same(t, dist, compute[T](t, c, x, nil, x, nil, layout{classes, classes + 5, 1}), "strided")
			same(t, dist, compute[T](t, c, x, nil, x, nil, layout{classes, classes, 4}), "planes")
			// In place.
			b, losses := pack[T](x, l), make([]float64, n)
			_, err := Grad(c, b, b, y, PerRow{Loss: losses})
			require.NoError(t, err)
			sameBits(t, want.loss, losses, "in place")
			for i, row := range unpack(b, n) {
				sameBits(t, want.grad[i], row, "in place")
			}
			// In place, strided rows without padding after the last.
			s := pack[T](x, layout{classes, classes + 2, 1})
			s.Data = s.Data[:len(s.Data)-2]
			_, err = Grad(c, s, s, y)
			require.NoError(t, err)
			s.Data = s.Data[:len(s.Data)+2]
			for i, row := range unpack(s, n) {
				sameBits(t, want.grad[i], row, "in place, strided")
			}
			// One row at a time.
			for i := range x {
				one := compute[T](t, c, x[i:i+1], y[i:i+1], nil, nil, l)
				require.Equal(t, bits(want.loss[i]), bits(one.loss[0]), "split")
				sameBits(t, want.grad[i], one.grad[0], "split")
			}
		}
	}
	// Workers.
	for _, classes := range []int{10, 1000, 20000} {
		n := 200000 / classes
		x, y := g.rows(n, classes, 8), g.targets(n, classes)
		y[n/2] = -100
		options := []Option{Smoothing(.1), IgnoreIndex(-100), ZLoss(1e-4), Top1()}
		want := compute[T](t, criterion(t, append(options, Workers(1))...), x, y, nil, nil, contiguous(classes))
		for _, workers := range []int{0, 2, 3, 8} {
			got := compute[T](t, criterion(t, append(options, Workers(workers))...), x, y, nil, nil, contiguous(classes))
			same(t, want, got, "workers")
		}
	}
}

// TestFiniteDifferences compares the gradient with differences of the loss.
func TestFiniteDifferences(t *testing.T) {
	g := generator(4)
	const classes, h = 7, 1e-5
	prior, weights := g.vectors(classes)
	for _, options := range [][]Option{
		{Smoothing(0)}, {Smoothing(.3)}, {Prior(prior)}, {Weights(weights), Smoothing(.4)}, {ZLoss(.2)},
		{Prior(prior), Weights(weights), ZLoss(.1), Smoothing(.5)}, {MaskNegInf(), Smoothing(.2), Prior(prior)},
		{MaskNegInf(), Smoothing(.2)}, {MaskNegInf(), Smoothing(.2), Weights(weights)},
	} {
		c := criterion(t, append(options, Reduce(Mean))...)
		x, y, d := g.rows(3, classes, 3), g.targets(3, classes), g.rows(3, classes, 1)
		weights[y[0]] = 1
		if c.mask {
			for i := range x {
				k := (int(y[i]) + 1) % classes
				x[i][k], d[i][k] = negInf, 0
			}
		}
		for _, target := range [][][]float64{nil, d} {
			got := compute[float64](t, c, x, y, target, nil, contiguous(classes))
			for i := range x {
				for k := range classes {
					v := x[i][k]
					if v == negInf {
						assert.Zero(t, got.grad[i][k])
						continue
					}
					x[i][k] = v + h
					up := compute[float64](t, c, x, y, target, nil, contiguous(classes)).result.Loss
					x[i][k] = v - h
					down := compute[float64](t, c, x, y, target, nil, contiguous(classes)).result.Loss
					x[i][k] = v
					assert.InDelta(t, (up-down)/(2*h), got.grad[i][k], 1e-8)
				}
			}
		}
	}
}

// TestAllocations wants none in the steady state. The race detector lets sync.Pool drop things at random: run without it.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("NOT TESTED with -race: it lets sync.Pool drop things at random")
	}
	allocations[float32](t)
	allocations[float64](t)
	allocations[Float16](t)
	allocations[BFloat16](t)
}

func allocations[T Element](t *testing.T) {
	g := generator(5)
	const n, classes = 64, 1024
	x := pack[T](g.rows(n, classes, 5), contiguous(classes))
	d := pack[T](g.rows(n, classes, 5), contiguous(classes))
	y := g.targets(n, classes)
	p := PerRow{Loss: make([]float64, n)}
	for _, workers := range []int{1, 0} {
		c := criterion(t, Workers(workers), Top1())
		dst := pack[T](g.rows(n, classes, 5), contiguous(classes))
		for name, f := range map[string]func(){
			"Forward":     func() { _, _ = Forward(c, x, y, p) },
			"Grad":        func() { _, _ = Grad(c, dst, x, y, p) },
			"ForwardDist": func() { _, _ = ForwardDist(c, x, d, p) },
			"GradDist":    func() { _, _ = GradDist(c, dst, x, d, p) },
		} {
			for range 3 {
				f()
			}
			assert.Less(t, testing.AllocsPerRun(5, f), 1.0, "%s of %T with workers %d", name, x.Data[0], workers)
		}
	}
}
