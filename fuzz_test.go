package lsr

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// drawer takes numbers from a fuzzer's bytes; where they end, zeros follow.
type drawer struct{ data []byte }

func (d *drawer) byte() int {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b)
}

// number is a logit: mostly moderate, sometimes far off or special.
func (d *drawer) number(kind int) float64 {
	b := d.byte()
	v := float64(int8(d.byte())) + float64(d.byte())/256
	switch kind {
	case 0:
		return v / 16
	case 1:
		return v
	case 2:
		return v * 64 // ±8192
	case 3:
		return v/8 + 4096 // a large common offset
	}
	switch b & 31 {
	case 0:
		return nan
	case 1:
		return inf
	case 2, 3, 4, 5:
		return negInf
	case 6:
		return math.Copysign(0, -1)
	}
	return v / 4
}

// fuzzed is a batch drawn from bytes.
type fuzzed struct {
	element int
	o       refOptions
	x, t    [][]float64
	y       []int64
	l       layout
	workers int
}

func draw(data []byte) (f fuzzed) {
	d := &drawer{data}
	f.element = d.byte() & 3
	classes, rows := 1+d.byte()%70, 1+d.byte()%4
	if rows == 4 { // enough for kernels that have rows in their lanes
		rows = 4 + d.byte()%40
	}
	f.l = contiguous(classes)
	switch d.byte() % 3 {
	case 1:
		f.l.stride += d.byte() % 5
	case 2:
		f.l.inner = 1 + d.byte()%3
		rows *= f.l.inner
	}
	flags, o := d.byte()|d.byte()<<8, &f.o
	o.smoothing = []float64{0, .01, .1, .5, 1, 1. / 3, 0x1p-40, .9}[flags&7]
	o.reduction = Reduction((flags >> 3 & 3) % 3)
	if flags&0x20 != 0 {
		o.prior = make([]float64, classes)
		sum := 0.0
		for k := range o.prior {
			// All above 0: what a mask leaves has something to be spread over.
			o.prior[k] = float64(1 + d.byte())
			sum += o.prior[k]
		}
		for k := range o.prior {
			o.prior[k] /= sum
		}
	}
	if flags&0x40 != 0 {
		o.weights = make([]float64, classes)
		for k := range o.weights {
			o.weights[k] = float64(d.byte()&7) / 2
		}
	}
	o.ignores, o.ignore = flags&0x80 != 0, -100
	o.mask = flags&0x100 != 0
	o.emptyNaN = flags&0x200 != 0
	if flags&0x400 != 0 && o.reduction == Mean {
		o.denominator = float64(1+d.byte()) / 4
	}
	if flags&0x800 != 0 {
		o.zloss = float64(d.byte()) / 1024
	}
	if flags&0x1000 != 0 {
		o.upstream = []float64{float64(int8(d.byte())) / 16}
		if flags&0x2000 != 0 {
			for len(o.upstream) < rows {
				o.upstream = append(o.upstream, float64(int8(d.byte()))/16)
			}
		}
	}
	f.workers = d.byte() & 7
	distribution, kind := flags&0x4000 != 0, d.byte()%5
	for range rows {
		x, t := make([]float64, classes), make([]float64, classes)
		for k := range x {
			x[k] = d.number(kind)
			if distribution {
				switch b := d.byte(); {
				case b == 255 && kind == 4:
					t[k] = nan
				default:
					t[k] = float64(b&15) / 16 // exact in every element type
				}
			}
		}
		f.x = append(f.x, x)
		if distribution {
			f.t = append(f.t, t)
			continue
		}
		y := int64(d.byte() % classes)
		if o.ignores && d.byte()&3 == 0 {
			y = -100
		} else if o.mask && o.smoothing == 1 && math.IsInf(x[y], -1) {
			x[y] = 0 // a masked target without any weight: the loss is a matter of taste
		}
		f.y = append(f.y, y)
	}
	return f
}

func seeds(f *testing.F) {
	g := generator(20)
	for n := range 96 {
		data := make([]byte, 40+n*7)
		for i := range data {
			data[i] = byte(g.next())
		}
		data[0] = byte(n)
		f.Add(data)
	}
	f.Add([]byte{})
}

// FuzzGrad compares loss, log-sum-exp, counts and gradient with the oracle, and the forward pass with the gradient's.
func FuzzGrad(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		switch f := draw(data); f.element {
		case 0:
			verify[float32](t, f.o, f.x, f.y, f.t, f.l)
		case 1:
			verify[float64](t, f.o, f.x, f.y, f.t, f.l)
		case 2:
			verify[Float16](t, f.o, f.x, f.y, f.t, f.l)
		case 3:
			verify[BFloat16](t, f.o, f.x, f.y, f.t, f.l)
		}
	})
}

// FuzzForward compares the row losses of the forward pass alone with the oracle.
func FuzzForward(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		switch f := draw(data); f.element {
		case 0:
			forward[float32](t, &f)
		case 1:
			forward[float64](t, &f)
		case 2:
			forward[Float16](t, &f)
		case 3:
			forward[BFloat16](t, &f)
		}
	})
}

func forward[T Element](t *testing.T, f *fuzzed) {
	x, y, target := round[T](f.x), f.y, round[T](f.t)
	p := PerRow{Loss: make([]float64, len(x))}
	c := criterion(t, append(f.o.options(), Workers(f.workers))...)
	var err error
	if len(target) > 0 {
		_, err = ForwardDist(c, pack[T](x, f.l), pack[T](target, f.l), p)
	} else {
		target = nil
		_, err = Forward(c, pack[T](x, f.l), y, p)
	}
	require.NoError(t, err)
	want := refAll(x, y, target, &f.o, precisionOf[T]())
	for i, r := range want.rows {
		if want.ignored[i] {
			require.Zero(t, p.Loss[i])
			continue
		}
		loss := refSum(r.loss, r.z, refOf(1))
		require.True(t, loss.agrees(p.Loss[i]), "row %d: want %v ± %v, got %v\nx=%v y=%v t=%v %+v",
			i, loss.float(), loss.tol, p.Loss[i], x[i], y, target, f.o)
	}
}

// FuzzConsistency sees that layout, workers, kernel and company change no bit.
func FuzzConsistency(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		switch f := draw(data); f.element {
		case 0:
			consistent[float32](t, &f)
		case 1:
			consistent[float64](t, &f)
		case 2:
			consistent[Float16](t, &f)
		case 3:
			consistent[BFloat16](t, &f)
		}
	})
}

func consistent[T Element](t *testing.T, f *fuzzed) {
	classes := f.l.classes
	want := compute[T](t, criterion(t, append(f.o.options(), Workers(1), Top1(), Kernel("go"))...), f.x, f.y, f.t, f.o.upstream, contiguous(classes))
	for _, kernel := range Kernels() {
		c := criterion(t, append(f.o.options(), Workers(f.workers), Top1(), Kernel(kernel))...)
		same(t, want, compute[T](t, c, f.x, f.y, f.t, f.o.upstream, f.l), kernel)
	}
	c := criterion(t, append(f.o.options(), Workers(f.workers))...)
	b := pack[T](f.x, f.l)
	p := PerRow{Upstream: f.o.upstream}
	var err error
	if f.t != nil {
		_, err = GradDist(c, b, b, pack[T](f.t, f.l), p)
	} else {
		_, err = Grad(c, b, b, f.y, p)
	}
	require.NoError(t, err)
	for i, row := range unpack(b, len(f.x)) {
		sameBits(t, want.grad[i], row, "in place")
	}
}
