// Package asm writes the kernels of package lsr in assembly, with avo: each of them once, for every instruction set and
// element type, above the small vector vocabulary of this file and of vector.go. What they compute, to the bit, is what
// lsr_generic.go computes in plain Go.
package asm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// ISA is an instruction set.
type ISA int

// The instruction sets: AVX2 with FMA and F16C, and AVX-512 F, DQ, BW and VL.
const (
	AVX2 ISA = iota + 1
	AVX512
)

// ISAs are all instruction sets, by name.
var ISAs = map[string]ISA{"avx2": AVX2, "avx512": AVX512}

func (i ISA) String() string { return [...]string{"", "AVX2", "AVX512"}[i] }

// Element is an element type of logits.
type Element int

// The element types.
const (
	Float32 Element = iota
	Float64
	Float16
	BFloat16
)

// Elements are all element types, by name.
var Elements = map[string]Element{"float32": Float32, "float64": Float64, "float16": Float16, "bfloat16": BFloat16}

func (e Element) String() string { return [...]string{"Float32", "Float64", "Float16", "BFloat16"}[e] }

func (e Element) size() int { return [...]int{4, 8, 2, 2}[e] }

// Op is what a kernel does.
type Op int

// The operations. Their order counts: up to Scale they are for rows, from Sum to PlaneScale they have forms, and FinishGrad and
// FinishSingleGrad follow what they add a gradient to.
const (
	Max Op = iota
	Sum
	SumExp
	Scale
	PlaneSumExp
	PlaneScale
	Transpose
	TransposeBack
	TileScale
	CopyPlanes
	StorePlanes
	Widen
	Narrow
	Labels
	Fold
	Finish
	FinishGrad
	FinishSingle
	FinishSingleGrad
	ExpTargets
	Pair
	PairGrad
	Ops
)

// ops says which functions of lsr_generic.go the operations are.
var ops = [Ops]struct{ name, doc string }{
	Max:              {"max", "maxRows"},
	Sum:              {"sum", "sumRows, forward only"},
	SumExp:           {"sumExp", "sumRows that stores the exponentials"},
	Scale:            {"scale", "scaleRows"},
	PlaneSumExp:      {"planeSumExp", "sumRows and foldLanes for planes"},
	PlaneScale:       {"planeScale", "scaleRows for planes"},
	Transpose:        {"transpose", "rows to planes, and maxRows"},
	TransposeBack:    {"transposeBack", "planes to rows"},
	TileScale:        {"tileScale", "scaleRows for planes, and planes to rows"},
	CopyPlanes:       {"copyPlanes", "planes of elements to planes of F, and maxRows"},
	StorePlanes:      {"storePlanes", "planes of four bytes, by non-temporal stores"},
	Widen:            {"widen", "planes of a half type to planes of F"},
	Narrow:           {"narrow", "planes of F to planes of a half type"},
	Labels:           {"labels", "copyLabels"},
	Fold:             {"fold", "foldLanes"},
	Finish:           {"finish", "finishRows, forward only"},
	FinishGrad:       {"finishGrad", "finishRows"},
	FinishSingle:     {"finishSingle", "finishSingleRows, forward only"},
	FinishSingleGrad: {"finishSingleGrad", "finishSingleRows"},
	ExpTargets:       {"expTargets", "expTargets"},
	Pair:             {"pair", "pairRows, forward only"},
	PairGrad:         {"pairGrad", "pairRows"},
}

func (o Op) String() string { return ops[o].name }

// Doc says what the operation is.
func (o Op) Doc() string { return ops[o].doc }

// Form says what smoothing is spread by.
type Form int

// The forms.
const (
	Uniform Form = iota
	Classwise
	Dense
	Forms
)

func (f Form) String() string { return [...]string{"Uniform", "Classwise", "Dense"}[f] }

// Doc says what coefficients the form has, and which sums.
func (f Form) Doc() string {
	return [...]string{
		"index target, every class alike: Σd",
		"index target, a coefficient a_k = u_k·w_k for each class: Σa and Σa·d",
		"distribution target: a_k = (1−ε)·w_k·t_k + ε·u_k·w_k, Σa and Σa·d",
	}[f]
}

// Kernel is one function in assembly.
type Kernel struct {
	ISA     ISA
	Element Element
	Op      Op
	Form    Form
	Classes int // the class count that it is specialized for, or 0
}

// Name is the function's.
func (k Kernel) Name() string {
	form := ""
	if k.Op >= Sum && k.Op <= PlaneScale {
		form = k.Form.String()
	}
	classes := ""
	if k.Classes != 0 {
		classes = fmt.Sprint("K", k.Classes)
	}
	return k.Op.String() + form + k.Element.String() + k.ISA.String() + classes
}

