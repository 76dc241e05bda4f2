package lsr

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// isa is an instruction set that kernels are made for.
type isa int

const (
	plainGo isa = iota
	avx2
	avx512
)

var isaNames = [...]string{"go", "avx2", "avx512"}

// leastBytes is how many bytes of classes kernels for rows want, in the type that rows are computed in.
var leastBytes = [...]int{avx2: 32, avx512: 0}

func (i isa) String() string { return isaNames[i] }

// kernel is a kernel in assembly.
type kernel struct {
	name    string
	isa     isa
	element kind
	classes int // what it is specialized for, or 0
	op      op
	form    form
	code    func(args unsafe.Pointer)
}

// available are the instruction sets that this build and this machine have, the best first.
var available = func() (isas []isa) {
	if len(kernels) != 0 && cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C {
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL {
			isas = append(isas, avx512)
		}
		isas = append(isas, avx2)
	}
	return append(isas, plainGo)
}()

// preferred is the instruction set of criteria that name none: the best, or what the environment's LSR_KERNEL says.
var preferred, preferredErr = func() (isa, error) {
	name := os.Getenv("LSR_KERNEL")
	if name == "" || name == "auto" {
		return available[0], nil
	}
	i, err := isaNamed(name)
	if err != nil {
		err = fmt.Errorf("%w (from the environment's LSR_KERNEL)", err)
	}
	return i, err
}()

// isaNamed is the instruction set with a name, if it is available.
func isaNamed(name string) (isa, error) {
	if i := slices.Index(isaNames[:], name); i >= 0 && slices.Contains(available, isa(i)) {
		return isa(i), nil
	}
	return plainGo, fmt.Errorf("lsr: kernel must be one of auto, %s on this machine, got %q", strings.Join(Kernels(), ", "), name)
}

// Kernel chooses the implementation: "auto", the default, is what the environment variable LSR_KERNEL names, or else the
// fastest that this machine has; "go" is plain Go; see [Kernels]. All give the same bits.
func Kernel(name string) Option {
	return func(c *Criterion) (err error) {
		if c.isa = preferred; name != "auto" {
			c.isa, err = isaNamed(name)
		}
		return err
	}
}

// Kernel names the implementation that the criterion uses, one of [Kernels].
func (c *Criterion) Kernel() string { return c.isa.String() }

// Kernels names the implementations that this machine has, the fastest first: avx512 (with F, DQ, BW and VL), avx2 (with FMA
// and F16C), go.
func Kernels() []string {
	names := make([]string, len(available))
	for i, isa := range available {
		names[i] = isa.String()
	}
	return names
}

// kernelTable has the code of kernels; nil: there is none.
type kernelTable [ops][forms]func(args unsafe.Pointer)

// kernelTables are the kernels for any number of classes, by instruction set and element type.
var kernelTables = func() (tables [len(isaNames)][len(elementNames)]kernelTable) {
	for _, k := range kernels {
		tables[k.isa][k.element][k.op][k.form] = k.code
	}
	for e := range tables[avx2] {
		for o := opMax; o <= opScale; o++ { // coefficients of classes are those of distributions, without targets
			tables[avx2][e][o][classwise], tables[avx512][e][o][classwise] = tables[avx2][e][o][dense], tables[avx512][e][o][dense]
		}
		tables[avx512][e].fill(&tables[avx2][e])
	}
	for i := range tables { // what the half types are computed in
		tables[i][float16Kind].fill(&tables[i][float32Kind])
		tables[i][bfloat16Kind].fill(&tables[i][float32Kind])
	}
	return tables
}()

// fill takes what there is not from another table.
func (t *kernelTable) fill(from *kernelTable) {
	for o := range t {
		for f := range t[o] {
			if t[o][f] == nil {
				t[o][f] = from[o][f]
			}
		}
	}
}

// call calls the kernel for an element type and any number of classes, even if the job uses specialized ones.
func call(i isa, element kind, o op, a *args) {
	kernelTables[i][element][o][uniform](unsafe.Pointer(a))
}

// run calls a kernel.
func (w *worker[T, F]) run(o op, f form) {
	if o == opSum && w.e != nil {
		o = opSumExp
	}
	switch {
	case w.isa == plainGo || o < opPlaneSumExp && (w.step != 1 || w.n < w.least):
		w.runGo(o, f)
	case w.n == w.segment:
		w.kernels[o][f](unsafe.Pointer(&w.args))
	default:
		w.lastKernels[o][f](unsafe.Pointer(&w.args))
	}
}

// runGo calls a kernel in plain Go.
func (w *worker[T, F]) runGo(o op, f form) {
	switch o {
	case opMax:
		maxRows[T, F](&w.args)
	case opSum, opSumExp:
		sumRows[T, F](&w.args, f)
	case opScale:
		scaleRows[T, F](&w.args, f)
	case opFold:
		foldLanes[F](&w.args)
	case opFinish:
		finishRows[F](&w.args, false)
	case opFinishGrad:
		finishRows[F](&w.args, true)
	case opFinishSingle:
		finishSingleRows(&w.args, false)
	case opFinishSingleGrad:
		finishSingleRows(&w.args, true)
	case opExpTargets:
		expTargets[F](&w.args)
	case opPair:
		pairRows(&w.args, false)
	case opPairGrad:
		pairRows(&w.args, true)
	}
}
