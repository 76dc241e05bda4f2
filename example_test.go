package lsr_test

import (
	"errors"
	"fmt"

	"github.com/golsr/lsr"
)

// The loss of a batch and its gradient, as a training step needs them.
func Example() {
	criterion, err := lsr.New(lsr.Smoothing(0.1))
	if err != nil {
		panic(err)
	}
	logits := []float32{2, 1, 0, 0, 3, 0} // 2 rows of 3 classes
	targets := []int{0, 1}
	gradient := make([]float32, len(logits)) // reuse it from step to step
	result, err := lsr.Grad(criterion, lsr.Rows(gradient, 3), lsr.Rows(logits, 3), targets)
	if err != nil {
		panic(err)
	}
	fmt.Printf("loss %.4f, gradient %.4f\n", result.Loss, gradient)
	// Output: loss 0.4013, gradient [-0.1340 0.1057 0.0283 0.0060 -0.0119 0.0060]
}

func ExampleForward() {
	criterion, _ := lsr.New(lsr.Smoothing(0), lsr.IgnoreIndex(-100), lsr.Top1())
	losses := make([]float64, 3)
	result, _ := lsr.Forward(criterion, lsr.Rows([]float64{1, 1, 5, 5, 2, 1}, 2), []int64{0, -100, 1}, lsr.PerRow{Loss: losses})
	fmt.Printf("%.4f of %d rows, %d ignored, %d right; mean %.4f\n", losses, result.Rows, result.Ignored, result.Correct, result.Loss)
	// Output: [0.6931 0.0000 1.3133] of 3 rows, 1 ignored, 1 right; mean 1.0032
}

func ExampleTargetError() {
	criterion, _ := lsr.New()
	_, err := lsr.Forward(criterion, lsr.Rows([]float32{1, 2, 3, 4}, 2), []int{1, 7})
	var bad *lsr.TargetError
	if errors.As(err, &bad) {
		fmt.Println(bad.Row, bad.Target)
	}
	fmt.Println(err)
	// Output:
	// 1 7
	// lsr: target of row 1 is 7, expected a class in [0, 2) or the ignore index
}

func ExampleSmoothingOverOthers() {
	fmt.Println(lsr.SmoothingOverOthers(0.1, 5))
	// Output: 0.125
}

// An image's classes are the second of its axes: [outer, classes, inner].
func ExamplePlanes() {
	criterion, _ := lsr.New(lsr.Smoothing(0))
	logits := []float32{0, 3, 0, 0} // 1 image, 2 classes, 2 positions
	result, _ := lsr.Forward(criterion, lsr.Planes(logits, 2, 2), []uint8{0, 0})
	fmt.Printf("%.4f\n", result.Loss)
	// Output: 0.3709
}
