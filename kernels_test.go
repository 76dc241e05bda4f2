package lsr

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKernels compares every kernel with plain Go, to the bit: class counts around every boundary, all forms, strides and
// alignments, special values in every place.
func TestKernels(t *testing.T) {
	everyType(t, kernelsOf[float32], kernelsOf[float64], kernelsOf[Float16], kernelsOf[BFloat16])
}

// kernelSizes are the class counts of TestKernels.
func kernelSizes(short bool) (sizes []int) {
	for k := 1; k <= 1100; k++ {
		if !short || k < 70 || k%61 == 0 {
			sizes = append(sizes, k)
		}
	}
	for k := 2048; k <= 1<<17; k *= 2 {
		if !short || k <= 1<<13 {
			sizes = append(sizes, k-1, k, k+1)
		}
	}
	return sizes
}

// kernelForms are the options that choose a form.
func kernelForms(g *generator, classes int) map[string][]Option {
	prior, weights := make([]float64, classes), make([]float64, classes)
	for k := range prior {
		prior[k], weights[k] = 1/float64(classes), float64(g.intn(4))/2
	}
	return map[string][]Option{
		"uniform":   {Smoothing(.1)},
		"classwise": {Smoothing(.1), Prior(prior), Weights(weights), ZLoss(.01)},
	}
}

func kernelsOf[T Element](t *testing.T) {
	g := generator(31)
	for _, classes := range kernelSizes(testing.Short()) {
		rows := max(3, min(19, 3000/classes))
		x, y := g.rows(rows, classes, []float64{1, 10, 60}[classes%3]), g.targets(rows, classes)
		for i := range min(rows-1, 3) { // a special value at a place of its own
			x[i][g.intn(classes)] = []float64{negInf, nan, inf, negInf, -1e30}[g.intn(5)]
		}
		d := g.distributions(rows, classes)
		l := []layout{contiguous(classes), {classes, classes + 3, 1}, {classes, classes + g.intn(17), 1}}[classes%3]
		for name, options := range kernelForms(&g, classes) {
			for _, target := range [][][]float64{nil, d} {
				want := compute[T](t, criterion(t, append(options, Kernel("go"))...), x, y, target, nil, l)
				for _, kernel := range Kernels()[:len(Kernels())-1] {
					got := compute[T](t, criterion(t, append(options, Kernel(kernel))...), x, y, target, nil, l)
					same(t, want, got, fmt.Sprintf("%s %s K=%d distribution=%v", kernel, name, classes, target != nil))
				}
			}
		}
	}
}

// TestSpecialInEveryPlace puts each special value in each place of a row that is longer than two groups.
func TestSpecialInEveryPlace(t *testing.T) {
	everyType(t, specialInEveryPlace[float32], specialInEveryPlace[float64], specialInEveryPlace[Float16], specialInEveryPlace[BFloat16])
}

func specialInEveryPlace[T Element](t *testing.T) {
	g := generator(32)
	for _, classes := range []int{3, 16, 37, 73} {
		for _, v := range []float64{negInf, nan, inf, -math.MaxFloat32, 0} {
			x, y := g.rows(classes, classes, 5), g.targets(classes, classes)
			for i := range x {
				x[i][i] = v
			}
			want := compute[T](t, criterion(t, Smoothing(.1), Kernel("go"), Top1()), x, y, nil, nil, contiguous(classes))
			for i := range x {
				bad := v != v || v > 1e9
				require.Equal(t, bad, want.loss[i] != want.loss[i], "K=%d %v in place %d", classes, v, i)
			}
			for _, kernel := range Kernels() {
				got := compute[T](t, criterion(t, Smoothing(.1), Kernel(kernel), Top1()), x, y, nil, nil, contiguous(classes))
				same(t, want, got, fmt.Sprintf("%s K=%d %v", kernel, classes, v))
			}
		}
	}
}
