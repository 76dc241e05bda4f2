package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sample = `TEXT ·sumAVX2(SB), NOSPLIT, $0-8
	PCALIGN    $0x40
	MOVQ       96(AX), CX
loop1:
	VADDPS     (CX)(R9*4), Y1, Y1
	PREFETCHT0 256(CX)
	VADDPS     constants<>+256(SB), Y1, Y1
	VMOVUPS    Y4, Y5
	CMPQ       R9, $-32
	JLT        loop1
	RET

TEXT ·sumAVX512(SB), NOSPLIT, $0-8
	VADDPS constants<>+64(SB), Z2, Z3
	RET

DATA constants<>+0(SB)/8, $0x3f8000003f800000
DATA constants<>+64(SB)/8, $0x3f8000003f800000
DATA constants<>+72(SB)/8, $0x3f8000003f800000
GLOBL constants<>(SB), RODATA|NOPTR, $80
`

func TestParse(t *testing.T) {
	s := parse(sample, func(function string) bool { return strings.HasSuffix(function, "AVX512") })
	var code []string
	for _, i := range s.code {
		require.Equal(t, "sumAVX2", s.function[i])
		code = append(code, strings.Fields(s.lines[i])[0])
	}
	require.Equal(t, []string{"MOVQ", "VADDPS", "VADDPS", "VMOVUPS", "CMPQ", "JLT"}, code)
	require.Len(t, s.constants, 1) // what only the other reads is left alone
	require.Len(t, parse(sample, func(string) bool { return false }).constants, 3)
}

func TestChanges(t *testing.T) {
	for line, want := range map[string][]string{
		"\tMOVQ 96(AX), CX":                    {"", "\tMOVQ 104(AX), CX", "\tMOVQ 88(AX), CX"},
		"\tVADDPS (CX)(R9*4), Y1, Y1":          {"", "\tVSUBPS (CX)(R9*4), Y1, Y1", "\tVADDPS 8(CX)(R9*4), Y1, Y1", "\tVADDPS -8(CX)(R9*4), Y1, Y1", "\tVADDPS (CX)(R9*8), Y1, Y1", "\tVADDPS (CX)(R9*2), Y1, Y1"},
		"\tVMULPS constants<>+256(SB), Y1, Y1": {"", "\tVADDPS constants<>+256(SB), Y1, Y1", "\tVMULPS constants<>+288(SB), Y1, Y1"},
		"\tVFNMADD132PS Y1, Y2, Y3":            {"", "\tVFMADD132PS Y1, Y2, Y3", "\tVFNMSUB132PS Y1, Y2, Y3"},
		"\tCMPQ R9, $-32":                      {"", "\tCMPQ R9, $-31", "\tCMPQ R9, $-33"},
		"\tSHLQ $0x02, CX":                     {"", "\tSHRQ $0x02, CX", "\tSHLQ $3, CX", "\tSHLQ $1, CX"},
		"\tJLT loop1":                          {"", "\tJGE loop1", "\tJLE loop1"},
		"\tVCMPPS $0x15, Y1, Y2, Y3":           {"", "\tVCMPPS $20, Y1, Y2, Y3", "\tVCMPPS $17, Y1, Y2, Y3"},
		"\tVZEROUPPER":                         {""},
	} {
		require.Equal(t, want, changes(line), line)
	}
}

