package lsr

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels that are specialized for a class count, those of this package and those that a user's package has from its
// go generate. They change the speed, never a bit.

// specialKey is what kernels are specialized for.
type specialKey struct {
	isa     isa
	element kind
	classes int
}

// specials are filled when packages are initialized, and only read afterwards.
var specials = func() map[specialKey]kernelTable {
	m := map[specialKey]kernelTable{}
	for _, k := range builtin {
		addSpecial(m, k)
	}
	return m
}()

// addSpecial adds a kernel.
func addSpecial(m map[specialKey]kernelTable, k kernel) {
	key := specialKey{k.isa, k.element, k.classes}
	t := m[key]
	t[k.op][k.form] = k.code
	m[key] = t
}

// GeneratedKernel is a kernel that a user's package has from go generate. Its fields are the generator's business.
type GeneratedKernel struct {
	ISA      string
	Element  string
	Classes  int
	Op, Form int
	Kernel   func(unsafe.Pointer)
}

// register adds kernels. It is called by the init functions of generated code, before anything reads the table.
func register(kernels []GeneratedKernel) {
	for _, k := range kernels {
		i, element := slices.Index(isaNames[:], k.ISA), slices.Index(elementNames[:], k.Element)
		if i < 0 || element < 0 {
			panic(fmt.Sprintf("lsr: generated kernel for %s and %s, which package lsr does not know", k.ISA, k.Element))
		}
		addSpecial(specials, kernel{"", isa(i), kind(element), k.Classes, op(k.Op), form(k.Form), k.Kernel})
	}
}

// findKernels looks up the kernels for a job's classes, unless it is like the one before.
func (w *worker[T, F]) findKernels(k specialKey) {
	if w.kernelsFor == k {
		return
	}
	w.kernelsFor, w.segment = k, coef.SegmentOf(k.classes)
	w.kernels = specials[specialKey{k.isa, k.element, w.segment}]
	w.kernels[opPlaneSumExp] = specials[specialKey{k.isa, computedKind[T](), k.classes}][opPlaneSumExp]
	w.lastKernels = specials[specialKey{k.isa, k.element, k.classes % w.segment}]
	for _, t := range []*kernelTable{&w.kernels, &w.lastKernels} {
		t.fill(&kernelTables[k.isa][k.element])
	}
}

// SpecializedFor names the instruction sets, as [Kernels] does, for which there are kernels specialized for rows of so many
// classes of an element type: those of this package, and those that packages made by go generate have registered.
func SpecializedFor[T Element](classes int) (names []string) {
	for _, i := range available {
		_, rows := specials[specialKey{i, kindOf[T](), coef.SegmentOf(classes)}]
		planes := specials[specialKey{i, computedKind[T](), classes}][opPlaneSumExp][uniform] != nil
		if rows || planes || classes == 2 && i != plainGo && computedKind[T]() == float32Kind { // see pairRows
			names = append(names, i.String())
		}
	}
	return names
}
