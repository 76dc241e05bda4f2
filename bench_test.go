package lsr

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// usual is the loop that people write: three passes over a row, in float64 by math.Exp. It returns the mean loss, and
// writes its gradient to dst unless that is nil.
func usual(dst, logits []float32, classes int, targets []int, smoothing float64) float64 {
	total, uniform := 0.0, smoothing/float64(classes)
	for i, y := range targets {
		row := logits[i*classes : (i+1)*classes]
		largest := row[0]
		for _, x := range row {
			largest = max(largest, x)
		}
		sum, linear := 0.0, 0.0
		for _, x := range row {
			d := float64(x - largest)
			sum += math.Exp(d)
			linear += d
		}
		lse := math.Log(sum)
		total += (1-smoothing)*(lse-float64(row[y]-largest)) + smoothing*lse - uniform*linear
		if dst == nil {
			continue
		}
		g := dst[i*classes : (i+1)*classes]
		for k, x := range row {
			g[k] = float32((math.Exp(float64(x-largest))/sum - uniform) / float64(len(targets)))
		}
		g[y] -= float32((1 - smoothing) / float64(len(targets)))
	}
	return total / float64(len(targets))
}

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

// BenchmarkLoss compares the package with the usual loop on one goroutine, forward and with the gradient.
func BenchmarkLoss(b *testing.B) {
	criterion, err := New(Smoothing(0.1), Workers(1))
	if err != nil {
		b.Fatal(err)
	}
	for _, shape := range benchShapes {
		logits, targets := normal(shape[0], shape[1])
		dst := make([]float32, len(logits))
		x, g := Rows(logits, shape[1]), Rows(dst, shape[1])
		for _, c := range []struct {
			name string
			f    func()
		}{
			{"forward/lsr", func() { Forward(criterion, x, targets) }},
			{"forward/usual", func() { usual(nil, logits, shape[1], targets, 0.1) }},
			{"grad/lsr", func() { Grad(criterion, g, x, targets) }},
			{"grad/usual", func() { usual(dst, logits, shape[1], targets, 0.1) }},
		} {
			b.Run(fmt.Sprintf("K=%d/%s", shape[1], c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.f()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(logits)), "ns/logit")
			})
		}
	}
}

// The usual loop is a fair opponent only if it computes the same.
func TestUsual(t *testing.T) {
	logits, targets := normal(8, 37)
	want, got := make([]float32, len(logits)), make([]float32, len(logits))
	criterion, err := New(Smoothing(0.1))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Grad(criterion, Rows(got, 37), Rows(logits, 37), targets)
	if err != nil {
		t.Fatal(err)
	}
	if loss := usual(want, logits, 37, targets, 0.1); math.Abs(loss-r.Loss) > 1e-6 {
		t.Errorf("usual loop %v, lsr %v", loss, r.Loss)
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 1e-7 {
			t.Errorf("gradient %d: usual loop %v, lsr %v", i, want[i], got[i])
		}
	}
}
