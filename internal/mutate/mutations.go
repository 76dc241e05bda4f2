package main

import (
	"fmt"
	"math"
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
	function  []string       // that a line belongs to
	code      []int          // instructions
	constants []int          // DATA
	words     map[int]string // what it says, by offset
}

var (
	textLine        = regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)
	dataLine        = regexp.MustCompile(`^(DATA .*\$0x)([0-9a-f]{16})$`)
	prefetchLine    = regexp.MustCompile(`^\tPREFETCHT[01]\s+(?:64|128|192)?\((\w+)\)(?:\(\w+\*1\))?$`)
	startLine       = regexp.MustCompile(`^\t(MOVQ|LEAQ)\s`)
	register        = regexp.MustCompile(`\b(?:[ABCD]X|[SD]I|R[89]|R1[0-5])\b`)
	instructionLine = regexp.MustCompile(`^\t([A-Z][A-Z0-9.]*)(\s.*)?$`)
)

// leftAlone are instructions that are not changed: alignment changes the speed only, and no test can wait for a fence.
var leftAlone = []string{"RET", "PCALIGN", "SFENCE"}

// parse finds the lines to change. Prefetches and what computes their addresses are left alone: they change the speed only, and
// so are constants that only functions to skip read.
func parse(text string, skip func(function string) bool) *source {
	s := &source{lines: strings.Split(text, "\n"), words: map[int]string{}}
	function, read := "", map[int]bool{} // whether a constant that starts at an offset is read by others
	for i, line := range s.lines {
		if m := textLine.FindStringSubmatch(line); m != nil {
			function = m[1]
		}
		if dataLine.MatchString(line) {
			function = "constants"
			offset, _ := strconv.Atoi(constant.FindStringSubmatch(line)[1])
			s.words[offset] = line[strings.LastIndexByte(line, '$'):]
			start := offset
			for _, starts := read[start]; !starts && start > 0; _, starts = read[start] {
				start -= 8
			}
			if others, starts := read[start]; others || !starts {
				s.constants = append(s.constants, i)
			}
		} else if m := constant.FindStringSubmatch(line); m != nil {
			offset, _ := strconv.Atoi(m[1])
			read[offset] = read[offset] || !skip(function)
		}
		s.function = append(s.function, function)
		m := instructionLine.FindStringSubmatch(line)
		if m != nil && !slices.Contains(leftAlone, m[1]) && !strings.HasPrefix(m[1], "PREFETCH") && !skip(function) {
			s.code = append(s.code, i)
		}
	}
	s.code = slices.DeleteFunc(s.code, s.prefetches())
	return s
}

// prefetches tells lines apart that compute an address which is only prefetched: from the MOVQ or LEAQ to the register up to the
// line that moves it on, which follows one prefetch or some.
func (s *source) prefetches() func(i int) bool {
	lines := map[int]bool{}
	for i, line := range s.lines {
		m := prefetchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		writes := func(i int) bool { return strings.HasSuffix(s.lines[i], ", "+m[1]) }
		first, last := i-1, i+1
		for ; first > 0 && !(writes(first) && startLine.MatchString(s.lines[first])); first-- {
		}
		for last < len(s.lines)-1 && prefetchLine.MatchString(s.lines[last]) {
			last++
		}
		last = min(last, len(s.lines)-1)
		loads := func(line string) bool { return strings.Contains(line, "("+m[1]) && !prefetchLine.MatchString(line) }
		if slices.ContainsFunc(s.lines[first:last+1], loads) {
			continue
		}
		for j := first; j <= last; j++ {
			if writes(j) {
				lines[j] = true
			}
		}
	}
	// Registers that such addresses are made of, and nothing else.
	seen := map[[2]string]bool{}
	for i, line := range s.lines {
		if !lines[i] && !prefetchLine.MatchString(line) {
			continue
		}
		for _, r := range register.FindAllString(line, -1) {
			if key := [2]string{s.function[i], r}; !seen[key] {
				seen[key] = true
				for _, j := range s.feeds(i, r, lines) {
					lines[j] = true
				}
			}
		}
	}
	return func(i int) bool { return lines[i] }
}

