package main

import "fmt"

// smoothing is the ε of every contender.
const smoothing = 0.1

// directions are what is measured: the loss, and the loss with its gradient.
var directions = []string{"forward", "gradient"}

// benchCase is a batch to measure with.
type benchCase struct {
	kind                  string // what is special about it: the beginning of its name
	dtype                 string // float32, float64 or bfloat16
	outer, classes, inner int    // logits are [outer, classes, inner]; inner is 1 where the class axis is last
	floors                floors
	sameISA               bool  // lsr's AVX2 kernel competes with PyTorch at AVX2, not with PyTorch's better capability
	cold                  bool  // larger than the caches: reading the logits is timed, too
	threads               []int // thread counts to compare; nil: the one that the flag says
}

// floors are the least speed-ups over PyTorch that are asked for, of kernels of lsr (or its "best"), by direction.
type floors map[string][2]float64

// name is classes x rows, or the shape where the class axis is not last.
func (c *benchCase) name() string {
	name := fmt.Sprintf("%dx%d", c.classes, c.rows())
	if c.inner > 1 {
		name = fmt.Sprintf("%dx%dx%d", c.outer, c.classes, c.inner)
	}
	if c.kind != "" {
		name = c.kind + " " + name
	}
	return name
}

func (c *benchCase) rows() int { return c.outer * c.inner }
func (c *benchCase) size() int { return c.outer * c.classes * c.inner }

var cases = []*benchCase{
	{"", "float32", 8192, 2, 1, floors{"avx2": {45, 55}, "avx512": {65, 75}}, false, false, nil},
	{"", "float32", 8192, 10, 1, floors{"avx2": {13, 21}, "avx512": {20, 28}}, false, false, nil},
	{"", "float32", 4096, 37, 1, floors{"avx2": {7, 8}, "avx512": {8, 8}}, false, false, nil},
	{"", "float32", 4096, 100, 1, floors{"avx2": {6, 7.5}, "avx512": {7, 8.5}}, false, false, nil},
	{"", "float32", 256, 1000, 1, floors{"avx2": {6, 8.7}, "avx512": {5.8, 8.2}}, true, false, nil},
	{"", "float32", 128, 32000, 1, floors{"avx2": {5.8, 6.5}, "avx512": {5.5, 6}}, true, false, nil},
	{"", "float32", 32, 128256, 1, floors{"avx2": {5.8, 7}, "avx512": {5.5, 6}}, true, false, nil},
	{"plane", "float32", 2, 19, 512 * 512, floors{"avx2": {5, 7.5}, "avx512": {6.3, 8}}, true, false, nil},
	{"float64", "float64", 256, 1000, 1, floors{"best": {3.2, 6}}, false, false, nil},
	{"bfloat16", "bfloat16", 256, 1000, 1, floors{"avx512": {5, 8}}, false, false, nil},
	{"cold", "float32", 65536, 1000, 1, nil, false, true, nil},
	{"threads", "float32", 4096, 1000, 1, nil, false, false, []int{1, 2}},
	{"threads", "float32", 128, 32000, 1, nil, false, false, []int{1, 2}},
}
