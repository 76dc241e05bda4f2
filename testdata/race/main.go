// Command race does what a program must not do, for TestRace: while a call of package lsr runs, another goroutine touches
// memory of it. Usage: race WHAT KERNEL CLASSES INNER.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/golsr/lsr"
)

func main() {
	what, kernel := os.Args[1], os.Args[2]
	classes, _ := strconv.Atoi(os.Args[3])
	inner, _ := strconv.Atoi(os.Args[4])
	options := []lsr.Option{lsr.Smoothing(.1), lsr.Kernel(kernel), lsr.Workers(1)}
	if what != "labels" { // a kernel copies these, if none is ignored
		options = append(options, lsr.IgnoreIndex(-100))
	}
	criterion, err := lsr.New(options...)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	const rows = 64
	stride := classes
	if inner == 1 {
		stride += 5
	}
	batch := func() lsr.Batch[float32] {
		return lsr.Batch[float32]{Data: make([]float32, rows*stride), Classes: classes, Stride: stride, Inner: inner}
	}
	x, t, dst, y := batch(), batch(), batch(), make([]int, rows)
	if what != "labels" {
		y[1] = -100
	}
	first, second := 0, 1 // where row 0 has its last class, and row 1
	if inner == 1 {
		first, second = classes-1, stride+classes-1
	}
	touch := map[string]func(){
		"logits":             func() { x.Data[first] = 1 },
		"targets":            func() { t.Data[first] = 1 },
		"labels":             func() { y[1] = 1 },
		"destination":        func() { dst.Data[first] = 1 },
		"destination read":   func() { _ = *(&dst.Data[first]) == 1 },
		"ignored gradient":   func() { dst.Data[second] = 1 },
		"logits read":        func() { _ = *(&x.Data[first]) == 1 }, // the others are no race
		"logits' padding":    func() { x.Data[stride-1] = 1 },
		"gradient's padding": func() { dst.Data[stride-1] = 1 },
		"ignored logits":     func() { x.Data[second] = 1 },
		"nothing":            func() {},
	}[what]
	var wg sync.WaitGroup
	wg.Go(touch)
	time.Sleep(10 * time.Millisecond) // the touch comes first, but nothing says so: that makes the race detector's task easier
	if what == "targets" {
		_, err = lsr.GradDist(criterion, dst, x, t)
	} else {
		_, err = lsr.Grad(criterion, dst, x, y)
	}
	wg.Wait()
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}
