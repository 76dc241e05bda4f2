package lsr

import (
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWantedKernel fails where the kernel that LSR_WANT names is not the one that is chosen: a run on an emulated CPU, or
// with features turned off, must not pass by testing something else.
func TestWantedKernel(t *testing.T) {
	c, err := New()
	require.NoError(t, err)
	t.Logf("kernels: %v, chosen: %s", Kernels(), c.Kernel())
	if want := os.Getenv("LSR_WANT"); want != "" {
		require.Equal(t, want, c.Kernel())
	}
}

// TestKernels compares every kernel with plain Go, to the bit: class counts around every boundary, all forms, strides and
// alignments, special values in every place.
func TestKernels(t *testing.T) {
	everyType(t, kernelsOf[float32], kernelsOf[float64], kernelsOf[Float16], kernelsOf[BFloat16])
}

// kernelSizes are the class counts of TestKernels.
func kernelSizes(short bool) (sizes []int) {
	for k := 1; k <= 1100; k++ {
		if !short || k < 70 || k == 100 || k == 128 || k%61 == 0 {
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
	t.Parallel()
	g := generator(31)
	for _, classes := range kernelSizes(testing.Short()) {
		rows := max(3, min(19, 3000/classes))
		x, y := g.rows(rows, classes, []float64{1, 10, 60}[classes%3]), g.targets(rows, classes)
		for i := range min(rows-1, 3) { // a special value at a place of its own
			x[i][g.intn(classes)] = []float64{negInf, nan, inf, negInf, -1e30}[g.intn(5)]
		}
		d, up := g.distributions(rows, classes), g.rows(1, rows, 1)[0] // each row has an upstream factor of its own
		l := []layout{contiguous(classes), {classes, classes + 3, 1}, {classes, classes + g.intn(17), 1}}[classes%3]
		for name, options := range kernelForms(&g, classes) {
			for _, target := range [][][]float64{nil, d} {
				want := compute[T](t, criterion(t, append(options, Kernel("go"))...), x, y, target, up, l)
				for _, kernel := range Kernels()[:len(Kernels())-1] {
					got := compute[T](t, criterion(t, append(options, Kernel(kernel))...), x, y, target, up, l)
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
			// Classes that count 0, of which 0·(−Inf) counts 0.
			options, d := []Option{Smoothing(.1), Weights(slices.Repeat([]float64{0}, classes))}, g.distributions(classes, classes)
			for _, target := range [][][]float64{nil, d} {
				want := compute[T](t, criterion(t, append(options, Kernel("go"))...), x, y, target, nil, contiguous(classes))
				for _, kernel := range Kernels() {
					got := compute[T](t, criterion(t, append(options, Kernel(kernel))...), x, y, target, nil, contiguous(classes))
					same(t, want, got, fmt.Sprintf("%s K=%d %v without weights, distribution=%v", kernel, classes, v, target != nil))
				}
			}
		}
	}
}

// TestFinishKernels compares the kernels that finish rows with plain Go, for numbers of every magnitude.
func TestFinishKernels(t *testing.T) {
	t.Run("float32", func(t *testing.T) {
		finishKernelsOf[float32](t, opFinish, opFinishGrad, opFinishSingle, opFinishSingleGrad)
	})
	t.Run("float64", func(t *testing.T) { finishKernelsOf[float64](t, opFinish, opFinishGrad) })
}

func finishKernelsOf[F real](t *testing.T, ops ...op) {
	g := generator(34)
	number := func() float64 {
		if g.intn(50) == 0 {
			return []float64{0, inf, negInf, nan, 1e300, -1e-300}[g.intn(6)]
		}
		return g.uniform() * math.Ldexp(1, g.intn(80)-30)
	}
	times := 200
	if testing.Short() {
		times = 25
	}
	for _, rows := range []int{1, 7, 8, 9, 16, 17, 24, maxSlots} {
		for range times {
			var a args
			for _, p := range []*slots{&a.main, &a.eu, &a.uy, &a.gz} {
				for i := range p {
					p[i] = number()
				}
			}
			for _, p := range []*slotsF{&a.minus, &a.rest, &a.target, &a.d, &a.ey, &a.g, &a.smooth} {
				for i := range of[F](p) {
					of[F](p)[i] = F(number())
				}
			}
			for i, rest := range of[F](&a.rest) {
				of[F](&a.rest)[i] = F(math.Abs(float64(rest)))
			}
			a.rows, a.first = rows, g.intn(min(maxSlots-rows, 7)+1)
			a.epsD, a.keep, a.eps, a.lambda = g.uniform(), max(0, g.uniform()), g.uniform(), g.uniform()
			for _, o := range ops {
				want := a
				w := worker[F, F]{args: a}
				w.run(o, 0)
				want = w.args
				for _, i := range available[:len(available)-1] {
					got := a
					call(i, kindOf[F](), o, &got)
					n := finished(&a)
					for name, pair := range map[string][2]*slots{"loss": {&want.loss, &got.loss}, "z": {&want.z, &got.z}, "lse": {&want.lse, &got.lse}} {
						sameBits(t, pair[0][:n], pair[1][:n], fmt.Sprintf("%v op=%d rows=%d first=%d %s", i, o, rows, a.first, name))
					}
					for name, pair := range map[string][2]*slotsF{"f": {&want.f, &got.f}, "gy": {&want.gy, &got.gy}} {
						for s := range n {
							sameBits(t, []float64{float64(of[F](pair[0])[s])}, []float64{float64(of[F](pair[1])[s])}, fmt.Sprintf("%v op=%d rows=%d first=%d %s", i, o, rows, a.first, name))
						}
					}
					sums := func(a *args) []float64 { return append(append(a.sumLoss[:], a.sumZ[:]...), a.sumNLL[:]...) }
					sameBits(t, sums(&want), sums(&got), fmt.Sprintf("%v op=%d rows=%d first=%d sums", i, o, rows, a.first))
				}
			}
		}
	}
}

// TestPairKernels compares the kernels for rows of two classes with plain Go: special values in every lane, ignored rows, and
// whatever the arguments say of results for each row.
func TestPairKernels(t *testing.T) {
	g := generator(35)
	special := []float64{0, inf, negInf, nan, 1e30, -1e30, math.MaxFloat32, -math.MaxFloat32, 88, -88, 103.5}
	for rows := pairStep; rows <= maxPairs; rows += pairStep {
		if testing.Short() && rows > 300 && rows%256 != 0 {
			continue
		}
		x, labels, factors := make([]float32, 2*rows), make([]int32, rows), make([]float32, rows)
		for i := range x {
			if x[i] = float32(g.uniform() * 20); g.intn(4) == 0 {
				x[i] = float32(special[g.intn(len(special))])
			}
		}
		for i := range labels {
			labels[i], factors[i] = int32(g.intn(3)-1), float32(g.uniform())
		}
		for _, halfEps := range []float64{0, .05, .5} {
			for _, outStep := range []int{0, 4} {
				for _, grad := range []bool{false, true} {
					run := func(i isa) []float64 {
						dst, out := make([]float32, 2*rows), make([]float32, pairArrays*pairSlots)
						a := args{halfEps: halfEps, factors: base(factors), out: base(out), outStep: outStep}
						a.x, a.dst, a.labels, a.rows = base(x), base(dst), base(labels), rows
						o := opPair
						if grad {
							o = opPairGrad
						}
						if i == plainGo {
							pairRows(&a, grad)
						} else {
							call(i, 0, o, &a)
						}
						all := append(a.sumLoss[:], a.sumNLL[:]...)
						for r, y := range labels {
							of := func(array int) float64 { return float64(out[array*pairSlots+r]) }
							if outStep != 0 {
								all = append(all, of(pairLoss), of(pairNLL))
							}
							if outStep != 0 && y >= 0 { // a maximum alone may be that of numbers only
								all = append(all, of(pairMax)+of(pairLog))
							}
							if y >= 0 {
								all = append(all, float64(dst[2*r]), float64(dst[2*r+1]))
							}
						}
						return all
					}
					want := run(plainGo)
					for _, i := range available[:len(available)-1] {
						sameBits(t, want, run(i), fmt.Sprintf("%v rows=%d ε/2=%v outStep=%d gradient=%v", i, rows, halfEps, outStep, grad))
					}
				}
			}
		}
	}
}

// TestLabelKernels compares the kernels that copy labels with plain Go: any number of them, and one that is no class anywhere.
func TestLabelKernels(t *testing.T) {
	t.Run("int", labelKernelsOf[int])
	t.Run("uint", labelKernelsOf[uint])
	t.Run("int64", labelKernelsOf[int64])
	t.Run("uint64", labelKernelsOf[uint64])
	t.Run("int32", labelKernelsOf[int32])
	t.Run("uint32", labelKernelsOf[uint32])
	t.Run("int16", labelKernelsOf[int16])
	t.Run("uint8", labelKernelsOf[uint8])
}

func labelKernelsOf[L Label](t *testing.T) {
	const classes = 100
	a := &args{}
	bad := []int64{classes, 127, -1, math.MinInt64, 1 << 31, 1 << 32, math.MaxInt64}
	for rows := range 70 {
		labels := make([]L, rows)
		for i := range labels {
			labels[i] = L((classes - 1 + 7*i) % classes)
		}
		for _, i := range available {
			want, got := make([]int32, rows), make([]int32, rows)
			copyLabels(want, labels, classes)
			n, ok := kernelLabels(i, a, got, labels, classes)
			require.True(t, ok)
			require.Equal(t, want[:n], got[:n])
			require.True(t, i == plainGo || sizeOf[L]() < 4 || n == rows&^7, "%d of %d labels", n, rows)
			for at := range labels {
				before := labels[at]
				for _, y := range bad {
					if labels[at] = L(y); uint64(labels[at]) < classes {
						continue // not that number in this type
					}
					n, ok := kernelLabels(i, a, got, labels, classes)
					if ok != (at >= n) || ok && copyLabels(got[n:], labels[n:], classes) { // without require, which takes ten times as long
						t.Fatalf("%v: label %d of %d is %d: not noticed", i, at, rows, labels[at])
					}
				}
				labels[at] = before
			}
		}
	}
}

// TestNonTemporal compares gradients that are stored by non-temporal stores, as if caches held nothing, with those of plain Go, and
// beside them such as cannot be: rows that do not lie one after another, planes of half cache lines, and what takes the place of logits.
func TestNonTemporal(t *testing.T) {
	held := cachesHold
	cachesHold = 0
	defer func() { cachesHold = held }()
	g := generator(36)
	for _, size := range [][2]int{{5, 2}, {37, 1000}, {1001, 35}, {9001, 18}, {2, 9}} { // chunks start anywhere in cache lines
		classes, n := size[0], size[1]
		layouts := []layout{contiguous(classes), {classes, classes, 16}, {classes, classes + 3, 1}, {classes, classes, 40}, {classes, classes, 5}}
		if testing.Short() {
			if layouts, n = layouts[:2], min(n, 300); classes > 100 {
				continue
			}
		}
		for _, l := range layouts {
			n := (n + l.inner - 1) / l.inner * l.inner
			x, y, d := g.rows(n, classes, 5), g.targets(n, classes), g.distributions(n, classes)
			x[g.intn(n)][g.intn(classes)] = negInf
			y[0], y[g.intn(n)] = -100, -100
			for name, options := range map[string][]Option{"uniform": nil, "mask": {MaskNegInf()}} {
				options = append(options, IgnoreIndex(-100), Smoothing(.1))
				for _, target := range [][][]float64{nil, d} {
					want := compute[float32](t, criterion(t, append(options, Kernel("go"))...), x, y, target, nil, l)
					for _, kernel := range Kernels() {
						for _, workers := range []int{1, 2} {
							got := compute[float32](t, criterion(t, append(options, Kernel(kernel), Workers(workers))...), x, y, target, nil, l)
							same(t, want, got, fmt.Sprintf("%s %s %v distribution=%v workers=%d", kernel, name, l, target != nil, workers))
						}
					}
				}
			}
			inPlace := pack[float32](x, l)
			_, err := Grad(criterion(t, IgnoreIndex(-100)), inPlace, inPlace, y)
			require.NoError(t, err)
			apart := blank[float32](n, l)
			_, err = Grad(criterion(t, IgnoreIndex(-100)), apart, pack[float32](x, l), y)
			require.NoError(t, err)
			for i, row := range unpack(apart, n) {
				sameBits(t, row, unpack(inPlace, n)[i], "in place")
			}
		}
	}
}

// TestPlaneKernels compares the kernels for planes with plain Go: few classes of rows, and a class axis that is not last.
func TestPlaneKernels(t *testing.T) {
	everyType(t, planeKernelsOf[float32], planeKernelsOf[float64], planeKernelsOf[Float16], planeKernelsOf[BFloat16])
}

func planeKernelsOf[T Element](t *testing.T) {
	t.Parallel()
	g := generator(33)
	sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 19, 20, 21, 31, 32, 33, 34, 37, 47, 48, 49, 63, 64, 65, 100, 255, 256, 257, 512, 513, 1030, 4100, 8200}
	if testing.Short() {
		sizes = []int{1, 2, 3, 4, 5, 6, 8, 10, 15, 16, 17, 19, 20, 21, 33, 37, 257, 1030}
	}
	for _, classes := range sizes {
		for _, inner := range []int{1, 5, 16, 33, 130} {
			if classes > 100 && inner > 33 || classes > 4096 && inner != 16 {
				continue
			}
			rows := 2 * inner
			if inner == 1 {
				rows = 7 + g.intn(300)
			}
			x, y := g.rows(rows, classes, []float64{1, 10, 60}[classes%3]), g.targets(rows, classes)
			for i := range min(rows-1, 5) {
				x[i][g.intn(classes)] = []float64{negInf, nan, inf, negInf, -1e30}[g.intn(5)]
			}
			y[g.intn(rows)] = -100
			d, up := g.distributions(rows, classes), g.rows(1, rows, 1)[0]
			l := layout{classes, classes, inner}
			if inner == 1 {
				l.stride += g.intn(3)
			}
			for name, options := range kernelForms(&g, classes) {
				options = append(options, IgnoreIndex(-100))
				if g.intn(2) == 0 {
					options = append(options, Top1())
				}
				for _, target := range [][][]float64{nil, d} {
					want := compute[T](t, criterion(t, append(options, Kernel("go"))...), x, y, target, up, l)
					for _, kernel := range Kernels()[:len(Kernels())-1] {
						got := compute[T](t, criterion(t, append(options, Kernel(kernel))...), x, y, target, up, l)
						same(t, want, got, fmt.Sprintf("%s %s K=%d inner=%d distribution=%v", kernel, name, classes, inner, target != nil))
					}
				}
			}
		}
	}
}
