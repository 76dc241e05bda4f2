package asm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/reg"
)

// compile allocates registers, and then checks that every function keeps to its instruction set.
func compile(f *ir.File) error {
	for _, fn := range f.Functions() {
		one := &ir.File{Sections: []ir.Section{fn}}
		if err := pass.Compile.Execute(one); err != nil {
			return fmt.Errorf("asm: %s: %w", fn.Name, err)
		}
		f.Includes = one.Includes
		fn.Nodes = slices.DeleteFunc(fn.Nodes, idle)
		for _, i := range fn.Instructions() {
			spread(i)
		}
		if err := check(fn); err != nil {
			return err
		}
	}
	return nil
}

// spread lets an instruction of AVX-512 that computes with a number in memory spread its first element.
func spread(i *ir.Instruction) {
	constant, zmm := false, false
	for _, op := range i.Operands {
		m, ok := op.(operand.Mem)
		constant = constant || ok && m.Symbol.Name == dataName
		r, ok := op.(reg.Register)
		zmm = zmm || ok && r.Size() == 64
	}
	moves := strings.HasPrefix(i.Opcode, "VMOV") || strings.Contains(i.Opcode, "BROADCAST")
	if constant && zmm && !moves && len(i.Suffixes) == 0 {
		i.Suffixes = []string{"BCST"}
	}
}

// idle reports whether an instruction copies a register to itself. Copies to XMM registers clear the rest of a vector.
func idle(n ir.Node) bool {
	i, ok := n.(*ir.Instruction)
	if !ok || len(i.Operands) != 2 || !strings.HasPrefix(i.Opcode, "VMOV") {
		return false
	}
	r, ok := i.Operands[0].(reg.Physical)
	return ok && i.Operands[0] == i.Operands[1] && r.Size() > 16
}

// extensions are what the instruction sets may use, in avo's names.
var extensions = map[ISA][]string{
	AVX2:   {"AVX", "AVX2", "FMA3", "F16C", "CMOV", "SSE", "SSE2", "MMX+"},
	AVX512: {"AVX", "AVX2", "FMA3", "F16C", "CMOV", "SSE", "SSE2", "MMX+", "AVX512F", "AVX512DQ", "AVX512BW", "AVX512VL"},
}

// check refuses an instruction or a register outside the function's instruction set.
func check(fn *ir.Function) error {
	isa := AVX2
	if strings.Contains(fn.Name, AVX512.String()) {
		isa = AVX512
	}
	for _, i := range fn.Instructions() {
		for _, e := range i.ISA {
			if !slices.Contains(extensions[isa], e) {
				return fmt.Errorf("asm: %s: %s needs %s, which %s has not", fn.Name, i.Opcode, e, isa)
			}
		}
		for _, op := range i.Operands {
			for _, r := range operand.Registers(op) {
				p, ok := r.(reg.Physical)
				if isa == AVX2 && ok && (p.Kind() == reg.KindOpmask || p.Kind() == reg.KindVector && (p.PhysicalIndex() > 15 || p.Size() > 32)) {
					return fmt.Errorf("asm: %s: %s uses %s, which %s has not", fn.Name, i.Opcode, p.Asm(), isa)
				}
			}
		}
	}
	return nil
}
