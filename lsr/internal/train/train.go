// Package train is an experiment: does label smoothing help when labels are wrong, and does it when they are not?
//
// A network with one hidden layer is trained on the same rows, from the same weights, with the same wrong labels and in
// the same order for each smoothing, so that what differs is the smoothing alone; then all of it again with the right
// labels, and all of that for several seeds. The answer comes from the differences within a seed.
package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/golsr/lsr/lsr/internal/digits"
)

// Config is the plan of an experiment. Start from [Defaults]: a field that is left at 0 means 0.
type Config struct {
	Epsilons     []float64 // smoothings to compare, each in [0, 1]; the answer is about the others against 0
	Noise        float64   // share of the training labels that are replaced by another class, in [0, 1)
	Seeds        int       // experiments with splits, noise, weights and orders of their own
	Seed         uint64    // of the first of them; the others count up from there
	TrainRows    int       // rows to train on, drawn from those the data has for it
	Epochs       int       // passes over the training rows
	Hidden       int       // units of the hidden layer
	Batch        int       // rows of a step
	LearningRate float64   // of the first step; it falls linearly, to 0 after the last
	Momentum     float64   // in [0, 1)
}

// Defaults is a plan for the embedded digits that takes a few seconds.
func Defaults() Config {
	return Config{
		Epsilons:     []float64{0, 0.05, 0.1, 0.2},
		Noise:        0.2,
		Seeds:        5,
		Seed:         1,
		TrainRows:    1000,
		Epochs:       60,
		Hidden:       64,
		Batch:        32,
		LearningRate: 0.05,
		Momentum:     0.9,
	}
}

// check says what is wrong with the plan, or with the data for it.
func (c *Config) check(data *digits.Dataset) error {
	if data == nil || data.Rows() == 0 {
		return fmt.Errorf("train: expected a data set with rows, got none")
	}
	if len(data.Images) != data.Rows()*data.Width || data.Width < 1 || data.Classes < 2 {
		return fmt.Errorf("train: data set of %d labels, images of %d pixels and %d classes has %d pixels",
			data.Rows(), data.Width, data.Classes, len(data.Images))
	}
	if most := slices.Max(data.Labels); int(most) >= data.Classes {
		return fmt.Errorf("train: expected labels below %d, got %d", data.Classes, most)
	}
	if len(c.Epsilons) == 0 {
		return fmt.Errorf("train: expected at least one smoothing, got none")
	}
	for i, e := range c.Epsilons {
		if !(e >= 0 && e <= 1) {
			return fmt.Errorf("train: smoothing must be in [0, 1], got %v", e)
		}
		if slices.Contains(c.Epsilons[:i], e) {
			return fmt.Errorf("train: expected different smoothings, got %v twice", e)
		}
	}
	if !(c.Noise >= 0 && c.Noise < 1) {
		return fmt.Errorf("train: noise must be in [0, 1), got %v", c.Noise)
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"seeds", c.Seeds}, {"epochs", c.Epochs}, {"hidden units", c.Hidden}, {"batch", c.Batch}} {
		if f.value < 1 || f.value > 1<<16 {
			return fmt.Errorf("train: %s must be in [1, %d], got %d", f.name, 1<<16, f.value)
		}
	}
	if most := min(trainPool(data), data.Rows()-1); c.TrainRows < 1 || c.TrainRows > most { // others are to test on
		return fmt.Errorf("train: training rows must be in [1, %d], got %d", most, c.TrainRows)
	}
	if !(c.LearningRate > 0) || math.IsInf(c.LearningRate, 0) {
		return fmt.Errorf("train: learning rate must be finite and above 0, got %v", c.LearningRate)
	}
	if !(c.Momentum >= 0 && c.Momentum < 1) {
		return fmt.Errorf("train: momentum must be in [0, 1), got %v", c.Momentum)
	}
	return nil
}

// trainPool is how many rows training rows may be drawn from.
func trainPool(data *digits.Dataset) int {
	if data.Train > 0 {
		return data.Train
	}
	return data.Rows()
}

// Each kind of chance has a stream of its own, so that more of one does not change another.
const (
	streamSplit uint64 = iota + 1
	streamNoise
	streamWeights
	streamOrder
)