// Kernels are those for some element types and instruction sets.
func Kernels(elements []Element, isas []ISA) (ks []Kernel) {
	for _, isa := range isas {
		for _, e := range elements {
			add := func(f Form, ops ...Op) {
				for _, op := range ops {
					ks = append(ks, Kernel{isa, e, op, f, 0})
				}
			}
			add(Uniform, Max, Sum, SumExp, Scale)
			add(Dense, SumExp, Scale) // Classwise is Dense with t·w = 0
			if e == Float32 {
				add(0, TileScale)
			}
			if isa == AVX512 && e == Float32 {
				add(0, Transpose, CopyPlanes, Fold)
			}
			if isa == AVX2 { // AVX-512 has nothing to add to these, but for float32
				add(0, Transpose, TransposeBack, CopyPlanes)
				if e <= Float64 {
					add(0, Labels, Fold)
				} else {
					add(0, Widen, Narrow)
				}
				if e == Float32 {
					add(0, StorePlanes)
				}
			}
			if e <= Float64 { // planes of the half types are widened first
				for f := range Forms {
					add(f, PlaneSumExp, PlaneScale)
				}
				add(0, Finish, FinishGrad, ExpTargets)
			}
		}
		for _, op := range []Op{FinishSingle, FinishSingleGrad, Pair, PairGrad} {
			ks = append(ks, Kernel{isa, Float32, op, 0, 0})
		}
	}
	return ks
}

// SpecializedPlanes are the kernels for planes of a class count, at most PlaneClasses, in some forms.
func SpecializedPlanes(classes int, elements []Element, isas []ISA, forms []Form) (ks []Kernel) {
	for _, isa := range isas {
		for _, e := range elements {
			if e > Float64 {
				continue // widened to float32 first
			}
			for _, f := range forms {
				ks = append(ks, Kernel{isa, e, PlaneSumExp, f, classes})
			}
		}
	}
	return ks
}

// SpecializedRows are the kernels for rows of a class count.
func SpecializedRows(classes int, elements []Element, isas []ISA) (ks []Kernel) {
	for _, isa := range isas {
		for _, e := range elements {
			ks = append(ks, Kernel{isa, e, Sum, Uniform, classes}, Kernel{isa, e, SumExp, Uniform, classes}, Kernel{isa, e, SumExp, Dense, classes})
		}
	}
	return ks
}

// PlaneClasses is up to how many classes kernels for planes are specialized: their code grows with the classes. RowClasses is
// from how many on a CPU may prefer kernels for rows (see tileClasses in package lsr).
const PlaneClasses, RowClasses = 64, 16

// builder writes one kernel.
type builder struct {
	*build.Context
	Kernel
	data   *data
	args   reg.Register
	labels int
}

// Assemble writes kernels.
func Assemble(ks []Kernel) (*ir.File, error) {
	ctx := build.NewContext()
	ctx.ConstraintExpr("!purego")
	d := newData(ctx)
	for _, k := range ks {
		ctx.Function(k.Name())
		ctx.Attributes(attr.NOSPLIT)
		ctx.SignatureExpr("func(a *byte)")
		b := &builder{Context: ctx, Kernel: k, data: d}
		if k.Op == Sum || k.Op == SumExp || k.Op == PlaneSumExp { // where loops lie in cache lines would be chance: 2.5 % of 37 classes on Intel
			ctx.Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []operand.Op{operand.Imm(64)}})
		}
		b.args = ctx.Load(ctx.Param("a"), ctx.GP64())
		switch k.Op {
		case Max:
			b.max()
		case Sum, SumExp:
			if k.Classes != 0 {
				b.sumExact()
			} else {
				b.sum()
			}
		case Scale:
			b.scale()
		case PlaneSumExp:
			if k.Classes != 0 {
				b.planeSumUnrolled()
			} else {
				b.planeSum()
			}
		case PlaneScale:
			b.planeScale()
		case Transpose:
			b.transpose()
		case TransposeBack:
			b.transposeBack()
		case TileScale:
			b.tileScale()
		case CopyPlanes:
			b.copyPlanes()
		case StorePlanes:
			b.storePlanes()
		case Widen, Narrow:
			b.convertPlanes()
		case Labels:
			b.copyLabels()
		case Fold:
			b.fold()
		case Finish, FinishGrad:
			b.finish()
		case FinishSingle, FinishSingleGrad:
			b.finishSingle()
		case ExpTargets:
			b.expTargets()
		case Pair, PairGrad:
			b.pair()
		}
		ctx.VZEROUPPER()
		ctx.RET()
	}
	d.emit()
	f, err := ctx.Result()
	if err != nil {
		return nil, fmt.Errorf("asm: %w", err)
	}
	return f, compile(f)
}

