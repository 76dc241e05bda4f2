package lsr

import (
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
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

func wide[T Element](v T) float64 { return widen[T](unsafe.Pointer(&v), 0) }

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

// blank is memory for n rows, all of it padding.
func blank[T Element](n int, l layout) Batch[T] {
	data, pad := make([]T, n*l.stride), element[T](padding)
	for i := range data {
		data[i] = pad
	}
	return Batch[T]{data, l.classes, l.stride, l.inner}
}

// pack lays out rows.
func pack[T Element](rows [][]float64, l layout) Batch[T] {
	b := blank[T](len(rows), l)
	for i, row := range rows {
		for k, v := range row {
			b.Data[l.place(i, k)] = element[T](v)
		}
	}
	return b
}

func unpack[T Element](b Batch[T], n int) [][]float64 {
	l := layout{b.Classes, b.Stride, b.Inner}
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = make([]float64, l.classes)
		for k := range rows[i] {
			rows[i][k] = wide(b.Data[l.place(i, k)])
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
	logits, dst, targets := pack[T](x, l), blank[T](len(x), l), pack[T](t, l)
	run := func(grad bool) (o outcome) {
		var err error
		p := PerRow{Loss: make([]float64, len(x)), LSE: make([]float64, len(x)), Upstream: up}
		switch {
		case t == nil && grad:
			o.result, err = Grad(c, dst, logits, y, p)
		case t == nil:
			o.result, err = Forward(c, logits, y, p)
		case grad:
			o.result, err = GradDist(c, dst, logits, targets, p)
		default:
			o.result, err = ForwardDist(c, logits, targets, p)
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
	if kindOf[T]() == float64Kind {
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
			if !isHalf[T]() && q.special == 0 && q.tol > 0 {
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
