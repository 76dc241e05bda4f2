package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sync"
	"time"
	"unsafe"

	"github.com/golsr/lsr"
	"github.com/viterin/vek/vek32"
)

// warmUp is how long a contender runs before it is timed: a CPU that has done scalar work for a while gives vectors their full speed
// only after some 0.7 ms.
const warmUp = 2 * time.Millisecond

// contender is one way to compute the loss, or the loss and its gradient.
type contender struct {
	name, direction string
	threads         int
	check           func() (loss, gradient float64, err error)                     // mean loss, Σ|gradient|; nil for readers
	round           func(calls int) (elapsed time.Duration, faults int, err error) // warms up, then times calls

	// Set by measure:
	calls, every int           // it makes so many calls in a round, in every so many rounds
	best         time.Duration // of one call, in its fastest round
	faults       float64       // page faults of one call, in that round
}

// data is a case's logits, as bytes, and targets; and the contenders in this process, lsr's first. All of them share the
// buffers.
type data struct {
	logits     []byte
	targets    []int64
	contenders []*contender
}

// newData makes logits that are normal(0, 3), by the conversion to the case's element type.
func newData[T lsr.Element](c *benchCase, threads []int, convert func(float64) T) (*data, error) {
	r := rand.New(rand.NewPCG(1, 2))
	logits, dst, targets := make([]T, c.size()), make([]T, c.size()), make([]int64, c.rows())
	for i := range logits {
		logits[i] = convert(3 * r.NormFloat64())
	}
	for i := range targets {
		targets[i] = r.Int64N(int64(c.classes))
	}
	d := &data{logits: asBytes(logits), targets: targets}
	add := func(name, direction string, n int, f func() (float64, error)) *contender {
		check := func() (float64, float64, error) {
			loss, err := f()
			return loss, sumAbs(dst), err
		}
		round := func(calls int) (time.Duration, int, error) {
			var err error
			for start := time.Now(); time.Since(start) < warmUp && err == nil; {
				_, err = f()
			}
			start := time.Now()
			for i := 0; i < calls && err == nil; i++ {
				_, err = f()
			}
			return time.Since(start), 0, err
		}
		d.contenders = append(d.contenders, &contender{name: name, direction: direction, threads: n, check: check, round: round})
		return d.contenders[len(d.contenders)-1]
	}
	for _, n := range threads {
		x, g := lsr.Rows(logits, c.classes), lsr.Rows(dst, c.classes)
		if c.inner > 1 {
			x, g = lsr.Planes(logits, c.classes, c.inner), lsr.Planes(dst, c.classes, c.inner)
		}
		for _, kernel := range lsr.Kernels() {
			criterion, err := lsr.New(lsr.Smoothing(smoothing), lsr.Workers(n), lsr.Kernel(kernel))
			if err != nil {
				return nil, err
			}
			add("lsr "+kernel, "forward", n, func() (float64, error) {
				r, err := lsr.Forward(criterion, x, targets)
				return r.Loss, err
			})
			add("lsr "+kernel, "gradient", n, func() (float64, error) {
				r, err := lsr.Grad(criterion, g, x, targets)
				return r.Loss, err
			})
		}
		switch logits := any(logits).(type) {
		case []float64:
			add("Go loop", "forward", n, func() (float64, error) { return loop(c, nil, logits, targets, n), nil })
			add("Go loop", "gradient", n, func() (float64, error) { return loop(c, any(dst).([]float64), logits, targets, n), nil })
		case []float32:
			add("Go loop", "forward", n, func() (float64, error) { return loop(c, nil, logits, targets, n), nil })
			add("Go loop", "gradient", n, func() (float64, error) { return loop(c, any(dst).([]float32), logits, targets, n), nil })
			if c.inner == 1 {
				buffer := make([]float32, n*c.classes)
				add("vek32", "forward", n, func() (float64, error) { return vek(c, buffer, logits, targets, n), nil })
			}
			for _, read := range readers {
				if c.cold {
					add("read", "forward", n, func() (float64, error) {
						return split(n, c.rows(), func(_, from, to int) float64 { return read(logits[from*c.classes : to*c.classes]) }), nil
					}).check = nil
				}
			}
		}
	}
	return d, nil
}

