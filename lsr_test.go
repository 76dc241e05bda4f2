package lsr

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/coef"
)

var (
	nan    = math.NaN()
	inf    = math.Inf(1)
	negInf = math.Inf(-1)
)

// generator is a small pseudo-random generator (splitmix64) whose numbers are made by exact arithmetic, so that they are
// the same on every machine.
type generator uint64

func (g *generator) next() uint64 {
	*g += 0x9E3779B97F4A7C15
	z := uint64(*g)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (g *generator) intn(n int) int { return int(g.next() % uint64(n)) }

// uniform is in [-1, 1).
func (g *generator) uniform() float64 { return float64(int64(g.next())>>11) * 0x1p-52 }

func (g *generator) row(classes int, scale float64) []float64 {
	x := make([]float64, classes)
	for k := range x {
		x[k] = g.uniform() * scale
	}
	return x
}

// element converts a number to an element type, and wide converts it back.
func element[T Element](v float64) T {
	switch p := any(new(T)).(type) {
	case *float32:
		*p = float32(v)
		return any(*p).(T)
	case *float64:
		*p = v
		return any(*p).(T)
	case *Float16:
		*p = ToFloat16(float32(v))
		return any(*p).(T)
	case *BFloat16:
		*p = ToBFloat16(float32(v))
		return any(*p).(T)
	}
	panic("unreachable")
}

func wide[T Element](v T) float64 {
	switch v := any(v).(type) {
	case float32:
		return float64(v)
	case float64:
		return v
	case Float16:
		return float64(v.Float32())
	case BFloat16:
		return float64(v.Float32())
	}
	panic("unreachable")
}

func elements[T Element](v ...float64) []T {
	s := make([]T, len(v))
	for i := range v {
		s[i] = element[T](v[i])
	}
	return s
}

func wides[T Element](v []T) []float64 {
	s := make([]float64, len(v))
	for i := range v {
		s[i] = wide(v[i])
	}
	return s
}

// bits tells numbers apart that == does not; all NaN are the same.
func bits[T Element](v T) uint64 {
	if f := wide(v); f == f {
		return math.Float64bits(f)
	}
	return math.Float64bits(nan)
}

// sameBits compares numbers to the bit.
func sameBits(tb testing.TB, want, got []float64, msg ...any) {
	tb.Helper()
	require.Equal(tb, len(want), len(got), msg...)
	for i := range want {
		if bits(want[i]) != bits(got[i]) {
			require.Failf(tb, "not the same bits", "%d: want %v, got %v: %v", i, want[i], got[i], msg)
		}
	}
}

func criterion(tb testing.TB, options ...Option) *Criterion {
	tb.Helper()
	c, err := New(options...)
	require.NoError(tb, err)
	return c
}

// layout is how rows lie in memory: stride apart, or with the class axis before inner positions.
type layout struct{ classes, stride, inner int }

func contiguous(classes int) layout { return layout{classes, classes, 1} }

// place is where element k of row i lies.
func (l layout) place(i, k int) int {
	if l.inner > 1 {
		return i/l.inner*l.classes*l.inner + k*l.inner + i%l.inner
	}
	return i*l.stride + k
}

// padding is what lies between strided rows. It must not be read, nor written.
const padding = 31

// pack lays out rows.
func pack[T Element](rows [][]float64, l layout) Batch[T] {
	data := make([]T, len(rows)*l.stride)
	for i := range data {
		data[i] = element[T](padding)
	}
	for i, row := range rows {
		for k, v := range row {
			data[l.place(i, k)] = element[T](v)
		}
	}
	return Batch[T]{data, l.classes, l.stride, l.inner}
}

func unpack[T Element](b Batch[T], n int) [][]float64 {
	l := layout{b.Classes, b.Stride, b.Inner}
	rows := make([][]float64, n)
	for i := range rows {
		for k := range l.classes {
			rows[i] = append(rows[i], wide(b.Data[l.place(i, k)]))
		}
	}
	return rows
}

// round rounds rows to an element type.
func round[T Element](rows [][]float64) [][]float64 {
	s := make([][]float64, len(rows))
	for i := range rows {
		s[i] = wides(elements[T](rows[i]...))
	}
	return s
}

// outcome is all that a call gives.
type outcome struct {
	result    Result
	loss, lse []float64
	grad      [][]float64
}

// same compares outcomes to the bit.
func same(tb testing.TB, want, got outcome, msg ...any) {
	tb.Helper()
	sameBits(tb, want.loss, got.loss, msg...)
	sameBits(tb, want.lse, got.lse, msg...)
	require.Equal(tb, bits(want.result.Loss), bits(got.result.Loss), msg...)
	require.Equal(tb, bits(want.result.NLL), bits(got.result.NLL), msg...)
	require.Equal(tb, want.result.Rows, got.result.Rows, msg...)
	require.Equal(tb, want.result.Ignored, got.result.Ignored, msg...)
	require.Equal(tb, want.result.Correct, got.result.Correct, msg...)
	for i := range want.grad {
		sameBits(tb, want.grad[i], got.grad[i], msg...)
	}
}

// compute runs forward and gradient on rows with index targets (t nil) or distributions, and sees that both agree.
func compute[T Element](tb testing.TB, c *Criterion, x [][]float64, y []int64, t [][]float64, up []float64, l layout) outcome {
	tb.Helper()
	logits, dst := pack[T](x, l), pack[T](x, l)
	for i := range dst.Data {
		dst.Data[i] = element[T](padding)
	}
	run := func(grad bool) (o outcome) {
		var err error
		p := PerRow{Loss: make([]float64, len(x)), LSE: make([]float64, len(x)), Upstream: up}
		switch {
		case t == nil && grad:
			o.result, err = Grad(c, dst, logits, y, p)
		case t == nil:
			o.result, err = Forward(c, logits, y, p)
		case grad:
			o.result, err = GradDist(c, dst, logits, pack[T](t, l), p)
		default:
			o.result, err = ForwardDist(c, logits, pack[T](t, l), p)
		}
		require.NoError(tb, err)
		o.loss, o.lse = p.Loss, p.LSE
		return o
	}
	forward, both := run(false), run(true)
	same(tb, forward, both, "forward and gradient")
	both.grad = unpack(dst, len(x))
	for i := range x {
		for k := l.classes; k < l.stride; k++ {
			if bits(dst.Data[i*l.stride+k]) != bits(element[T](padding)) {
				require.Fail(tb, "written between the rows")
			}
		}
	}
	return both
}

// maxima are the largest errors seen, in ulp and in shares of the limit.
type maxima struct{ loss, grad float64 }

func precisionOf[T Element]() precision {
	if kind[T]() == 1 {
		return double
	}
	return single
}

// within reports whether got is what a result within tol of v may be once it is rounded to T.
func within[T Element](v, tol, got float64) bool {
	lo, hi := wide(element[T](v-tol)), wide(element[T](v+tol))
	return lo <= got && got <= hi
}

// verify compares a batch with the oracle and returns the largest errors as shares of what is allowed.
func verify[T Element](tb testing.TB, o refOptions, x [][]float64, y []int64, t [][]float64, l layout) (m maxima) {
	tb.Helper()
	x, t = round[T](x), round[T](t)
	if len(t) == 0 && y != nil {
		t = nil
	}
	got := compute[T](tb, criterion(tb, append(o.options(), Top1())...), x, y, t, o.upstream, l)
	prec := precisionOf[T]()
	want := refAll(x, y, t, &o, prec)
	about := func() string { return fmt.Sprintf("%T: x=%v y=%v t=%v options=%+v", *new(T), x, y, t, o) }
	for i := range x {
		loss := quantity{v: refNew()}
		if want.ignored[i] {
			want.rows[i].lse = loss
		} else {
			loss = refSum(want.rows[i].loss, want.rows[i].z, refOf(1))
		}
		if !loss.agrees(got.loss[i]) {
			require.Failf(tb, "row loss", "row %d: want %v ± %v, got %v, off %v\n%s",
				i, loss.float(), loss.tol, got.loss[i], loss.error(got.loss[i]), about())
		}
		if loss.tol > 0 && loss.special == 0 {
			m.loss = max(m.loss, loss.error(got.loss[i])/loss.tol)
		}
		if q := want.rows[i].lse; !q.agrees(got.lse[i]) {
			require.Failf(tb, "row log-sum-exp", "row %d: want %v ± %v, got %v\n%s", i, q.float(), q.tol, got.lse[i], about())
		}
		for k, q := range want.grad[i] {
			g := got.grad[i][k]
			if want.ignored[i] {
				require.Equal(tb, uint64(0), math.Float64bits(g), "gradient of an ignored row")
			}
			switch {
			case q.agrees(g):
			case q.special == 0 && within[T](refFloat(q.v), q.tol, g):
			default:
				require.Failf(tb, "gradient", "row %d class %d: want %v ± %v, got %v, off %v\n%s",
					i, k, q.float(), q.tol, g, q.error(g), about())
			}
			if kind[T]() < 2 && q.special == 0 && q.tol > 0 {
				m.grad = max(m.grad, q.error(g)/q.tol)
			}
		}
	}
	if !want.loss.agrees(got.result.Loss) {
		require.Failf(tb, "loss", "want %v ± %v, got %v\n%s", want.loss.float(), want.loss.tol, got.result.Loss, about())
	}
	if !want.nll.agrees(got.result.NLL) {
		require.Failf(tb, "NLL", "want %v ± %v, got %v\n%s", want.nll.float(), want.nll.tol, got.result.NLL, about())
	}
	require.Equal(tb, len(x), got.result.Rows)
	require.Equal(tb, len(x)-want.kept, got.result.Ignored)
	if t == nil {
		require.Equal(tb, want.correct, got.result.Correct, about())
	}
	return m
}

// everyType runs a test for all element types.
func everyType(t *testing.T, f32, f64, f16, bf16 func(*testing.T)) {
	t.Run("float32", f32)
	t.Run("float64", f64)
	t.Run("float16", f16)
	t.Run("bfloat16", bf16)
}

// targetsOf are index targets for n rows.
func (g *generator) targets(n, classes int) []int64 {
	y := make([]int64, n)
	for i := range y {
		y[i] = int64(g.intn(classes))
	}
	return y
}

func (g *generator) rows(n, classes int, scale float64) [][]float64 {
	x := make([][]float64, n)
	for i := range x {
		x[i] = g.row(classes, scale)
	}
	return x
}

// distributions sum to about 1; some entries are 0.
func (g *generator) distributions(n, classes int) [][]float64 {
	t := g.rows(n, classes, 1)
	for _, row := range t {
		sum := 0.0
		for k := range row {
			row[k] = max(row[k], 0)
			sum += row[k]
		}
		for k := range row {
			if sum > 0 {
				row[k] /= sum
			}
		}
	}
	return t
}

func (g *generator) vectors(classes int) (prior, weights []float64) {
	prior, weights = make([]float64, classes), make([]float64, classes)
	sum := 0.0
	for k := range prior {
		prior[k] = float64(1 + g.intn(1000))
		weights[k] = float64(g.intn(4)) / 2
		sum += prior[k]
	}
	for k := range prior {
		prior[k] /= sum
	}
	return
}

func TestAgainstReference(t *testing.T) {
	everyType(t, againstReference[float32], againstReference[float64], againstReference[Float16], againstReference[BFloat16])
}

func againstReference[T Element](t *testing.T) {
	g := generator(1)
	var m maxima
	n := 0
	for _, classes := range []int{1, 2, 3, 5, 15, 16, 17, 33, 63, 64, 65, 130} {
		if testing.Short() && classes > 17 && classes != 65 {
			continue
		}
		for _, eps := range []float64{0, .1, 1} {
			prior, weights := g.vectors(classes)
			for _, o := range []refOptions{
				{},
				{reduction: Sum, upstream: []float64{2.5}},
				{reduction: None, upstream: []float64{1, -2, .5, 0}},
				{prior: prior},
				{weights: weights},
				{prior: prior, weights: weights, zloss: .01, ignores: true, ignore: -100},
				{denominator: 7, zloss: 1e-3},
				{mask: true, prior: prior},
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
		}
	}
}

func TestErrors(t *testing.T) {
	for _, o := range []Option{
		Smoothing(-.1), Smoothing(1.1), Smoothing(nan), Prior([]float64{.5, .6}), Prior([]float64{-1, 2}), Prior([]float64{nan, 1}),
		Weights([]float64{-1}), Weights([]float64{nan}), Weights([]float64{inf}), Reduce(3), Reduce(-1), Denominator(0),
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
		"nil criterion":     func() (Result, error) { return Grad(nil, Rows(dst, 4), good, y) },
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

func TestSpecialValues(t *testing.T) {
	everyType(t, specialValues[float32], specialValues[float64], specialValues[Float16], specialValues[BFloat16])
}

// specialValues puts special values in every lane and in the tail.
func specialValues[T Element](t *testing.T) {
	g := generator(2)
	criteria := []*Criterion{criterion(t, Smoothing(0), Reduce(Sum)), criterion(t, Smoothing(.1), Reduce(Sum)),
		criterion(t, Smoothing(.1), Reduce(Sum), MaskNegInf())}
	test := func(classes, k int) {
		y := []int64{0, int64(g.intn(classes)), int64(classes - 1)}
		d := g.distributions(3, classes)
		plain := g.rows(3, classes, 4)
		for ci, c := range criteria {
			for _, v := range []float64{nan, inf} {
				x := [][]float64{plain[0], append([]float64(nil), plain[1]...), plain[2]}
				x[1][k] = v
				for _, target := range [][][]float64{nil, d} {
					labels := y
					if target != nil {
						labels = nil
					}
					want := compute[T](t, c, plain, labels, target, nil, contiguous(classes))
					got := compute[T](t, c, x, labels, target, nil, contiguous(classes))
					for i := range x {
						if i != 1 {
							sameBits(t, want.loss[i:i+1], got.loss[i:i+1], "another row was touched")
							sameBits(t, want.grad[i], got.grad[i], "another row was touched")
							continue
						}
						require.True(t, math.IsNaN(got.loss[1]), "loss %v, K=%d k=%d y=%v v=%v", got.loss[1], classes, k, labels, v)
						for _, v := range got.grad[1] {
							if !math.IsNaN(v) {
								require.Failf(t, "gradient", "%v, K=%d k=%d", got.grad[1], classes, k)
							}
						}
					}
				}
			}
			// −Inf at k, which is not the target.
			if classes == 1 {
				continue
			}
			x := [][]float64{g.row(classes, 4)}
			x[0][k] = negInf
			label := []int64{int64((k + 1) % classes)}
			got := compute[T](t, c, x, label, nil, nil, contiguous(classes))
			require.Equal(t, ci == 1, math.IsInf(got.loss[0], 1), "loss %v", got.loss[0])
			require.False(t, math.IsNaN(got.loss[0]))
			if ci != 1 {
				require.Equal(t, 0.0, got.grad[0][k])
			}
			for _, v := range got.grad[0] {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					require.Failf(t, "gradient", "%v", got.grad[0])
				}
			}
			// −Inf at the target.
			label[0] = int64(k)
			got = compute[T](t, c, x, label, nil, nil, contiguous(classes))
			require.True(t, math.IsInf(got.loss[0], 1), "loss %v", got.loss[0])
		}
	}
	for classes := 1; classes <= 70; classes++ {
		step := 1
		if testing.Short() && classes > 8 {
			step = 23
		}
		for k := g.intn(step); k < classes; k += step {
			test(classes, k)
		}
	}
	for _, classes := range []int{127, 128, 511, 512, 513, 1000, 2049} {
		for _, k := range []int{0, classes / 2, classes - 2, classes - 1, g.intn(classes)} {
			test(classes, k)
		}
	}
	for _, classes := range []int{1, 2, 3, 64, 65, 600} {
		x := [][]float64{make([]float64, classes)}
		for k := range x[0] {
			x[0][k] = negInf
		}
		for _, c := range criteria {
			got := compute[T](t, c, x, []int64{0}, nil, nil, contiguous(classes))
			require.True(t, math.IsNaN(got.loss[0]), "a row of −Inf, K=%d", classes)
			for _, v := range got.grad[0] {
				require.True(t, math.IsNaN(v))
			}
		}
		if classes > 1 { // −Inf over whole blocks before the first finite logit
			x[0][classes-1] = 3
			got := compute[T](t, criteria[0], x, []int64{int64(classes - 1)}, nil, nil, contiguous(classes))
			require.Equal(t, []float64{0}, got.loss)
		}
	}
}

// TestSpecialTable compares rows of special values with the oracle.
func TestSpecialTable(t *testing.T) {
	prior, weights := []float64{0, .5, .5, 0}, []float64{1, 0, 2, 1}
	for _, x := range [][]float64{
		{negInf, 1, 2, 3}, {1, negInf, 2, 3}, {negInf, negInf, 1, 2}, {negInf, 1, 2, negInf}, {1, 2, 3, negInf},
		{1e4, -1e4, 1e4, 0}, {-1e4, 1e4, 0, 0}, {1e6, 1e6 + 1, 1e6 - 1, 1e6}, {-1e30, 1e30, 0, 1}, {3e38, 3e38, 3e38, 3e38},
		{0, 0, 0, 0}, {100, 0, 0, 0}, {30, 0, 0, 0}, {-100, 0, 0, 0},
	} {
		for _, eps := range []float64{0, .25} {
			for _, o := range []refOptions{{}, {prior: prior}, {weights: weights}, {mask: true}, {zloss: 1e-10},
				{mask: true, weights: weights}} {
				o.smoothing = eps
				o.reduction = Sum
				for y := range int64(4) {
					verify[float32](t, o, [][]float64{x}, []int64{y}, nil, contiguous(4))
					verify[float64](t, o, [][]float64{x}, []int64{y}, nil, contiguous(4))
				}
				for _, d := range [][]float64{{0, 0, 0, 1}, {0, 0, .5, .5}, {.25, .25, .25, .25}, {0, 0, 0, 0}, {0, 2, 2, 0}, {0, nan, 1, 0}} {
					verify[float32](t, o, [][]float64{x}, nil, [][]float64{d}, contiguous(4))
					verify[float64](t, o, [][]float64{x}, nil, [][]float64{d}, contiguous(4))
				}
			}
		}
	}
}

func TestNaNTargetMakesItsRowNaN(t *testing.T) {
	for _, eps := range []float64{0, .5, 1} {
		for _, w := range [][]float64{nil, {0, 1}} {
			got := compute[float32](t, criterion(t, Smoothing(eps), Weights(w)), [][]float64{{1, 2}}, nil, [][]float64{{nan, 1}}, nil,
				contiguous(2))
			assert.True(t, math.IsNaN(got.loss[0]), "smoothing %v: loss %v", eps, got.loss[0])
			assert.True(t, math.IsNaN(got.grad[0][0]) && math.IsNaN(got.grad[0][1]), "gradient %v", got.grad[0])
		}
	}
}

func TestIgnoredRowIsNotRead(t *testing.T) {
	c := criterion(t, IgnoreIndex(-100), ZLoss(.1))
	x := [][]float64{{1, 2, 3}, {nan, inf, negInf}, {0, 5, 1}}
	with := compute[float32](t, c, x, []int64{0, -100, 2}, nil, nil, contiguous(3))
	without := compute[float32](t, c, [][]float64{x[0], x[2]}, []int64{0, 2}, nil, nil, contiguous(3))
	assert.Equal(t, without.result.Loss, with.result.Loss)
	assert.Equal(t, without.result.NLL, with.result.NLL)
	assert.Equal(t, []float64{without.loss[0], 0, without.loss[1]}, with.loss)
	assert.Equal(t, [][]float64{without.grad[0], {0, 0, 0}, without.grad[1]}, with.grad)
	assert.Equal(t, 1, with.result.Ignored)
}

func TestOneClass(t *testing.T) {
	for _, eps := range []float64{0, .1, 1} {
		got := compute[float32](t, criterion(t, Smoothing(eps)), [][]float64{{123}, {-1e30}}, []int64{0, 0}, nil, nil, contiguous(1))
		assert.Equal(t, []float64{0, 0}, got.loss)
		assert.Equal(t, [][]float64{{0}, {0}}, got.grad)
		got = compute[float64](t, criterion(t, Smoothing(eps), ZLoss(.5)), [][]float64{{3}}, []int64{0}, nil, nil, contiguous(1))
		assert.Equal(t, []float64{4.5}, got.loss)
		assert.Equal(t, [][]float64{{3}}, got.grad)
	}
}

func TestConfidentRowsAreNeverNegative(t *testing.T) {
	c := criterion(t, Smoothing(0))
	for gap := 0.0; gap < 150; gap += .37 {
		for _, classes := range []int{2, 3, 17, 100, 1000} {
			x := make([]float64, classes)
			x[classes/2] = gap
			y := []int64{int64(classes / 2)}
			sum := math.Log1p(float64(classes-1) * math.Exp(-wide(float32(gap))))
			for _, got := range []float64{compute[float32](t, c, x2(x), y, nil, nil, contiguous(classes)).loss[0],
				compute[float64](t, c, x2(x), y, nil, nil, contiguous(classes)).loss[0]} {
				require.GreaterOrEqual(t, got, 0.0)
				require.InDelta(t, sum, got, 4*0x1p-23*max(1, sum), "gap %v K %d", gap, classes)
			}
		}
	}
}

func x2(x []float64) [][]float64 { return [][]float64{x} }

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
			if kind[T]() == 1 {
				got := compute[T](t, c, shifted, y, nil, nil, l)
				assert.InDeltaSlice(t, want.loss, got.loss, 64*ulp, "shift")
			}
			got := compute[T](t, c, reversed, back, nil, nil, l)
			assert.InDeltaSlice(t, want.loss, got.loss, 128*ulp, "permutation")
			got = compute[T](t, c, x, nil, oneHot, nil, l)
			assert.InDeltaSlice(t, want.loss, got.loss, 128*ulp, "one-hot distribution")
			if kind[T]() < 2 {
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
	} {
		c := criterion(t, append(options, Reduce(Mean))...)
		x, y, d := g.rows(3, classes, 3), g.targets(3, classes), g.rows(3, classes, 1)
		weights[y[0]] = 1
		for _, target := range [][][]float64{nil, d} {
			got := compute[float64](t, c, x, y, target, nil, contiguous(classes))
			for i := range x {
				for k := range classes {
					v := x[i][k]
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

func TestConcurrentUse(t *testing.T) {
	g := generator(6)
	const n, classes = 64, 1000
	c := criterion(t)
	x, y := pack[float32](g.rows(n, classes, 5), contiguous(classes)), g.targets(n, classes)
	want, err := Forward(c, x, y)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			dst := Rows(make([]float32, n*classes), classes)
			for range 10 {
				got, err := Grad(c, dst, x, y)
				assert.NoError(t, err)
				assert.Equal(t, want.Loss, got.Loss)
			}
		})
	}
	wg.Wait()
}

// exactSums are the oracle's numbers for a long row, in float64 with the terms added by TwoSum.
func exactSums(x []float64, y int, eps float64, prec precision) (loss, log float64) {
	if len(x) <= 100 {
		r := refOne(x, y, nil, &refOptions{smoothing: eps}, prec)
		return refFloat(r.loss.v), refFloat(refSub(r.lse.v, refOf(maxOf(x))))
	}
	m := maxOf(x)
	var s, d twoSum
	for _, v := range x {
		s.add(math.Exp(v - m))
		d.add(v - m)
	}
	log = math.Log(s.hi + s.lo)
	return (1-eps)*(log-(x[y]-m)) + eps*(log-(d.hi+d.lo)/float64(len(x))), log
}

type twoSum struct{ hi, lo float64 }

func (s *twoSum) add(v float64) {
	h := s.hi + v
	b := h - s.hi
	s.lo += (s.hi - (h - b)) + (v - b)
	s.hi = h
}

func maxOf(x []float64) float64 {
	m := x[0]
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

func TestExactness(t *testing.T) {
	t.Run("float32", exactness[float32])
	t.Run("float64", exactness[float64])
}

func exactness[T Element](t *testing.T) {
	g := generator(7)
	prec := precisionOf[T]()
	var worst maxima
	var worstLoss, worstGrad string
	one := func(x []float64, y int, eps float64, name string) {
		classes := len(x)
		if prec == double && classes > 2000 {
			return // float64 sums are no oracle for float64
		}
		got := compute[T](t, criterion(t, Smoothing(eps), Reduce(Sum)), x2(x), []int64{int64(y)}, nil, nil, contiguous(classes))
		loss, log := exactSums(x, y, eps, prec)
		about := fmt.Sprintf("%s K=%d y=%d ε=%v", name, classes, y, eps)
		if prec == single {
			e := math.Abs(got.loss[0]-loss) / prec.ulp(max(loss, 1))
			if e > worst.loss {
				worst.loss, worstLoss = e, about
			}
			assert.LessOrEqual(t, e, float64(lossLimit), "loss of %s: want %v, got %v", about, loss, got.loss[0])
		}
		m := maxOf(x)
		bad := 0
		var want *refRow
		if prec == double {
			r := refOne(x, y, nil, &refOptions{smoothing: eps}, prec)
			want = &r
			e := r.loss.error(got.loss[0]) / prec.ulp(max(loss, 1))
			if e > worst.loss {
				worst.loss, worstLoss = e, about
			}
			assert.LessOrEqual(t, e, float64(lossLimit), "loss of %s: want %v, got %v", about, loss, got.loss[0])
		}
		for j, v := range x {
			p := math.Exp(v - m - log)
			q := eps / float64(classes)
			if j == y {
				q += 1 - eps
			}
			ref := p - q
			off := got.grad[0][j] - ref
			if want != nil {
				off = want.grad[j].error(got.grad[0][j])
			}
			limit := gradLimit + gradFactor*(m-v)
			e := max(0, math.Abs(off)-prec.min) / prec.ulp(p+q) / limit
			if e > worst.grad {
				worst.grad, worstGrad = e, fmt.Sprintf("%s class %d: x−max %v want %v got %v", about, j, v-m, ref, got.grad[0][j])
			}
			if e > 1 {
				bad++
			}
		}
		assert.Zero(t, bad, "gradient entries of %s beyond the limit", about)
	}
	sizes := []int{1, 2, 3, 7, 10, 37, 100, 512, 513, 1000, 4096, 8193, 32000, 200000}
	for _, classes := range sizes {
		if testing.Short() && (classes > 1000 || prec == double && classes > 100) {
			continue
		}
		repeat := max(1, min(6, 1000/classes))
		if testing.Short() {
			repeat = 1
		}
		for _, offset := range []float64{0, 1e3, 1e6} {
			for range repeat {
				for _, scale := range []float64{.5, 4, 15, 50} {
					if classes > 30000 && scale != 4 && scale != 15 {
						continue
					}
					x := g.row(classes, scale)
					for k := range x {
						x[k] = wide(element[T](x[k] + offset))
					}
					top, bottom := 0, 0
					for k, v := range x {
						if v > x[top] {
							top = k
						}
						if v < x[bottom] {
							bottom = k
						}
					}
					for _, eps := range []float64{0, .01, .1, .5, 1} {
						for _, y := range []int{top, classes / 2, bottom} {
							one(x, y, eps, fmt.Sprintf("offset %v scale %v", offset, scale))
						}
					}
				}
			}
		}
	}
	// All logits equal but the target's, where roundings are all alike.
	for _, classes := range []int{512, 700, 1024, 8000, 9000, 32000, 200000} {
		if testing.Short() && classes > 600 {
			continue
		}
		x := make([]float64, classes)
		for _, gap := range []float64{0, 1.1, 5.7, 11.3, 19.9, 27.3, 33.1, 40.7, -1.7, -6.3, -18.1, -33.3, -54.9, -70.3} {
			if classes > 10000 && gap != 0 && gap != 11.3 && gap != 33.1 && gap != -54.9 {
				continue
			}
			for _, eps := range []float64{.1, 1} {
				for k := range x {
					x[k] = wide(element[T](gap))
				}
				x[classes/3] = 0
				one(x, classes/3, eps, fmt.Sprintf("all %v but 0", gap))
			}
		}
	}
	t.Logf("largest error of the loss %.2f ulp: %s", worst.loss, worstLoss)
	t.Logf("largest error of the gradient %.2f of the limit: %s", worst.grad, worstGrad)
}

// TestExp32 compares exp with math.Exp over float32: every eighth, every 64th with -short, all with LSR_EXHAUSTIVE=1.
func TestExp32(t *testing.T) {
	step := uint32(8)
	if testing.Short() {
		step = 64
	}
	if os.Getenv("LSR_EXHAUSTIVE") == "1" {
		step = 1
	}
	type worst struct {
		near, far     float64
		atNear, atFar float32
	}
	lo, hi := math.Float32bits(0x1p-30), math.Float32bits(90)
	workers := uint32(runtime.GOMAXPROCS(0))
	found := make([]worst, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var e, x group[float32]
			var at [groupSize]float32
			n := 0
			flush := func() {
				expGroup32(&e, &x, n, 0)
				for i := range n {
					v := float64(at[i])
					want := math.Exp(v)
					if at[i] < -87.3 { // a float32 has fewer bits for it, or it is 0
						if math.Abs(float64(e[i])-want) > 0x1.1p-127 || at[i] < coef.Exp32Min && e[i] != 0 {
							t.Errorf("exp(%v) = %v, want %v", at[i], e[i], want)
						}
						continue
					}
					err := math.Abs(float64(e[i])-want) * math.Float64frombits((2046-math.Float64bits(want)>>52)<<52) * 0x1p23
					switch f := &found[w]; {
					case v >= -20:
						if err > f.near {
							f.near, f.atNear = err, at[i]
						}
					case err > f.far:
						f.far, f.atFar = err, at[i]
					}
				}
				n = 0
			}
			for b := lo + w*step; b <= hi; b += step * workers {
				v := -math.Float32frombits(b)
				at[n], x[n] = v, v
				if n++; n == groupSize {
					flush()
				}
			}
			flush()
		})
	}
	wg.Wait()
	all := worst{}
	for _, f := range found {
		if f.near > all.near {
			all.near, all.atNear = f.near, f.atNear
		}
		if f.far > all.far {
			all.far, all.atFar = f.far, f.atFar
		}
	}
	t.Logf("every %d. float32: at most %.3f ulp in [-20, 0] (%v), %.3f ulp elsewhere (%v)", step, all.near, all.atNear, all.far, all.atFar)
	assert.LessOrEqual(t, all.near, 3.0)
	assert.LessOrEqual(t, all.far, 5.0)
	assert.Equal(t, float32(1), exp32(0))
	assert.Equal(t, float32(1), exp32(-1e-30))
}

// TestExpGroup32 compares the fast way with the way that rounds each FMA as it must be.
func TestExpGroup32(t *testing.T) {
	g := generator(8)
	var e, x group[float32]
	n := 4 << 20
	if testing.Short() {
		n >>= 3
	}
	for range n / groupSize {
		var d group[float32]
		for i := range x {
			switch v := g.next(); v % 4 {
			case 0: // few bits: ties
				x[i] = -float32(v>>52) * 0x1p-6
			case 1:
				x[i] = -float32(v>>44) * 0x1p-20
			default:
				x[i] = -float32(math.Abs(g.uniform()) * 90)
			}
			d[i] = x[i]
		}
		expGroup32(&e, &x, groupSize, 0)
		for i := range e {
			require.Equal(t, math.Float32bits(exp32(d[i])), math.Float32bits(e[i]), "x = %v", d[i])
		}
	}
	e, x = group[float32]{}, group[float32]{-87.9, coef.Exp32Min, math.Nextafter32(coef.Exp32Min, -90), -1e30, float32(negInf), float32(nan)}
	expGroup32(&e, &x, 6, 0)
	assert.Equal(t, []float32{exp32(-87.9), 0, 0, 0, 0}, e[:5])
	assert.NotZero(t, e[0])
	assert.True(t, e[5] != e[5])
}

// TestFMA32 compares with 240-bit numbers, for random operands and for ones whose sum is near a tie.
func TestFMA32(t *testing.T) {
	g := generator(9)
	check := func(x, y, z float32) {
		want, _ := refAdd(refMul(refOf(float64(x)), refOf(float64(y))), refOf(float64(z))).Float32()
		got := fma32(x, y, z)
		generic := fma(x, y, z)
		if want == 0 { // the oracle's zero has a sign of its own
			require.Zero(t, got)
			require.Zero(t, generic)
			return
		}
		require.Equal(t, math.Float32bits(want), math.Float32bits(got), "fma32(%b, %b, %b)", x, y, z)
		require.Equal(t, math.Float32bits(want), math.Float32bits(generic), "fma(%b, %b, %b)", x, y, z)
	}
	n := 100000
	if testing.Short() {
		n = 30000
	}
	for range n {
		v := g.next()
		x, y := float32(1+v&0xFFFFFF), float32(1+v>>24&0xFFF)
		check(float32(g.uniform()), float32(g.uniform()), float32(g.uniform()))
		// z is a half unit from a float32, off by a little: x·y·2^-s.
		z := float32(1<<23 + v>>41)
		s := int(v >> 36 & 31)
		check(float32(math.Ldexp(float64(x), -s)), float32(math.Ldexp(float64(y), -30)), z)
		check(-float32(math.Ldexp(float64(x), -s)), float32(math.Ldexp(float64(y), -30)), z)
		check(0.5+0x1p-24*float32(v&1), 1, z)
		check(0.5*(1+0x1p-23), 1-0x1p-24*float32(v>>1&1), z)
		check(x, y, -x*y)
		check(0x1p-60, 0x1p-70*(1+float32(v&3)*0x1p-23), 0x1p-126*(1+float32(v&7)*0x1p-23))
	}
}

func TestExp64(t *testing.T) {
	g := generator(10)
	worst, at := 0.0, 0.0
	n := 20000
	if testing.Short() {
		n = 5000
	}
	for i := range n {
		x := -math.Abs(g.uniform()) * []float64{.1, 1, 20, 266}[i%4]
		if i%5 == 0 {
			x = -math.Abs(g.uniform()) * 708
		}
		want := quantity{v: refExp(refOf(x))}
		if e := want.error(exp64(x)) / double.ulp(want.float()); e > worst {
			worst, at = e, x
		}
	}
	t.Logf("at most %.3f ulp (%v)", worst, at)
	assert.LessOrEqual(t, worst, 2.0)
	assert.Equal(t, 1.0, exp64(0))
	for x := -708.39; x > -710; x -= 1e-3 { // where it is denormal, or 0
		assert.InDelta(t, math.Exp(x), exp64(x), 0x1.1p-1023)
	}
	assert.Zero(t, exp64(coef.Exp64Min))
	assert.Zero(t, exp64(negInf))
	assert.True(t, math.IsNaN(exp64(nan)))
}

func TestLog1p(t *testing.T) {
	g := generator(11)
	worst, at := 0.0, 0.0
	n := 20000
	if testing.Short() {
		n = 2000
	}
	for i := range n {
		x := math.Exp(math.Abs(g.uniform()) * 20)
		switch i % 4 {
		case 0:
			x = math.Abs(g.uniform())
		case 1:
			x = math.Exp(-math.Abs(g.uniform()) * 60)
		}
		want := quantity{v: refLog(refAdd(refOf(1), refOf(x)))}
		if e := want.error(log1p(x)) / double.ulp(want.float()); e > worst {
			worst, at = e, x
		}
	}
	t.Logf("at most %.3f ulp (%v)", worst, at)
	assert.LessOrEqual(t, worst, 2.0)
	assert.Zero(t, log1p(0))
	assert.True(t, math.IsNaN(log1p(nan)))
}

func TestHalf(t *testing.T) {
	for b := range 1 << 16 {
		h := Float16(b)
		f := h.Float32()
		if f != f {
			require.Equal(t, Float16(0x7E00), ToFloat16(f))
			require.True(t, b&0x7C00 == 0x7C00 && b&0x3FF != 0)
			continue
		}
		require.Equal(t, h, ToFloat16(f))
		want := math.Ldexp(float64(b&0x3FF|0x400), b>>10&31-25)
		if b&0x7C00 == 0 {
			want = math.Ldexp(float64(b&0x3FF), -24)
		}
		if b&0x7FFF == 0x7C00 {
			want = inf
		}
		require.Equal(t, math.Copysign(want, float64(1-b>>15*2)), float64(f))
	}
	for b := range 1 << 16 {
		h := BFloat16(b)
		if f := h.Float32(); f == f {
			require.Equal(t, h, ToBFloat16(f))
			require.Equal(t, uint32(b)<<16, math.Float32bits(f))
		} else {
			require.Equal(t, BFloat16(0x7FC0), ToBFloat16(f))
		}
	}
	assert.Equal(t, Float16(0x7E00), ToFloat16(float32(nan)))
	assert.Equal(t, BFloat16(0x7FC0), ToBFloat16(math.Float32frombits(0x7F800001)))
	// Between two neighbours: the nearer, ties to even, seen in float64.
	nearest := func(name string, lo, hi float64, even bool, to func(float32) float64) {
		mid := (lo + hi) / 2
		m := float32(mid)
		require.Equal(t, mid, float64(m))
		tie := hi
		if even {
			tie = lo
		}
		require.Equal(t, tie, to(m), "%s: tie between %v and %v", name, lo, hi)
		require.Equal(t, -tie, to(-m), "%s: tie between %v and %v", name, lo, hi)
		require.Equal(t, lo, to(math.Nextafter32(m, 0)), name)
		require.Equal(t, hi, to(math.Nextafter32(m, float32(inf))), name)
	}
	for b := range 0x7C00 {
		hi := wide(Float16(b + 1))
		if b == 0x7BFF {
			hi = 65536
		}
		nearest("float16", wide(Float16(b)), hi, b&1 == 0, func(f float32) float64 {
			if h := ToFloat16(f); h&0x7FFF == 0x7C00 {
				return math.Copysign(65536, float64(f))
			} else {
				return wide(h)
			}
		})
	}
	for b := range 0x7F7F {
		nearest("bfloat16", wide(BFloat16(b)), wide(BFloat16(b+1)), b&1 == 0, func(f float32) float64 { return wide(ToBFloat16(f)) })
	}
	assert.Equal(t, BFloat16(0x7F80), ToBFloat16(math.MaxFloat32))
	type other uint16
	s := []other{0x3C00}
	assert.Equal(t, float32(1), AsFloat16(s)[0].Float32())
	s[0] = 0x3F80
	assert.Equal(t, float32(1), AsBFloat16(s)[0].Float32())
	assert.Empty(t, AsFloat16[other](nil))
}

// golden are the hashes of all results of TestGolden's corpus. They are the same on every machine.
var golden = map[string]uint64{
	"float32":  0x869e8c4c090fef62,
	"float64":  0x3c23aec0d04d789f,
	"float16":  0xdbcd9314c78db5d4,
	"bfloat16": 0x133b93c8d0327bfa,
}

func TestGolden(t *testing.T) {
	everyType(t, goldenOf[float32], goldenOf[float64], goldenOf[Float16], goldenOf[BFloat16])
}

func goldenOf[T Element](t *testing.T) {
	g := generator(12)
	hash := fnv.New64a()
	put := func(v ...float64) {
		for _, f := range v {
			b := bits(f)
			_, _ = hash.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24), byte(b >> 32), byte(b >> 40),
				byte(b >> 48), byte(b >> 56)})
		}
	}
	for _, classes := range []int{1, 2, 3, 7, 15, 16, 17, 63, 65, 100, 513, 1000, 2048, 5001} {
		prior, weights := make([]float64, classes), make([]float64, classes)
		for k := range prior {
			prior[k], weights[k] = 1/float64(classes), float64(g.intn(8))/4
		}
		for _, o := range []refOptions{
			{}, {smoothing: .1}, {smoothing: 1}, {smoothing: .1, prior: prior}, {smoothing: .1, weights: weights},
			{smoothing: .25, mask: true}, {smoothing: .1, zloss: 1e-3, reduction: Sum, upstream: []float64{.3}},
			{smoothing: .01, prior: prior, weights: weights, ignores: true, ignore: -100, denominator: 3},
		} {
			for _, scale := range []float64{1, 16, 128} {
				const n = 4
				x, y := g.rows(n, classes, scale), g.targets(n, classes)
				d := make([][]float64, n)
				for i := range d {
					d[i] = make([]float64, classes)
					for k := range d[i] {
						d[i][k] = float64(g.intn(16)) / 16
					}
				}
				x[g.intn(n)][g.intn(classes)] = []float64{negInf, nan, inf, 1e4, 0}[g.intn(5)]
				if o.ignores {
					y[g.intn(n)] = -100
				}
				c := criterion(t, o.options()...)
				for _, target := range [][][]float64{nil, d} {
					r := compute[T](t, c, x, y, target, o.upstream, contiguous(classes))
					put(r.result.Loss, r.result.NLL)
					put(r.loss...)
					put(r.lse...)
					for _, row := range r.grad {
						put(row...)
					}
				}
			}
		}
	}
	name := t.Name()[len("TestGolden/"):]
	if got := hash.Sum64(); got != golden[name] {
		t.Errorf("results have changed (or this machine rounds differently): golden has to be\n\t%q: %#x,", name, got)
	}
}
