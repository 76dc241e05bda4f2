package lsr

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

var benchShapes = [][2]int{{8192, 2}, {8192, 10}, {4096, 37}, {4096, 100}, {256, 1000}, {128, 32000}}

// normal is logits from a normal distribution (0, 3), and targets.
func normal(rows, classes int) ([]float32, []int) {
	r := rand.New(rand.NewPCG(1, 2))
	logits, targets := make([]float32, rows*classes), make([]int, rows)
	for i := range logits {
		logits[i] = float32(3 * r.NormFloat64())
	}
	for i := range targets {
		targets[i] = r.IntN(classes)
	}
	return logits, targets
}

// BenchmarkLoss measures each kernel on one goroutine, forward and with the gradient. The command's bench has the usual loop beside it.
func BenchmarkLoss(b *testing.B) {
	for _, shape := range benchShapes {
		logits, targets := normal(shape[0], shape[1])
		dst := make([]float32, len(logits))
		x, g := Rows(logits, shape[1]), Rows(dst, shape[1])
		for _, kernel := range Kernels() {
			c := criterion(b, Smoothing(0.1), Workers(1), Kernel(kernel))
			for name, f := range map[string]func(){
				"forward": func() { Forward(c, x, targets) },
				"grad":    func() { Grad(c, g, x, targets) },
			} {
				b.Run(fmt.Sprintf("K=%d/%s/%s", shape[1], kernel, name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						f()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(logits)), "ns/logit")
				})
			}
		}
	}
}