// arg is an argument in memory.
func (b *builder) arg(name string) operand.Mem {
	_, offset := field(name)
	return operand.Mem{Base: b.args, Disp: offset}
}

// load is a register with an argument.
func (b *builder) load(name string) reg.GPVirtual {
	r := b.GP64()
	b.MOVQ(b.arg(name), r)
	return r
}

// slot is an argument of the row in a slot.
func (b *builder) slot(name string, slot reg.Register) operand.Mem {
	size := 8
	if f, _ := field(name); f.Type == float {
		size = b.f()
	}
	m := b.arg(name)
	m.Index, m.Scale = slot, uint8(size)
	return m
}

// label makes a name for a place in the code.
func (b *builder) label(what string) string {
	b.labels++
	return fmt.Sprintf("%s%d", what, b.labels)
}

// at is the memory at a base plus index × size plus so many bytes.
func at(base, index reg.Register, size, disp int) operand.Mem {
	return operand.Mem{Base: base, Index: index, Scale: uint8(size), Disp: disp}
}

// after is memory so many bytes on.
func after(m operand.Mem, bytes int) operand.Mem {
	m.Disp += bytes
	return m
}

// weave writes n pieces of straight code, each skew instructions behind the one before: a CPU's scheduler is too small for the
// chains of instructions of many vectors one after the other. At most one of the pieces may need the flags.
func (b *builder) weave(n, skew int, one func(i int)) {
	f, pieces := b.pieces(n, one)
	longest := 0
	for _, piece := range pieces {
		longest = max(longest, len(piece))
	}
	for t := range longest + (n-1)*skew {
		for i, piece := range pieces {
			if j := t - i*skew; j >= 0 && j < len(piece) {
				f.Nodes = append(f.Nodes, piece[j])
			}
		}
	}
}

// interleave writes n pieces of straight code in the order of a schedule, whose digits say which piece has the next instruction.
func (b *builder) interleave(n int, schedule string, one func(i int)) {
	f, pieces := b.pieces(n, one)
	for _, digit := range schedule {
		i := digit - '0'
		f.Nodes, pieces[i] = append(f.Nodes, pieces[i][0]), pieces[i][1:]
	}
	if left := slices.Concat(pieces...); len(left) != 0 {
		panic(fmt.Sprintf("asm: %s: a schedule of %d instructions lacks %d", b.Name(), len(schedule), len(left)))
	}
}

// pieces takes n pieces of code out of a function.
func (b *builder) pieces(n int, one func(i int)) (f *ir.Function, pieces [][]ir.Node) {
	file, _ := b.Result() // errors are kept
	functions := file.Functions()
	f = functions[len(functions)-1]
	start := len(f.Nodes)
	for i := range n {
		from := len(f.Nodes)
		one(i)
		pieces = append(pieces, slices.Clone(f.Nodes[from:]))
	}
	f.Nodes = f.Nodes[:start]
	return f, pieces
}

// rows runs the body for each row that is not skipped: for the row's number, its slot and its label. next advances to the row after.
func (b *builder) rows(body func(row, slot, label reg.GPVirtual), next func()) {
	row, slot, label := b.GP64(), b.load("first"), b.GP64()
	loop, skip, done := b.label("row"), b.label("skip"), b.label("done")
	b.XORQ(row, row)
	b.Label(loop)
	b.CMPQ(row, b.arg("rows"))
	b.JGE(operand.LabelRef(done))
	b.MOVQ(b.arg("labels"), label)
	b.MOVLQSX(at(label, row, 4, 0), label)
	b.TESTQ(label, label)
	b.JLT(operand.LabelRef(skip))
	body(row, slot, label)
	b.Label(skip)
	next()
	b.INCQ(row)
	b.INCQ(slot)
	b.JMP(operand.LabelRef(loop))
	b.Label(done)
}

// loop runs the body while i < end, stepping i; a step of 0 leaves that to the body.
func (b *builder) loop(i, end reg.Register, step int, body func()) {
	done := b.label("end")
	b.CMPQ(i, end)
	b.JGE(operand.LabelRef(done))
	b.repeat(i, end, step, body)
	b.Label(done)
}

// repeat is loop where i < end at first.
func (b *builder) repeat(i, end reg.Register, step int, body func()) {
	loop := b.label("loop")
	b.Label(loop)
	body()
	if step != 0 {
		b.ADDQ(operand.I32(int32(step)), i)
	}
	b.CMPQ(i, end)
	b.JLT(operand.LabelRef(loop))
}

// doc comments the function.
func (b *builder) doc(lines ...string) {
	b.Comment(b.Name() + " " + strings.Join(lines, " "))
}
