package lsr

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/golsr/lsr/internal/coef"
)

// Kernels that are specialized for a class count, those of this package and those that a user's package has from its
// go generate. They change the speed, never a bit.

// special are the kernels for one instruction set, element type and class count; nil where the others serve.
type special struct {
	isa     isa
	element int
	classes int
	kernels [ops][forms]func(unsafe.Pointer)
}

type specialKey struct {
	isa              isa
	element, classes int
}

// specials are filled when packages are initialized, and only read afterwards.
var specials = func() map[specialKey]*special {
	m := map[specialKey]*special{}
	for i := range builtin {
		s := &builtin[i]
		m[specialKey{s.isa, s.element, s.classes}] = s
	}
	return m
}()

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
		key := specialKey{isa(i), element, k.Classes}
		s := specials[key]
		if s == nil {
			s = &special{isa: isa(i), element: element, classes: k.Classes}
			specials[key] = s
		}
		s.kernels[k.Op][k.Form] = k.Kernel
	}
}

// elementNames are the element types, as kind numbers them.
var elementNames = [...]string{"float32", "float64", "float16", "bfloat16"}

// findSpecial is what is known of a class count, or of the classes of a segment.
func findSpecial(i isa, element, classes int) *special {
	if i == plainGo {
		return nil
	}
	return specials[specialKey{i, element, classes}]
}

// findSpecialPlanes is findSpecial if that has kernels for planes.
func findSpecialPlanes(i isa, element, classes int) *special {
	if s := findSpecial(i, element, classes); s != nil && s.kernels[opPlaneSumExp][uniform] != nil {
		return s
	}
	return nil
}

// findSpecials looks up what there is for a job, unless it is like the one before.
func (w *worker[T, F]) findSpecials(k specialKey) {
	if w.specialFor == k {
		return
	}
	w.specialFor = k
	segment := coef.SegmentOf(k.classes)
	w.special = findSpecial(k.isa, k.element, segment)
	w.specialRest = findSpecial(k.isa, k.element, k.classes%segment)
	w.specialPlanes = findSpecialPlanes(k.isa, computedKind[T](), k.classes)
}

// SpecializedFor names the instruction sets, as [Kernels] does, for which there are kernels specialized for rows of so many
// classes of an element type: those of this package, and those that packages made by go generate have registered.
func SpecializedFor[T Element](classes int) (names []string) {
	for _, i := range available {
		s := findSpecial(i, kind[T](), coef.SegmentOf(classes))
		if classes <= coef.Long && s == nil {
			s = findSpecialPlanes(i, computedKind[T](), classes)
		}
		if s != nil || classes == 2 && i != plainGo && computedKind[T]() == 0 { // see pairRows
			names = append(names, i.String())
		}
	}
	return names
}

// computedKind is the kind of the type that elements are computed in.
func computedKind[T Element]() int {
	if kind[T]() == 1 {
		return 1
	}
	return 0
}

// specialized is the kernel for an operation on the view's classes, if there is one for their number.
func (w *worker[T, F]) specialized(o op, f form) func(unsafe.Pointer) {
	s := w.special
	switch {
	case o >= opPlaneSumExp && o <= opPlaneScale:
		s = w.specialPlanes
	case s == nil || w.n != s.classes:
		s = w.specialRest
	}
	if s == nil || w.n != s.classes || o >= opTranspose {
		return nil
	}
	return s.kernels[o][f]
}
