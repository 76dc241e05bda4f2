//go:build !purego

package abi

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// canary is what the stack above the function's argument is filled with.
const canary = 0x3A3A3A3A3A3A3A3A

// record is what there was before and after a call.
type record struct {
	sp, bp           uint64
	spAfter, bpAfter uint64
	mxcsr            uint32
	mxcsrAfter       uint32
	flagsAfter       uint64
	zmm              uint64        // whether there are ZMM registers
	stack            [64]uint64    // above the argument, after the call
	vectors          [16][8]uint64 // what Y0 to Y15 hold, or Z0 to Z15
}

// state is neither on the stack nor at an address in a register: after the call, neither can be trusted.
var state record

var mutex sync.Mutex // of state

// run calls the function at an address with an argument, and records the state.
func run(fn, arg unsafe.Pointer)

// Broken calls a function in assembly that takes one pointer, by its ABI0 address (that of a func value in Go is another), and
// names what it has broken: SP, BP, stack (above the argument), MXCSR (but for exception flags), DF, or upper halves of vector
// registers that have not been cleared.
func Broken(fn, arg unsafe.Pointer) (what []string) {
	mutex.Lock()
	defer mutex.Unlock()
	s := &state
	if s.zmm = 0; cpu.X86.HasAVX512F {
		s.zmm = 1
	}
	run(fn, arg)
	report := func(broken bool, name string) {
		if broken {
			what = append(what, name)
		}
	}
	report(s.sp != s.spAfter, "SP")
	report(s.bp != s.bpAfter, "BP")
	stack, upper := false, false
	for _, w := range s.stack {
		stack = stack || w != canary
	}
	for _, v := range s.vectors {
		for _, w := range v[2:] {
			upper = upper || w != 0
		}
	}
	report(stack, "stack")
	report((s.mxcsr^s.mxcsrAfter)&^0x3F != 0, "MXCSR")
	report(s.flagsAfter>>10&1 != 0, "DF")
	report(upper, "upper halves")
	return what
}

// plants is a table of the functions that break something, in the order of Plants.
func plants() unsafe.Pointer

// Plants are functions that break what their name says.
func Plants() map[string]unsafe.Pointer {
	names := []string{"", "SP", "BP", "stack", "MXCSR", "DF", "upper halves", "upper halves of ZMM"}
	fns := map[string]unsafe.Pointer{}
	for i, name := range names {
		if i < 7 || cpu.X86.HasAVX512F {
			fns[name] = unsafe.Slice((*unsafe.Pointer)(plants()), len(names))[i]
		}
	}
	return fns
}
