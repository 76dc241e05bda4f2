// Package bench measures how long package lsr takes for a logit, by number of classes and kernel.
package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/golsr/lsr"
)

// Usual is the name, among those of the kernels, of the loop that people write instead: a row's largest logit, its sums by
// math.Exp, and the gradient. It is measured for float32 on one goroutine.
const Usual = "usual"

const (
	smoothing   = 0.1
	batchLogits = 1 << 18
	leastRows   = 8
	mostClasses = 1 << 22
	warmUp      = time.Millisecond // a CPU that has done scalar work for a while gives vectors their full speed only after some 0.7 ms
	roundTime   = time.Millisecond
	slowRounds  = 3 // plain Go and the usual loop take part in one of so many rounds
)

// Config is what to measure.
type Config struct {
	Classes []int  // numbers of classes; the report has each once, in order
	Type    string // of the elements: float32, float64, float16 or bfloat16
	Rounds  int    // the fastest counts
	Workers int    // goroutines; 0: one for each CPU
}

// Defaults is a measurement that takes some seconds.
func Defaults() Config {
	return Config{
		Classes: []int{2, 3, 4, 5, 8, 10, 16, 21, 32, 50, 64, 100, 200, 365, 512, 1000, 2048, 4096, 10000, 32000, 128256},
		Type:    "float32",
		Rounds:  15,
		Workers: 1,
	}
}

// contender is a way to compute the loss, or the loss and its gradient, of a batch.
type contender struct {
	kernel string
	slow   bool
	logits int
	call   func() error
	times  map[string]float64 // where the fastest round goes, by kernel: ns per logit
}

// Run measures. In every round each contender of each number of classes has its turn, so that what disturbs the machine for
// a while disturbs all of them, and none for all rounds. It calls progress, unless that is nil, after each turn.
func Run(ctx context.Context, cfg Config, progress func(done, total int)) (*Report, error) {
	if len(cfg.Classes) == 0 {
		return nil, fmt.Errorf("bench: expected at least one number of classes, got none")
	}
	cfg.Classes = slices.Compact(slices.Sorted(slices.Values(cfg.Classes)))
	for _, k := range cfg.Classes {
		if k < 1 || k > mostClasses {
			return nil, fmt.Errorf("bench: classes must be in [1, %d], got %d", mostClasses, k)
		}
	}
	if cfg.Rounds < 1 || cfg.Rounds > 1<<16 {
		return nil, fmt.Errorf("bench: rounds must be in [1, %d], got %d", 1<<16, cfg.Rounds)
	}
	switch cfg.Type {
	case "float32":
		return measure(ctx, cfg, progress, func(x float64) float32 { return float32(x) })
	case "float64":
		return measure(ctx, cfg, progress, func(x float64) float64 { return x })
	case "float16":
		return measure(ctx, cfg, progress, func(x float64) lsr.Float16 { return lsr.ToFloat16(float32(x)) })
	case "bfloat16":
		return measure(ctx, cfg, progress, func(x float64) lsr.BFloat16 { return lsr.ToBFloat16(float32(x)) })
	}
	return nil, fmt.Errorf("bench: type must be float32, float64, float16 or bfloat16, got %q", cfg.Type)
}

func measure[T lsr.Element](ctx context.Context, cfg Config, progress func(done, total int), convert func(float64) T) (*Report, error) {
	r := newReport(cfg)
	contenders, err := prepare(r, convert)
	if err != nil {
		return nil, err
	}
	done, total := 0, 0
	for _, c := range contenders {
		total += r.rounds(c.slow)
	}
	for round := range cfg.Rounds {
		for i := range contenders {
			c := &contenders[i]
			if c.slow && round%slowRounds != 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := c.turn(); err != nil {
				return nil, err
			}
			if done++; progress != nil {
				progress(done, total)
			}
		}
	}
	return r, nil
}

// prepare makes the report's lines, and what measures them. All share the same logits, normal(0, 3), and the same memory.
func prepare[T lsr.Element](r *Report, convert func(float64) T) (contenders []contender, err error) {
	random, most := rand.New(rand.NewPCG(1, 2)), 0
	for i := range r.Lines {
		most = max(most, r.Lines[i].Rows*r.Lines[i].Classes)
	}
	logits, gradient := make([]T, most), make([]T, most)
	for i := range logits {
		logits[i] = convert(3 * random.NormFloat64())
	}
	for i := range r.Lines {
		line := &r.Lines[i]
		size := line.Rows * line.Classes
		targets := make([]int32, line.Rows)
		for i := range targets {
			targets[i] = random.Int32N(int32(line.Classes))
		}
		add := func(kernel string, forward, grad func() error) {
			slow := kernel == "go" || kernel == Usual
			contenders = append(contenders, contender{kernel, slow, size, forward, line.Forward},
				contender{kernel, slow, size, grad, line.Gradient})
		}
		x, g := lsr.Rows(logits[:size], line.Classes), lsr.Rows(gradient[:size], line.Classes)
		for _, kernel := range r.Kernels {
			if kernel == Usual {
				x, g := any(logits).([]float32), any(gradient).([]float32)
				add(kernel, func() error { usual(nil, x, line.Classes, targets); return nil },
					func() error { usual(g, x, line.Classes, targets); return nil })
				continue
			}
			criterion, err := lsr.New(lsr.Smoothing(smoothing), lsr.Workers(r.Workers), lsr.Kernel(kernel))
			if err != nil {
				return nil, err
			}
			add(kernel, func() error { _, err := lsr.Forward(criterion, x, targets); return err },
				func() error { _, err := lsr.Grad(criterion, g, x, targets); return err })
		}
	}
	return contenders, nil
}

// turn is a contender's part of a round: calls to warm up, and calls that count.
func (c *contender) turn() error {
	if _, err := c.callFor(warmUp); err != nil {
		return err
	}
	each, err := c.callFor(roundTime)
	each /= float64(c.logits)
	if best, measured := c.times[c.kernel]; !measured || each < best {
		c.times[c.kernel] = each
	}
	return err
}

// callFor calls a contender until some time has passed, and returns the nanoseconds of a call.
func (c *contender) callFor(d time.Duration) (each float64, err error) {
	calls, start, elapsed := 0, time.Now(), time.Duration(0)
	for ; err == nil && elapsed < d; elapsed = time.Since(start) {
		err = c.call()
		calls++
	}
	return float64(elapsed) / float64(calls), err
}

// usual returns the mean loss, and writes its gradient to dst unless that is nil.
func usual(dst, logits []float32, classes int, targets []int32) float64 {
	rows, total := float64(len(targets)), 0.0
	for i, y := range targets {
		row := logits[i*classes : (i+1)*classes]
		largest := slices.Max(row)
		sum, linear := 0.0, 0.0
		for k, x := range row {
			d := float64(x - largest)
			e := math.Exp(d)
			sum += e
			linear += d
			if dst != nil {
				dst[i*classes+k] = float32(e)
			}
		}
		total += math.Log(sum) - (1-smoothing)*float64(row[y]-largest) - smoothing*linear/float64(classes)
		if dst == nil {
			continue
		}
		g := dst[i*classes : (i+1)*classes]
		scale, uniform := float32(1/(sum*rows)), float32(smoothing/float64(classes)/rows)
		for k := range g {
			g[k] = g[k]*scale - uniform
		}
		g[y] -= float32((1 - smoothing) / rows)
	}
	return total / rows
}
