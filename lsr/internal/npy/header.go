package npy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// header is what a .npy header says.
type header struct {
	descr   string
	fortran bool
	shape   []int
}

// parser reads the header, a Python dict of three entries in any order:
//
//	{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
type parser struct{ rest string }

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take skips a token if it comes next.
func (p *parser) take(token string) bool {
	p.space()
	rest, found := strings.CutPrefix(p.rest, token)
	p.rest = rest
	return found
}

func (p *parser) expected(what string) error {
	got := p.rest
	if len(got) > 20 {
		got = got[:20] + "…"
	}
	return fmt.Errorf("header: expected %s, got %q", what, got)
}

// str reads a quoted string without escapes.
func (p *parser) str() (string, error) {
	p.space()
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", p.expected("a string")
	}
	text, rest, found := strings.Cut(p.rest[1:], p.rest[:1])
	if !found || strings.ContainsAny(text, "\\\n") {
		return "", p.expected("a string")
	}
	p.rest = rest
	return text, nil
}

// shape reads a tuple of numbers.
func (p *parser) shape() ([]int, error) {
	if !p.take("(") {
		return nil, p.expected("a tuple")
	}
	shape := []int{}
	for comma := true; !p.take(")"); comma = p.take(",") {
		digits := len(p.rest) - len(strings.TrimLeft(p.rest, "0123456789"))
		if !comma || digits == 0 {
			return nil, p.expected("a number, or the end of the shape")
		}
		if digits > 1 && p.rest[0] == '0' {
			return nil, p.expected("a number without leading zeros")
		}
		n, err := strconv.Atoi(p.rest[:digits])
		if err != nil {
			return nil, p.expected("a number below 2⁶³")
		}
		if p.rest = strings.TrimPrefix(p.rest[digits:], "L"); len(shape) == maxDims {
			return nil, p.expected("at most 64 dimensions")
		}
		shape = append(shape, n)
	}
	return shape, nil
}

func parse(text string) (h header, err error) {
	p := parser{text}
	if !p.take("{") {
		return h, p.expected("a dict")
	}
	seen := map[string]bool{}
	for comma := true; !p.take("}"); comma = p.take(",") {
		if !comma {
			return h, p.expected("a comma, or the end of the dict")
		}
		key, err := p.str()
		if err != nil {
			return h, err
		}
		if seen[key] || !p.take(":") {
			return h, p.expected("a colon after a new key")
		}
		seen[key] = true
		switch key {
		case "descr":
			h.descr, err = p.str()
		case "fortran_order":
			if h.fortran = p.take("True"); !h.fortran && !p.take("False") {
				err = p.expected("True or False")
			}
		case "shape":
			h.shape, err = p.shape()
		default:
			return h, fmt.Errorf("header: expected descr, fortran_order and shape, got %q", key)
		}
		if err != nil {
			return h, err
		}
	}
	if p.space(); p.rest != "" {
		return h, p.expected("the end of the header")
	}
	if len(seen) != 3 {
		return h, fmt.Errorf("header: expected descr, fortran_order and shape, got %d of them", len(seen))
	}
	return h, nil
}

// product multiplies dimensions and the element size; it reports whether the result is an int.
func product(shape []int, size int) (int, bool) {
	n, zero := size, false
	for _, d := range shape {
		if d == 0 {
			zero = true
			continue
		}
		if n > math.MaxInt/d {
			return 0, false
		}
		n *= d
	}
	if zero {
		n = 0
	}
	return n, true
}
