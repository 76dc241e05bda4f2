package lsr

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/coef"
)

// callKernel calls one kernel.
func callKernel(k kernel, a *args) { call(k.isa, k.element, k.op, k.form, a) }

// ofPlanes reports whether the lanes of a kernel are rows.
func (k kernel) ofPlanes() bool { return k.op >= opPlaneSum && k.op <= opNarrow }

// double reports whether a kernel computes in float64.
func (k kernel) double() bool { return k.element == 1 }

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
	a := &args{epsD: .1, epsG: .1, lambda: .01, bias: -1}
	a.rows, a.n, a.step, a.eStep = rows, n, 1, 1
	a.xStride, a.tStride, a.dstStride, a.eStride = n*sizeT, n*sizeT, n*sizeT, n*sizeF
	elements := n * rows
	switch {
	case k.ofPlanes():
		elements = max(n, 4) * maxSlots
	case k.op == opFold, k.op == opFoldExp:
		elements = 0
	}
	a.x, a.t, a.e, a.dst, a.plane = memory(elements), memory(elements), memory(elements), memory(elements), memory(elements)
	a.u, a.w, a.labels = memory(n), memory(n), base(make([]int32, rows+labelPad))
	a.planeStep, a.xStep, a.eBytes, a.dstStep = maxSlots*sizeF, maxSlots*sizeF, maxSlots*sizeF, maxSlots*sizeF
	if k.op == opWiden || k.op == opNarrow {
		a.xStep, a.dstStep = maxSlots*sizeT, maxSlots*sizeT
	}
	a.xHop, a.eHop = a.xStep*coef.Lanes/sizeF, a.eBytes*coef.Lanes/sizeF
	a.rowBlocks = (n*sizeF + coef.Block - 1) / coef.Block
	a.folds, a.blocks = rows, a.rowBlocks
	lanes := max(rows*a.rowBlocks*coef.ExpLanes/8, maxSlots*8)
	a.lanesE, a.lanesD, a.lanesA = memory(lanes), memory(lanes), memory(lanes)
	a.lanes, a.sums = memory(lanes), memory(rows*a.rowBlocks)
	for i := range a.pivot {
		a.pivot[i], a.f[i], a.g[i], a.main[i] = 1, .1, .2, .9
	}
	return a
}

// callable are the kernels that this machine has. It says which it has not.
func callable(tb testing.TB) (ks []kernel) {
	tb.Helper()
	missing := map[isa]int{}
	for _, k := range kernels {
		if slices.Contains(available, k.isa) {
			ks = append(ks, k)
		} else {
			missing[k.isa]++
		}
	}
	for i, n := range missing {
		tb.Logf("NOT TESTED: %d kernels, this machine has no %s", n, i)
	}
	if len(kernels) == 0 {
		tb.Skip("NOT TESTED: this build has no assembly")
	}
	return ks
}

// TestKernelArgs calls every kernel.
func TestKernelArgs(t *testing.T) {
	for _, k := range callable(t) {
		for _, n := range []int{1, 2, 3, 7, 10, 33, 200} {
			for _, rows := range []int{16, maxSlots} {
				a := kernelArgs(t, k, rows, n)
				before := *a
				callKernel(k, a)
				require.Equal(t, before.view, a.view, k.name) // arguments stay
			}
		}
	}
}