// feeds are the lines of line i's function that write a register which only these, prefetches and the lines given read; nil if others do.
func (s *source) feeds(i int, r string, given map[int]bool) (feeds []int) {
	whole := regexp.MustCompile(`\b` + r + `\b`)
	for j, line := range s.lines {
		switch {
		case s.function[j] != s.function[i] || !whole.MatchString(line) || given[j] || prefetchLine.MatchString(line):
		case strings.HasSuffix(line, ", "+r) && len(whole.FindAllString(line, -1)) == 1:
			feeds = append(feeds, j)
		default:
			return nil
		}
	}
	return feeds
}

// draw draws a mutant: of ten, one has a bit of a constant changed, and the others an instruction.
func (s *source) draw(r *rand.Rand) mutant {
	for {
		if m := s.any(r); !s.sameConstant(m) && !s.overlaps(m) {
			return m
		}
	}
}

// sameConstant reports whether a mutant reads another constant that is the same: tables are there twice.
func (s *source) sameConstant(m mutant) bool {
	was, is := constant.FindStringSubmatch(m.old), constant.FindStringSubmatch(m.new)
	if was == nil || is == nil || was[1] == is[1] || dataLine.MatchString(m.old) {
		return false
	}
	vector := func(start string) (words []string) {
		offset, _ := strconv.Atoi(start)
		for i := range 4 {
			words = append(words, s.words[offset+8*i])
		}
		return words
	}
	return slices.Equal(vector(was[1]), vector(is[1]))
}

// overlaps reports whether a mutant takes a smaller step to what is next but stops at the last: all is computed, some of it twice.
func (s *source) overlaps(m mutant) bool {
	step := func(line string) int64 {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "ADDQ" || f[1][0] != '$' {
			return 0
		}
		v, _ := strconv.ParseInt(strings.Trim(f[1], "$+,"), 0, 64)
		return v
	}
	stops := m.line+1 < len(s.lines) && strings.HasPrefix(s.lines[m.line+1], "\tCMOVQGT")
	return stops && 0 < step(m.new) && step(m.new) < step(m.old)
}

func (s *source) any(r *rand.Rand) mutant {
	if len(s.constants) != 0 && r.IntN(10) == 0 {
		i := s.constants[r.IntN(len(s.constants))]
		m := dataLine.FindStringSubmatch(s.lines[i])
		word, _ := strconv.ParseUint(m[2], 16, 64)
		bit := r.IntN(64)
		switch high, low := word>>32, word&math.MaxUint32; {
		case high == low:
		case high < 32 && low < 32: // places that a permutation takes elements from, of which five bits count
			bit = bit&32 | bit%5
		default:
			bit |= 32 // a float64, the end of which would change a result once in a billion
		}
		return mutant{i + 1, s.function[i], s.lines[i], fmt.Sprintf("%s%016x", m[1], word^1<<bit)}
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

// conditions are whole mnemonics, and what takes their place. JGE becomes no JG: it skips tails, and one of no elements adds 0.
var conditions = map[string][]string{
	"JGE": {"JLT"}, "JLT": {"JGE", "JLE"}, "JL": {"JGE", "JLE"}, "JG": {"JLE", "JGE"}, "JE": {"JNE"}, "JNE": {"JE"}, "JCS": {"JCC"},
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
	switch {
	case strings.HasPrefix(name, "VCMP"): // not to a predicate that differs only where both sides are equal
		numbers(immediate, func(v int64) []string { return []string{fmt.Sprint(v - 1), fmt.Sprint(v ^ 4)} })
	case name == "VCVTPS2PH", name == "BTQ": // not to -1: rounding as MXCSR says, and a copy of what is there
		numbers(immediate, near(1))
	default:
		numbers(immediate, near(1, -1))
	}
	if constant.MatchString(operands) {
		numbers(constant, near(32)) // 8 on lies the same number again
	} else {
		numbers(memory, near(8, -8))
	}
	numbers(scale, func(v int64) []string { return []string{fmt.Sprint(v % 8 * 2 % 16), fmt.Sprint(max(v/2, 1))} })
	return slices.DeleteFunc(all, func(s string) bool { return s == line })
}