// split adds up f over the rows, which n goroutines share.
func split(n, rows int, f func(worker, from, to int) float64) float64 {
	if n == 1 {
		return f(0, 0, rows)
	}
	sums, total := make([]float64, n), 0.0
	var group sync.WaitGroup
	for w := range sums {
		group.Go(func() { sums[w] = f(w, rows*w/n, rows*(w+1)/n) })
	}
	group.Wait()
	for _, sum := range sums {
		total += sum
	}
	return total
}

// loop is what people write: the largest logit of a row, then the sums by math.Exp, and the gradient unless dst is nil.
func loop[T float32 | float64](c *benchCase, dst, logits []T, targets []int64, n int) float64 {
	rows := float64(c.rows())
	return split(n, c.rows(), func(_, from, to int) (total float64) {
		for i := from; i < to; i++ {
			first := i * c.classes
			if c.inner > 1 {
				first = i/c.inner*c.inner*c.classes + i%c.inner
			}
			end, target, largest := first+c.classes*c.inner, first+int(targets[i])*c.inner, logits[first]
			for j := first; j < end; j += c.inner {
				largest = max(largest, logits[j])
			}
			sum, linear := 0.0, 0.0
			for j := first; j < end; j += c.inner {
				d := float64(logits[j] - largest)
				e := math.Exp(d)
				sum += e
				linear += d
				if dst != nil {
					dst[j] = T(e)
				}
			}
			total += math.Log(sum) - (1-smoothing)*float64(logits[target]-largest) - smoothing*linear/float64(c.classes)
			if dst == nil {
				continue
			}
			scale, uniform := T(1/(sum*rows)), T(smoothing/float64(c.classes)/rows)
			for j := first; j < end; j += c.inner {
				dst[j] = dst[j]*scale - uniform
			}
			dst[target] -= T((1 - smoothing) / rows)
		}
		return total
	}) / rows
}

// vek is the loss by vek32's vector functions; buffer has a row for each goroutine.
func vek(c *benchCase, buffer, logits []float32, targets []int64, n int) float64 {
	return split(n, c.rows(), func(worker, from, to int) (total float64) {
		d := buffer[worker*c.classes : (worker+1)*c.classes]
		for i := from; i < to; i++ {
			row := logits[i*c.classes : (i+1)*c.classes]
			vek32.SubNumber_Into(d, row, vek32.Max(row))
			linear := (1-smoothing)*float64(d[targets[i]]) + smoothing*float64(vek32.Mean(d))
			vek32.Exp_Inplace(d)
			total += math.Log(float64(vek32.Sum(d))) - linear
		}
		return total
	}) / float64(c.rows())
}

// readers read the logits and do little else. The fastest is what memory allows.
var readers = []func(x []float32) float64{
	func(x []float32) float64 { return float64(vek32.Sum(x)) },
	func(x []float32) float64 { return float64(bytes.Count(asBytes(x), []byte{0})) },
	func(x []float32) float64 {
		var a, b, c, d uint64
		for _, w := range unsafe.Slice((*[8]uint64)(unsafe.Pointer(unsafe.SliceData(x))), len(x)/16) {
			a, b, c, d = a+w[0]+w[4], b+w[1]+w[5], c+w[2]+w[6], d+w[3]+w[7]
		}
		return float64(a + b + c + d)
	},
}

// asBytes looks at the memory of a slice.
func asBytes[T any](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(*new(T))))
}

// sumAbs is Σ|x|.
func sumAbs[T lsr.Element](x []T) (sum float64) {
	switch x := any(x).(type) {
	case []float32:
		for _, v := range x {
			sum += math.Abs(float64(v))
		}
	case []float64:
		for _, v := range x {
			sum += math.Abs(v)
		}
	case []lsr.BFloat16:
		for _, v := range x {
			sum += math.Abs(float64(v.Float32()))
		}
	}
	return sum
}
