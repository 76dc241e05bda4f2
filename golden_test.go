package lsr

import (
	"math"
	mathbits "math/bits"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// goldenMillions are hashes of gradients, losses and log-sum-exps over 10⁸ logits, after the first two millions of each
// element type and after 25. They are the same on every machine and for every kernel.
var goldenMillions = map[string][2]uint64{
	"float32":  {0xeda533854c9181b7, 0x2b9c3f26db05ed27},
	"float64":  {0x5f7bc134fae696b8, 0x7a85d12669cc5a8d},
	"float16":  {0x40549359538b1db6, 0x5eedf4a182e4cd63},
	"bfloat16": {0x04d81291b8ab7878, 0x728891c4b16afb22},
}

// TestGoldenMillions computes them: the first two millions with -short and where there is plain Go only, all of them elsewhere.
func TestGoldenMillions(t *testing.T) {
	everyType(t, goldenMillionsOf[float32], goldenMillionsOf[float64], goldenMillionsOf[Float16], goldenMillionsOf[BFloat16])
}

func goldenMillionsOf[T Element](t *testing.T) {
	const some, all = 2_000_000, 25_000_000
	name := t.Name()[len("TestGoldenMillions/"):]
	g := generator(41)
	noise := make([]T, 1<<16)
	for i := range noise {
		noise[i] = element[T](g.uniform() * 9)
	}
	hash, options := uint64(0), []Option{Smoothing(.1), IgnoreIndex(-1), Denominator(1000)}
	withoutZ, withZ := criterion(t, options...), criterion(t, append(options, ZLoss(1e-4))...)
	put := func(v uint64) { hash = mathbits.RotateLeft64(hash^v, 29) * 0x9E3779B97F4A7C15 }
	var logits, dst []T
	for done, step := 0, 0; done < all; step++ {
		classes := []int{10, 1000, 2, 37, 4097, 21, 100, 3, 513, 32000}[step%10]
		rows, c := max(1, 200_000/classes), withZ
		if step%20 == 2 { // pairs
			c = withoutZ
		}
		logits, dst = grow(logits, rows*classes), grow(dst, rows*classes)
		for i := 0; i < len(logits); { // pieces of noise
			i += copy(logits[i:], noise[g.intn(1<<15):])
		}
		y := make([]int32, rows)
		for i := range y {
			y[i] = int32(g.intn(classes+1) - 1)
		}
		p := PerRow{Loss: make([]float64, rows), LSE: make([]float64, rows)}
		r, err := Grad(c, Rows(dst, classes), Rows(logits, classes), y, p)
		require.NoError(t, err)
		put(math.Float64bits(r.Loss))
		for i := range rows {
			put(math.Float64bits(p.Loss[i]))
			put(math.Float64bits(p.LSE[i]))
		}
		switch dst := any(dst).(type) {
		case []float32:
			for _, v := range dst {
				put(uint64(math.Float32bits(v)))
			}
		case []float64:
			for _, v := range dst {
				put(math.Float64bits(v))
			}
		case []Float16:
			for _, v := range dst {
				put(uint64(v))
			}
		case []BFloat16:
			for _, v := range dst {
				put(uint64(v))
			}
		}
		before := done
		done += len(logits)
		if before < some && done >= some {
			require.Equal(t, goldenMillions[name][0], hash, "after the first two millions: golden is to be %#x", hash)
			if testing.Short() || withZ.isa == plainGo && os.Getenv("LSR_EXHAUSTIVE") == "" {
				t.Log("NOT TESTED here: all but the first two millions of 25")
				return
			}
		}
	}
	require.Equal(t, goldenMillions[name][1], hash, "golden is to be %#x", hash)
}
