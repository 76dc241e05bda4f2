package lsr

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/coef"
)

// exactSums are the oracle's numbers for a long row, in float64 with the terms added by TwoSum.
func exactSums(x []float64, y int, eps float64, prec precision) (loss, log float64) {
	if len(x) <= 100 {
		r := refOne(x, y, nil, &refOptions{smoothing: eps}, prec)
		return refFloat(r.loss.v), refFloat(refSub(r.lse.v, refOf(slices.Max(x))))
	}
	m := slices.Max(x)
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
		m := slices.Max(x)
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

// stepOf is from one float32 to the next that a test tries: usually, or with -short; all with LSR_EXHAUSTIVE=1.
func stepOf(usual, short uint32) uint32 {
	switch {
	case os.Getenv("LSR_EXHAUSTIVE") == "1":
		return 1
	case testing.Short():
		return short
	}
	return usual
}

// TestExp32 compares exp with math.Exp over float32: every eighth, every 64th with -short, all with LSR_EXHAUSTIVE=1.
func TestExp32(t *testing.T) {
	step := stepOf(8, 64)
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

// TestLog32 compares log32 with math.Log1p over float32 in [0, 1]: every 64th, every 2048th with -short, all with LSR_EXHAUSTIVE=1.
func TestLog32(t *testing.T) {
	step := stepOf(64, 2048)
	worst, at := 0.0, float32(0)
	for b := math.Float32bits(0x1p-126); b <= math.Float32bits(1); b += step {
		e := math.Float32frombits(b)
		want := math.Log1p(float64(e))
		if err := math.Abs(float64(log32(e))-want) / single.ulp(want); err > worst {
			worst, at = err, e
		}
	}
	t.Logf("at most %.3f ulp (%v)", worst, at)
	assert.LessOrEqual(t, worst, 1.25)
	assert.Zero(t, log32(0))
	assert.Equal(t, float32(0x1p-149), log32(0x1p-149))
	assert.True(t, log32(float32(nan)) != log32(float32(nan)))
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

// TestReduceLog measures the error of what rows of float32 are finished with, in ulp of what log32 gives at most.
func TestReduceLog(t *testing.T) {
	g := generator(13)
	worst, at := 0.0, float32(0)
	one := func(f float32) float64 {
		k, g := reduceLog(f)
		var logs group[float32]
		logGroup32(&logs, &group[float32]{g, 0, 1, .5, g, .25, 0, g, g}, 9)
		for _, i := range []int{0, 4, 7, 8} {
			require.Equal(t, bits(float64(log32(g))), bits(float64(logs[i])))
		}
		return math.FMA(float64(k), coef.Ln2Hi, float64(logs[8]))
	}
	rounds := 200_000
	if testing.Short() {
		rounds /= 10
	}
	for range rounds {
		f := float32(math.Ldexp(1+math.Abs(g.uniform()), g.intn(55)-34))
		want := math.Log1p(float64(f))
		if e := math.Abs(one(f)-want) / single.ulp(min(want, math.Ln2)); e > worst {
			worst, at = e, f
		}
	}
	t.Logf("at most %.3f ulp (%v)", worst, at)
	require.Less(t, worst, 2.0)
	require.Equal(t, 0.0, one(0))
	require.True(t, math.IsNaN(one(float32(nan))))
}
