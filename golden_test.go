package lsr

import (
	"hash/fnv"
	"math"
	mathbits "math/bits"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// goldenMillions are hashes of gradients, losses and log-sum-exps over 10⁸ logits, after the first two millions of each
// element type and after 25. They are the same on every machine and for every kernel.
var goldenMillions = map[string][2]uint64{
	"float32":  {0xf1f438b55812cdd2, 0xf963a0e26714608d},
	"float64":  {0x9da1f8c235796e47, 0x74e9485683ffeefc},
	"float16":  {0x683f87d022199e97, 0xfba30f06e5a1128a},
	"bfloat16": {0xe88f951ea804884e, 0x1cc314066cea1238},
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

// golden are the hashes of all results of TestGolden's corpus. They are the same on every machine.
var golden = map[string]uint64{
	"float32":  0xb22077a301e01cf2,
	"float64":  0xc172c14f3cc64df9,
	"float16":  0x6626968cddb182cc,
	"bfloat16": 0x30c44279eb5757ef,
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
