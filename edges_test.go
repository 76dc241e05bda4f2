package lsr

import (
	"fmt"
	"math"
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
	for _, classes := range []int{2, 3, 4, 5, 7, 8, 10, 16, 20, 21, 33, 65, 200, 700} {
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
