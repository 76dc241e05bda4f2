package lsr

import (
	"fmt"
	"math"
	"slices"
	"testing"

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
