package lsr

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/coef"
)

// TestKernelEdges compares the kernels with plain Go where exponentials are denormal, and begin to be 0. They are seen in
// gradients without smoothing, and in the loss of two classes.
func TestKernelEdges(t *testing.T) {
	least := float64(float32(coef.Exp32Min))
	t.Run("float32", func(t *testing.T) {
		edgesOf[float32](t, -87.5, -87.9, least, float64(math.Nextafter32(float32(least), 0)), float64(math.Nextafter32(float32(least), -100)))
	})
	least = coef.Exp64Min
	t.Run("float64", func(t *testing.T) {
		edgesOf[float64](t, -708.5, -709, least, math.Nextafter(least, 0), math.Nextafter(least, -1000))
	})
}

func edgesOf[T Element](t *testing.T, logits ...float64) {
	for _, classes := range []int{2, 3, 4, 5, 7, 8, 10, 16, 19, 20, 21, 33, 65, 200, 700} {
		for _, inner := range []int{1, 16} {
			const rows = 32
			x, y, d := make([][]float64, rows), make([]int64, rows), make([][]float64, rows)
			for i := range x {
				x[i], d[i] = make([]float64, classes), make([]float64, classes)
				for k := range x[i] {
					x[i][k] = logits[(i+k)%len(logits)]
				}
				y[i] = int64(i * 7 % classes)
				x[i][y[i]], d[i][y[i]] = 0, 1
			}
			for name, options := range map[string][]Option{"uniform": nil, "classwise": {Prior(d[0])}} {
				options = append(options, Smoothing(0), Reduce(Sum))
				for _, target := range [][][]float64{nil, d} {
					want := compute[T](t, criterion(t, append(options, Kernel("go"))...), x, y, target, nil, layout{classes, classes, inner})
					for _, kernel := range Kernels()[:len(Kernels())-1] {
						got := compute[T](t, criterion(t, append(options, Kernel(kernel))...), x, y, target, nil, layout{classes, classes, inner})
						same(t, want, got, fmt.Sprintf("%s %s K=%d inner=%d distribution=%v", kernel, name, classes, inner, target != nil))
					}
				}
			}
		}
	}
}

// TestSegments has rows of several segments: what is special fills some of them, all of them, or is one logit.
func TestSegments(t *testing.T) {
	everyType(t, segmentsOf[float32], segmentsOf[float64], segmentsOf[Float16], segmentsOf[BFloat16])
}

func segmentsOf[T Element](t *testing.T) {
	t.Parallel()
	const classes, n = coef.Long + coef.Segment + 300, coef.Segment
	g := generator(35)
	patterns := map[string]func(x []float64, y int){
		"ascending":        func(x []float64, _ int) { rise(x, 1) },
		"descending":       func(x []float64, _ int) { rise(x, -1) },
		"far apart":        func(x []float64, _ int) { rise(x, 200) },
		"first -Inf":       func(x []float64, _ int) { fill(x[:3*n], negInf) },
		"middle -Inf":      func(x []float64, _ int) { fill(x[2*n:3*n], negInf) },
		"last -Inf":        func(x []float64, _ int) { fill(x[4*n:], negInf) },
		"target only":      func(x []float64, y int) { v := x[y]; fill(x, negInf); x[y] = v },
		"-Inf":             func(x []float64, _ int) { fill(x, negInf) },
		"least":            func(x []float64, _ int) { fill(x[n:2*n], -math.MaxFloat32) },
		"all least":        func(x []float64, _ int) { fill(x, -math.MaxFloat32) },
		"least and -Inf":   func(x []float64, y int) { fill(x, negInf); x[y] = -math.MaxFloat32 },
		"NaN":              func(x []float64, _ int) { x[3*n+5] = nan },
		"NaN in the last":  func(x []float64, _ int) { x[classes-1] = nan },
		"NaN among -Inf":   func(x []float64, _ int) { fill(x[n:2*n], negInf); x[n] = nan },
		"+Inf":             func(x []float64, _ int) { x[2*n] = inf },
		"+Inf target":      func(x []float64, y int) { x[y] = inf },
		"as large before":  func(x []float64, y int) { x[y], x[0] = 50, 50 },
		"as large behind":  func(x []float64, y int) { x[y], x[classes-1] = 50, 50 },
		"larger behind":    func(x []float64, y int) { x[y], x[classes-1] = 50, 51 },
		"largest":          func(x []float64, y int) { x[y] = 50 },
		"largest, smaller": func(x []float64, y int) { fill(x, -20); x[y] = 0 },
	}
	verified := []string{"as large before", "as large behind", "larger behind", "largest, smaller", "least and -Inf", "NaN in the last", "NaN among -Inf"}
	for name, pattern := range patterns {
		for _, y := range []int{0, 2*n + 7, classes - 1} {
			if y != 2*n+7 && (testing.Short() || kindOf[T]() != float32Kind) {
				continue
			}
			x := [][]float64{g.row(classes, 3), g.row(classes, 3)}
			pattern(x[0], y)
			d, targets := g.distributions(2, classes), []int64{int64(y), 5}
			for form, options := range map[string][]Option{
				"uniform": {Smoothing(.1)}, "hard": {Smoothing(0)}, "masked": {Smoothing(.1), MaskNegInf()}, "classwise": {Smoothing(.1), Prior(d[1])},
			} {
				if (testing.Short() || isHalf[T]()) && form != "uniform" {
					continue
				}
				for _, target := range [][][]float64{nil, d} {
					for _, top := range [][]Option{nil, {Top1()}} {
						o := append(options[:len(options):len(options)], top...)
						want := compute[T](t, criterion(t, append(o, Kernel("go"))...), x, targets, target, nil, contiguous(classes))
						for _, kernel := range Kernels()[:len(Kernels())-1] {
							got := compute[T](t, criterion(t, append(o, Kernel(kernel))...), x, targets, target, nil, contiguous(classes))
							same(t, want, got, fmt.Sprintf("%s %s %s y=%d distribution=%v top1=%v", kernel, name, form, y, target != nil, top != nil))
						}
					}
				}
			}
			if y != 2*n+7 || testing.Short() || kindOf[T]() != float32Kind {
				continue
			}
			if slices.Contains(verified, name) {
				verify[T](t, refOptions{smoothing: .1}, x, targets, nil, contiguous(classes))
			}
			if slices.Contains([]string{"first -Inf", "last -Inf"}, name) {
				verify[T](t, refOptions{smoothing: .1, mask: true}, x, targets, nil, contiguous(classes))
			}
		}
	}
}

func fill(x []float64, v float64) {
	for i := range x {
		x[i] = v
	}
}

// rise adds so much to each segment as the one before has.
func rise(x []float64, step float64) {
	for k := range x {
		x[k] += step * float64(k/coef.Segment)
	}
}

// TestZeroUpstream has factors of 0 and −0, which give the same bits, whatever a worker has computed before.
func TestZeroUpstream(t *testing.T) {
	for _, classes := range []int{2, 10, 100} {
		g := generator(classes)
		x, y := g.rows(40, classes, 3), g.targets(40, classes)
		for _, kernel := range Kernels() {
			c := criterion(t, Kernel(kernel), Workers(1))
			var want *outcome
			for _, factor := range []float64{0, math.Copysign(0, -1), 0} {
				got := compute[float32](t, c, x, y, nil, []float64{factor}, contiguous(classes))
				if want == nil {
					want = &got
				}
				same(t, *want, got, fmt.Sprintf("%s K=%d factor %v", kernel, classes, factor))
			}
		}
	}
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
