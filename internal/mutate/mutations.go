package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mutant is a file with one line changed.
type mutant struct {
	line     int // counted from 1
	function string
	old, new string
}

func (m mutant) String() string {
	fields := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if fields(m.new) == "" {
		return fmt.Sprintf("%d (%s): %s: dropped", m.line, m.function, fields(m.old))
	}
	return fmt.Sprintf("%d (%s): %s → %s", m.line, m.function, fields(m.old), fields(m.new))
}

// source is an assembly file, and which of its lines can be changed.
type source struct {
	lines     []string
	function  []string // that a line belongs to
	code      []int    // instructions
	constants []int    // DATA
}

var (
	textLine        = regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	dataLine        = regexp.MustCompile(`^(DATA .*\$0x)([0-9a-f]{16})$`)
	instructionLine = regexp.MustCompile(`^\t([A-Z][A-Z0-9.]*)(\s.*)?$`)
)

// parse finds the lines to change. Prefetches are left alone: they change the speed only. So are RET and the function features,
// which no kernel calls.
func parse(text string, skip func(function string) bool) *source {
	s := &source{lines: strings.Split(text, "\n")}
	function := ""
	for i, line := range s.lines {
		if m := textLine.FindStringSubmatch(line); m != nil {
			function = m[1]
		}
		if dataLine.MatchString(line) {
			function = "constants"
			s.constants = append(s.constants, i)
		}
		s.function = append(s.function, function)
		m := instructionLine.FindStringSubmatch(line)
		if m != nil && m[1] != "RET" && !strings.HasPrefix(m[1], "PREFETCH") && function != "features" && !skip(function) {
			s.code = append(s.code, i)
		}
	}
	return s
}

// draw draws a mutant: of ten, one has a bit of a constant changed, and the others an instruction.
func (s *source) draw(r *rand.Rand) mutant {
	if len(s.constants) != 0 && r.IntN(10) == 0 {
		i := s.constants[r.IntN(len(s.constants))]
		m := dataLine.FindStringSubmatch(s.lines[i])
		word, _ := strconv.ParseUint(m[2], 16, 64)
		return mutant{i + 1, s.function[i], s.lines[i], fmt.Sprintf("%s%016x", m[1], word^1<<r.IntN(64))}
	}
	i := s.code[r.IntN(len(s.code))]
	all := changes(s.lines[i])
	return mutant{i + 1, s.function[i], s.lines[i], all[r.IntN(len(all))]}
}

// apply is the file with a mutant's line.
func (s *source) apply(m mutant) string {
	lines := slices.Clone(s.lines)
	lines[m.line-1] = m.new
	return strings.Join(lines, "\n")
}

// opcodes are parts of mnemonics, and what takes their place.
var opcodes = []struct {
	part string
	to   []string
}{
	{"FNMADD", []string{"FMADD", "FNMSUB"}}, {"FMADD", []string{"FNMADD", "FMSUB"}}, {"FMSUB", []string{"FMADD"}},
	{"ADD", []string{"SUB"}}, {"SUB", []string{"ADD"}}, {"MUL", []string{"ADD"}}, {"DIV", []string{"MUL"}},
	{"MAX", []string{"MIN"}}, {"MIN", []string{"MAX"}}, {"AND", []string{"OR"}}, {"OR", []string{"AND"}},
	{"SLL", []string{"SRL"}}, {"SRL", []string{"SLL"}}, {"SHL", []string{"SHR"}}, {"SHR", []string{"SHL"}},
	{"INC", []string{"DEC"}}, {"DEC", []string{"INC"}}, {"UNPCKL", []string{"UNPCKH"}}, {"UNPCKH", []string{"UNPCKL"}},
	{"213", []string{"231"}}, {"231", []string{"213"}}, {"132", []string{"213"}},
}

// conditions are whole mnemonics, and what takes their place.
var conditions = map[string][]string{
	"JGE": {"JLT", "JGT"}, "JLT": {"JGE", "JLE"}, "JL": {"JGE", "JLE"}, "JG": {"JLE", "JGE"}, "JE": {"JNE"}, "JNE": {"JE"}, "JCS": {"JCC"},
	"CMOVQLT": {"CMOVQGT"}, "CMOVQGT": {"CMOVQLT"},
}

var (
	immediate = regexp.MustCompile(`\$(-?(0x)?[0-9a-f]+)\b`)
	memory    = regexp.MustCompile(`(-?\d+)?\([A-Z0-9]+\)`)
	constant  = regexp.MustCompile(`constants<>\+(\d+)\(SB\)`)
	scale     = regexp.MustCompile(`\*([1248])\)`)
)

// changes are all that may become of an instruction: nothing, another operation or condition, another immediate, offset or
// scale.
func changes(line string) (all []string) {
	m := instructionLine.FindStringSubmatch(line)
	name, operands := m[1], m[2]
	all = append(all, "")
	put := func(name, operands string) { all = append(all, "\t"+name+operands) }
	if to, ok := conditions[name]; ok {
		for _, to := range to {
			put(to, operands)
		}
	} else {
		for _, o := range opcodes {
			if strings.Contains(name, o.part) {
				for _, to := range o.to {
					put(strings.Replace(name, o.part, to, 1), operands)
				}
				break
			}
		}
	}
	// numbers replaces a number in the operands.
	numbers := func(pattern *regexp.Regexp, to func(v int64) []string) {
		for _, at := range pattern.FindAllStringSubmatchIndex(operands, -1) {
			lo, hi, v := at[2], at[3], int64(0)
			if lo < 0 { // an offset of 0 is not written
				lo, hi = at[0], at[0]
			} else {
				v, _ = strconv.ParseInt(operands[lo:hi], 0, 64)
			}
			for _, to := range to(v) {
				put(name, operands[:lo]+to+operands[hi:])
			}
		}
	}
	near := func(by ...int64) func(int64) []string {
		return func(v int64) (s []string) {
			for _, d := range by {
				s = append(s, fmt.Sprint(v+d))
			}
			return s
		}
	}
	numbers(immediate, near(1, -1))
	if constant.MatchString(operands) {
		numbers(constant, near(32)) // 8 on lies the same number again
	} else {
		numbers(memory, near(8, -8))
	}
	numbers(scale, func(v int64) []string { return []string{fmt.Sprint(v % 8 * 2 % 16), fmt.Sprint(max(v/2, 1))} })
	return slices.DeleteFunc(all, func(s string) bool { return s == line })
}