// TestEquivalent has mutants that change nothing but the speed.
func TestEquivalent(t *testing.T) {
	s := parse(`TEXT ·sumAVX2(SB), NOSPLIT, $0-8
	MOVQ       168(AX), SI
	MOVQ       176(AX), R11
	MOVQ       SI, R10
	ADDQ       152(AX), R10
loop1:
	PREFETCHT1 (R10)
	PREFETCHT1 (R10)(R11*1)
	ADDQ       160(AX), R10
	LEAQ       1536(SI), R12
	PREFETCHT0 (R12)
	PREFETCHT0 64(R12)
	ADDQ       $+128, R12
	MOVQ       CX, R9
	PREFETCHT0 (R9)
	VMAXPS     (R9), Y1, Y1
	VADDPS     constants<>+0(SB), Y1, Y1
DATA constants<>+0(SB)/8, $0x3f8000003f800000
DATA constants<>+32(SB)/8, $0x3f8000003f800000
DATA constants<>+64(SB)/8, $0x3f8000003f800001
`, func(string) bool { return false })
	var code []string
	for _, i := range s.code {
		code = append(code, strings.Join(strings.Fields(s.lines[i]), " "))
	}
	require.Equal(t, []string{"MOVQ CX, R9", "VMAXPS (R9), Y1, Y1", "VADDPS constants<>+0(SB), Y1, Y1"}, code)
	const old = "\tVADDPS     constants<>+0(SB), Y1, Y1"
	require.True(t, s.sameConstant(mutant{old: old, new: strings.Replace(old, "+0", "+32", 1)}))
	require.False(t, s.sameConstant(mutant{old: old, new: strings.Replace(old, "+0", "+64", 1)}))
	require.False(t, s.sameConstant(mutant{old: old, new: ""}))

	s = parse("TEXT ·sumAVX2(SB), NOSPLIT, $0-8\n\tADDQ    $0x04, DI\n\tCMPQ    DI, R8\n\tCMOVQGT R8, DI\n\tADDQ    $0x04, DI\n", func(string) bool { return false })
	for line, overlaps := range map[int]bool{2: true, 5: false} {
		const old = "\tADDQ    $0x04, DI"
		require.Equal(t, overlaps, s.overlaps(mutant{line: line, old: old, new: "\tADDQ $3, DI"}))
		require.False(t, s.overlaps(mutant{line: line, old: old, new: "\tADDQ $5, DI"}))
		require.False(t, s.overlaps(mutant{line: line, old: old, new: "\tSUBQ $0x04, DI"}))
		require.False(t, s.overlaps(mutant{line: line, old: old, new: ""}))
	}
}

func TestDraw(t *testing.T) {
	s := parse(sample, func(string) bool { return false })
	r, again := rand.New(rand.NewPCG(1, 0)), rand.New(rand.NewPCG(1, 0))
	lines := map[int]bool{}
	for range 1000 {
		m := s.draw(r)
		require.Equal(t, m, s.draw(again), "a seed's mutants are the same every time")
		require.NotEqual(t, m.old, m.new)
		require.Len(t, strings.Split(s.apply(m), "\n"), len(s.lines))
		lines[m.line] = true
	}
	require.Len(t, lines, 10, "every line is drawn")
}

// TestMutate has tests that notice all, and tests that notice nothing.
func TestMutate(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: builds mutants")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("NOT TESTED: the assembly here is for amd64")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module m\n\ngo 1.26\n",
		"m.go":      "package m\n\nfunc two() int\n",
		"m_amd64.s": "TEXT ·two(SB), 4, $0-8\n\tMOVQ $2, AX\n\tMOVQ AX, ret+0(FP)\n\tRET\n",
		"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestTwo(t *testing.T) {\n\tif two() != 2 {\n\t\tt.Fail()\n\t}\n}\n",
		"n_test.go": "package m\n\nimport \"testing\"\n\nfunc TestNothing(t *testing.T) {}\n",
		"o_test.go": "package m\n\nimport \"testing\"\n\nfunc TestFails(t *testing.T) { t.Fail() }\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	file := filepath.Join(dir, "m_amd64.s")
	require.NoError(t, mutate(3, 1, file, "Two"))
	require.ErrorContains(t, mutate(3, 1, file, "Nothing"), "fewer than 95 %")
	require.ErrorContains(t, mutate(3, 1, file, "Fails"), "before anything is changed")
}

// TestPlaces changes constants that are places of a permutation: only bits that count.
func TestPlaces(t *testing.T) {
	const places = "DATA constants<>+0(SB)/8, $0x0000001d0000000d\n"
	s := parse(places+sample, func(string) bool { return false })
	r := rand.New(rand.NewPCG(1, 1))
	changed := 0
	for range 2000 {
		m := s.any(r)
		word := dataLine.FindStringSubmatch(m.new)
		if m.line != 1 {
			continue // another
		}
		changed++
		v, err := strconv.ParseUint(word[2], 16, 64)
		require.NoError(t, err)
		require.NotEqual(t, uint64(0x0000001d0000000d), v)
		require.Zero(t, v&^0x0000001f0000001f, m.new)
	}
	require.NotZero(t, changed)
}
