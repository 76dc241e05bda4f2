package lsr

import "unsafe"

// Gradients that no cache would keep are made apart, chunk by chunk, and copied to the caller's memory by non-temporal stores,
// which go past the caches: otherwise a CPU reads each cache line before it writes it. Where a gradient replaces the logits,
// its memory has been read anyway.

// cachesHold is how many bytes of logits and gradients may stay in the caches of most CPUs. Only tests change it.
var cachesHold = 32 << 20

// mostApart is how many classes rows have at most that are made apart: the memory for one, and the time of its copy, have to be bounded.
const mostApart = 1 << 18

const cacheLine = 64

// tooLarge reports whether no cache would keep a job's logits and gradients.
func (j *job[T]) tooLarge() bool {
	return j.grads() && 2*j.rows*j.logits.Classes*sizeOf[T]() > cachesHold && base(j.dst.Data) != base(j.logits.Data)
}

// nonTemporalRows reports whether a job's gradients are stored so where lanes are classes: rows have to lie one after another.
// One goroutine alone loses by the copy, and this was measured with AVX2 only.
func (w *worker[T, F]) nonTemporalRows(j *job[T]) bool {
	return w.isa == avx2 && kindOf[T]() == float32Kind && sideBySide[T, F](&j.dst) && j.dst.Classes <= mostApart && j.parallel && j.tooLarge()
}

// nonTemporalPlanes reports whether a chunk's gradients are stored so where they are planes, from planeX: in whole cache lines.
func (w *worker[T, F]) nonTemporalPlanes(j *job[T]) bool {
	start, step := uintptr(w.dst), uintptr(w.step*sizeOf[T]())
	return w.shape == planes && kindOf[T]() == float32Kind && w.whole() && (start|step)%cacheLine == 0 && j.tooLarge()
}

// storeRows stores the gradients of a chunk's rows, from row i on, which are apart.
func (w *worker[T, F]) storeRows(j *job[T], i int, labels []int32) {
	for r, y := range labels {
		if y < 0 {
			clear(w.apart[r*w.n:][:w.n])
		}
	}
	bytes := len(labels) * w.n * sizeOf[T]()
	from, to := unsafe.Slice((*byte)(base(w.apart)), bytes), unsafe.Slice((*byte)(j.dst.row(i)), bytes)
	start := min(int(-uintptr(base(to))%cacheLine), bytes) // of whole cache lines,
	end := start + (bytes-start)&^(cacheLine-1)
	copy(to[:start], from)
	copy(to[end:], from[end:])
	if start == end {
		return
	}
	w.plane, w.dst, w.rows, w.n = base(from[start:]), base(to[start:]), (end-start)/4, 1
	w.storePlanes()
}

// storeFence waits until what was stored by non-temporal stores is where other CPUs see it.
func (w *worker[T, F]) storeFence() {
	w.rows, w.n = 0, 1
	w.storePlanes()
}

// storePlanes copies planes of four bytes by non-temporal stores.
func (w *worker[T, F]) storePlanes() { call(w.isa, float32Kind, opStorePlanes, &w.args) }

// zeroPlanes clears the gradients of ignored rows in planeX.
func (w *worker[T, F]) zeroPlanes() {
	for r, y := range unsafe.Slice((*int32)(w.labels), w.rows) {
		if y < 0 {
			for k := range w.n {
				w.planeX[k*planeSlots+r] = 0
			}
		}
	}
}
