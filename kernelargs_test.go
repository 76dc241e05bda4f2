package lsr

import (
	"math"
	"reflect"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/coef"
)

func (k kernel) call(a *args) { k.code(unsafe.Pointer(a)) }

// ofPlanes reports whether the lanes of a kernel are rows.
func (k kernel) ofPlanes() bool { return k.op >= opPlaneSumExp && k.op <= opNarrow }

// double reports whether a kernel computes in float64.
func (k kernel) double() bool { return k.element == float64Kind }

// least is how many classes a kernel needs.
func (k kernel) least() int {
	switch {
	case k.op > opScale:
		return 1
	case k.double():
		return max(1, leastBytes[k.isa]/8)
	}
	return max(1, leastBytes[k.isa]/4)
}

// kernelArgs are good arguments for any kernel: rows of n classes, with memory of their own. rows is a multiple of 16.
func kernelArgs(tb testing.TB, k kernel, rows, n int) *args {
	tb.Helper()
	if rows%16 != 0 || rows > maxSlots {
		tb.Fatalf("%d rows", rows)
	}
	sizeT, sizeF := [...]int{4, 8, 2, 2}[k.element], 4
	if k.double() {
		sizeF = 8
	}
	g := generator(n)
	memory := func(words int) unsafe.Pointer {
		m := make([]float64, words+64)
		for i := range m {
			m[i] = g.uniform()
		}
		return base(m)
	}
	a := &args{epsD: .1, halfEps: .1, lambda: .01, bias: -1}
	a.rows, a.n, a.step, a.eStep = rows, n, 1, 1
	a.xStride, a.tStride, a.dstStride, a.eStride = n*sizeT, n*sizeT, n*sizeT, n*sizeF
	elements := n * rows
	switch {
	case k.ofPlanes():
		elements = max(n, 4) * planeSlots
	case k.op == opFold:
		elements = 0
	case k.op >= opPair: // rows of two classes, whatever n
		elements = 2 * rows
	}
	a.x, a.t, a.e, a.dst, a.plane = memory(elements), memory(elements), memory(elements), memory(elements), memory(elements)
	a.u, a.w, a.labels = memory(n), memory(n), base(make([]int32, rows+labelPad))
	a.planeStep, a.xStep, a.dstStep = planeSlots*sizeF, planeSlots*sizeT, planeSlots*sizeT
	a.rowBlocks = (n*sizeF + coef.BlockBytes - 1) / coef.BlockBytes
	a.folds, a.blocks, a.ahead = rows, a.rowBlocks, rows-coef.RowsAhead
	lanes := max(rows*a.rowBlocks*coef.LaneBytes/8, maxSlots*8)
	a.lanesE, a.lanesD, a.lanesA = memory(lanes), memory(lanes), memory(lanes)
	a.lanes, a.sums = memory(lanes), memory(rows*a.rowBlocks)
	a.factors, a.out = memory(rows), memory(pairArrays*pairSlots/2)
	a.keep, a.eps = .9, .1
	for i := range a.main {
		a.main[i] = .9
	}
	if k.double() {
		setSlots[float64](a)
	} else {
		setSlots[float32](a)
	}
	return a
}

// setSlots sets what kernels for rows find in slots.
func setSlots[F real](a *args) {
	*lowestOf[F](a) = F(math.Inf(-1))
	for i := range a.main {
		of[F](&a.minus)[i], of[F](&a.f)[i], of[F](&a.g)[i], of[F](&a.smooth)[i] = -1, .1, .2, .02
	}
}

// sizes are the class counts that a kernel is for.
func (k kernel) sizes(all ...int) (sizes []int) {
	if k.classes != 0 {
		return []int{k.classes}
	}
	for _, n := range all {
		if n >= k.least() && (!k.ofPlanes() || n <= 256 || n <= 512 && !k.double()) {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// callable are the kernels that this machine has. It says which it has not.
func callable(tb testing.TB) (ks []kernel) {
	tb.Helper()
	if len(kernels) == 0 {
		tb.Skip("NOT TESTED: this build has no assembly")
	}
	missing := map[isa]int{}
	for _, k := range slices.Concat(kernels, builtin) {
		if slices.Contains(available, k.isa) {
			ks = append(ks, k)
		} else {
			missing[k.isa]++
		}
	}
	for i, n := range missing {
		tb.Logf("NOT TESTED: %d kernels, this machine has no %s", n, i)
	}
	return ks
}

// TestKernelArgs calls every kernel.
func TestKernelArgs(t *testing.T) {
	for _, k := range callable(t) {
		for _, n := range k.sizes(1, 2, 3, 7, 10, 33, 200) {
			for _, rows := range []int{16, maxSlots} {
				a := kernelArgs(t, k, rows, n)
				before := *a
				k.call(a)
				require.Equal(t, before.view, a.view, k.name) // arguments stay
			}
		}
	}
}

// TestKernelsSkip has no memory but the labels: what kernels skip, they must not touch.
func TestKernelsSkip(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, k := range callable(t) {
		if k.op > opScale {
			continue // these skip nothing
		}
		for _, n := range k.sizes(1, 16, 33, 200) {
			a := kernelArgs(t, k, 16, n)
			for _, p := range []*unsafe.Pointer{&a.x, &a.t, &a.e, &a.dst, &a.lanesE, &a.lanesD, &a.lanesA} {
				*p = nil
			}
			require.Panics(t, func() { k.call(a) }, "%s: no fault without memory", k.name)
			for i := range 16 {
				*at[int32](a.labels, i) = -1
			}
			before := *a
			require.NotPanics(t, func() { k.call(a) }, "%s of %d classes", k.name, n)
			require.True(t, before == *a, "%s of %d classes", k.name, n)
		}
	}
}

// TestSlotsAligned sees whether slots start cache lines: vectors that cross one cost up to 6 % of few classes on Intel.
func TestSlotsAligned(t *testing.T) {
	everyType(t, slotsAligned[float32, float32], slotsAligned[float64, float64], slotsAligned[Float16, float32], slotsAligned[BFloat16, float32])
}

func slotsAligned[T Element, F real](t *testing.T) {
	for range 10 {
		w := reflect.New(reflect.TypeFor[worker[T, F]]()).Interface().(*worker[T, F]) // not on the stack
		require.Zero(t, uintptr(unsafe.Pointer(&w.minus))%64)
	}
}