func random(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// split draws the training rows; all others, or those that the data sets aside for it, are the test rows.
func split(data *digits.Dataset, rows int, seed uint64) (training, test []int) {
	pool := random(seed, streamSplit).Perm(trainPool(data))
	training, test = pool[:rows], pool[rows:]
	if data.Train > 0 {
		test = make([]int, data.Rows()-data.Train)
		for i := range test {
			test[i] = data.Train + i
		}
	}
	return training, test
}

// corrupt gives the labels of the rows, and to a share of them, to the nearest row, another class: each of the others
// with the same probability.
func corrupt(data *digits.Dataset, rows []int, share float64, seed uint64) []uint8 {
	labels := make([]uint8, len(rows))
	for i, row := range rows {
		labels[i] = data.Labels[row]
	}
	r := random(seed, streamNoise)
	for _, i := range r.Perm(len(rows))[:int(math.Round(share*float64(len(rows))))] {
		labels[i] = uint8((int(labels[i]) + 1 + r.IntN(data.Classes-1)) % data.Classes)
	}
	return labels
}

// Run does the experiment, with as many trainings at a time as GOMAXPROCS; the report does not depend on it. After each
// training it calls progress, unless that is nil, never twice at the same time. When ctx is done, it returns ctx.Err()
// within a few steps.
func Run(ctx context.Context, data *digits.Dataset, cfg Config, progress func(done, total int)) (*Report, error) {
	if err := cfg.check(data); err != nil {
		return nil, err
	}
	cfg.Epsilons = slices.Clone(cfg.Epsilons)
	report := newReport(data, cfg)

	type job struct {
		group *Group
		run   *Trial
	}
	var jobs []job
	for g := range report.Groups {
		for s := range report.Groups[g].Trials {
			jobs = append(jobs, job{&report.Groups[g], &report.Groups[g].Trials[s]})
		}
	}

	outer := ctx
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		next    int
		done    int
		failed  error
	)
	take := func() (job, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(jobs) || ctx.Err() != nil {
			return job{}, false
		}
		next++
		return jobs[next-1], true
	}
	finish := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if failed == nil {
				failed = err
			}
			stop()
			return
		}
		done++
		if progress != nil {
			progress(done, len(jobs))
		}
	}
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		workers.Go(func() {
			for j, ok := take(); ok; j, ok = take() {
				finish(trial(ctx, data, cfg, j.group, j.run))
			}
		})
	}
	workers.Wait()
	if done < len(jobs) {
		if err := outer.Err(); err != nil {
			return nil, err
		}
		return nil, failed
	}
	report.summarize()
	return report, nil
}

// trial trains once and measures.
func trial(ctx context.Context, data *digits.Dataset, cfg Config, group *Group, run *Trial) error {
	training, test := split(data, cfg.TrainRows, run.Seed)
	labels := corrupt(data, training, group.Noise, run.Seed)
	net, err := newNetwork(data.Width, cfg.Hidden, data.Classes, cfg.Batch, group.Epsilon, random(run.Seed, streamWeights))
	if err != nil {
		return err
	}

	order := random(run.Seed, streamOrder)
	perm := make([]int, len(training))
	for i := range perm {
		perm[i] = i
	}
	targets := make([]uint8, 0, cfg.Batch)
	perEpoch := (len(training) + cfg.Batch - 1) / cfg.Batch
	step, steps := 0, cfg.Epochs*perEpoch
	for range cfg.Epochs {
		order.Shuffle(len(perm), func(i, j int) { perm[i], perm[j] = perm[j], perm[i] })
		for batch := range slices.Chunk(perm, cfg.Batch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			targets = targets[:0]
			for i, p := range batch {
				copy(net.image(i), data.Image(training[p]))
				targets = append(targets, labels[p])
			}
			rate := cfg.LearningRate * (1 - float64(step)/float64(steps))
			loss, err := net.step(targets, rate, cfg.Momentum)
			if err != nil {
				return err
			}
			if math.IsNaN(loss) || math.IsInf(loss, 0) {
				return fmt.Errorf("train: loss is %v in step %d of %d (smoothing %v, seed %d): try a lower learning rate than %v",
					loss, step+1, steps, group.Epsilon, run.Seed, cfg.LearningRate)
			}
			step++
		}
	}
	return measure(ctx, data, test, net, run)
}

// measure fills in what the network does on the test rows, whose labels are as they came.
func measure(ctx context.Context, data *digits.Dataset, test []int, net *network, run *Trial) error {
	confidence := make([]float64, 0, len(test))
	correct := make([]bool, 0, len(test))
	targets := make([]uint8, 0, net.batch)
	var nll float64
	hits := 0
	for batch := range slices.Chunk(test, net.batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		targets = targets[:0]
		for i, row := range batch {
			copy(net.image(i), data.Image(row))
			targets = append(targets, data.Labels[row])
		}
		mean, guesses, sure, err := net.predict(targets)
		if err != nil {
			return err
		}
		nll += mean * float64(len(batch))
		confidence = append(confidence, sure...)
		for i, guess := range guesses {
			hit := guess == targets[i]
			correct = append(correct, hit)
			if hit {
				hits++
			}
		}
	}
	if math.IsNaN(nll) || math.IsInf(nll, 0) {
		return fmt.Errorf("train: the loss of the test rows is %v (seed %d): try a lower learning rate", nll, run.Seed)
	}
	run.Accuracy = float64(hits) / float64(len(test))
	run.NLL = nll / float64(len(test))
	run.ECE, run.Bins = ECE(confidence, correct)
	return nil
}
