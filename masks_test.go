package lsr

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMaskedRuns has rows with masked classes among rows without, which go through the kernels together: each has the bits that it has alone.
func TestMaskedRuns(t *testing.T) {
	everyType(t, maskedRunsOf[float32], maskedRunsOf[float64], maskedRunsOf[Float16], maskedRunsOf[BFloat16])
}

func maskedRunsOf[T Element](t *testing.T) {
	g := generator(43)
	for _, size := range [][2]int{{2, 300}, {10, 300}, {40, 130}, {1000, 40}, {9000, 3}} {
		classes, n := size[0], size[1]
		x, y := g.rows(n, classes, 4), g.targets(n, classes)
		for i := range x {
			switch {
			case i%11 < 3:
				y[i] = -1
			case i > n/3 && i%7 < 2: // runs, and a third without
				x[i][(int(y[i])+1)%classes] = negInf
			}
		}
		d := g.distributions(n, classes)
		for _, prior := range []Option{Smoothing(.1), Prior(d[0]), Weights(d[1])} {
			for _, kernel := range Kernels() {
				for _, ignored := range []bool{true, false} {
					labels := slices.Clone(y)
					if !ignored {
						for i := range labels {
							labels[i] = max(labels[i], 0)
						}
					}
					options := []Option{Smoothing(.2), prior, MaskNegInf(), IgnoreIndex(-1), Denominator(3)}
					c, plain := criterion(t, append(options, Kernel(kernel))...), criterion(t, append(options, Kernel("go"))...)
					l := contiguous(classes)
					logits := pack[T](x, l)
					dst, loss, forward := blank[T](n, l), make([]float64, n), make([]float64, n)
					_, err := Grad(c, dst, logits, labels, PerRow{Loss: loss})
					require.NoError(t, err)
					_, err = Forward(c, logits, labels, PerRow{Loss: forward})
					require.NoError(t, err)
					sameBits(t, loss, forward, "forward")
					rows := unpack(dst, n)
					for i := range x {
						alone, one := blank[T](1, l), make([]float64, 1)
						_, err := Grad(plain, alone, pack[T](x[i:i+1], l), labels[i:i+1], PerRow{Loss: one})
						require.NoError(t, err)
						what := fmt.Sprintf("%s: row %d of %d classes", kernel, i, classes)
						sameBits(t, one, loss[i:i+1], what)
						sameBits(t, unpack(alone, 1)[0], rows[i], what)
					}
				}
			}
		}
	}
}

// TestMaskLeastSmoothing has an ε of which ε/K is 0.
func TestMaskLeastSmoothing(t *testing.T) {
	for _, kernel := range Kernels() {
		c := criterion(t, Smoothing(math.SmallestNonzeroFloat64), MaskNegInf(), Kernel(kernel))
		dst := make([]float64, 3)
		r, err := Grad(c, Rows(dst, 3), Rows([]float64{0, 0, negInf}, 3), []int{0})
		require.NoError(t, err)
		require.Equal(t, math.Ln2, r.Loss)
		require.Equal(t, []float64{-.5, .5, 0}, dst)
	}
}

// TestLongRowMemory: what rows need for themselves, a long one needs once, not once for each of its segments.
func TestLongRowMemory(t *testing.T) {
	const classes = 200_000
	logits, dst := make([]BFloat16, classes), make([]BFloat16, classes)
	logits[1] = ToBFloat16(float32(negInf))
	c := criterion(t, Smoothing(.1), MaskNegInf(), Workers(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Grad(c, Rows(dst, classes), Rows(logits, classes), []int{0})
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8*4*classes))
}

// TestMaskedPrior has rows whose classes are masked but for such as the prior has nothing for, and ignored rows after them.
func TestMaskedPrior(t *testing.T) {
	var x [][]float64
	var y []int64
	for i := range 600 {
		x = append(x, []float64{negInf, 1, 2})
		if y = append(y, int64(1+i%2)); i > 300 {
			x[i][0], y[i] = 0, -100
		}
	}
	o := refOptions{smoothing: .1, mask: true, prior: []float64{1, 0, 0}, ignores: true, ignore: -100}
	verify[float32](t, o, x, y, nil, contiguous(3))
	verify[float64](t, o, x, y, nil, contiguous(3))
	verify[float32](t, o, x[:9], nil, slices.Repeat([][]float64{{0, .5, .5}}, 9), contiguous(3))
}
