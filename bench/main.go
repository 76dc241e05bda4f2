// Command bench measures package lsr beside PyTorch, the usual Go loop and vek32 in one interleaved run: every round times
// each contender in turn, on the same data, and a contender's fastest round counts. Since a shared machine has slow seconds, the run goes
// over the cases several times. README.md says more.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/golsr/lsr"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 40, "rounds of each case; slow contenders take part in some")
	sweeps := flag.Int("sweeps", 4, "how often to go over the cases, with a part of their rounds each time; no more than rounds")
	pattern := flag.String("cases", "", "measure the cases whose name matches `regexp`, for instance ^10x or plane")
	threads := flag.Int("threads", 1, "threads of every contender, but for the cases that compare 1 with 2")
	jsonFile := flag.String("json", "", "write the results to `file`, too")
	flag.Parse()
	selected, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("--cases: %w", err)
	}
	if *rounds < 1 || *sweeps < 1 || *threads < 1 || *threads > runtime.GOMAXPROCS(0) || flag.NArg() > 0 {
		return fmt.Errorf("expected at least 1 round, at least 1 sweep, 1 to %d threads and no arguments, got %d, %d, %d and %q",
			runtime.GOMAXPROCS(0), *rounds, *sweeps, *threads, flag.Args())
	}
	*sweeps = min(*sweeps, *rounds)
	chosen := slices.DeleteFunc(slices.Clone(cases), func(c *benchCase) bool { return !selected.MatchString(c.name()) })
	if len(chosen) == 0 {
		return fmt.Errorf("--cases: no case matches %q", *pattern)
	}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	servers, err := startServers(string(cpu))
	if err != nil {
		return err
	}
	defer stopServers(servers)
	dir, err := os.MkdirTemp("", "lsr-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	debug.SetGCPercent(-1) // garbage is collected between the cases
	report := newReport(string(cpu), servers[0].version, *rounds)
	for _, c := range chosen {
		if c.threads == nil {
			c.threads = []int{*threads}
		}
	}
	for sweep := range *sweeps {
		part := (*rounds + sweep) / *sweeps // they add up to all rounds
		for _, c := range chosen {
			start := time.Now()
			contenders, err := measure(c, servers, dir, part)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
			fmt.Fprintf(os.Stderr, "sweep %d: %s took %.1f s\n", sweep+1, c.name(), time.Since(start).Seconds())
			report.add(c, contenders)
			debug.FreeOSMemory()
		}
	}
	for _, c := range chosen {
		report.compareAll(c)
	}
	report.markdown(os.Stdout)
	if *jsonFile != "" {
		return report.writeJSON(*jsonFile)
	}
	return nil
}

// measure times a case's contenders in turn, round after round, in one sweep. A round has calls enough for 3 ms; a contender of which
// one call takes more than 50 ms takes part in fewer rounds, at least 3.
func measure(c *benchCase, servers []*server, dir string, rounds int) ([]*contender, error) {
	var d *data
	var err error
	switch c.dtype {
	case "float32":
		d, err = newData(c, c.threads, func(x float64) float32 { return float32(x) })
	case "float64":
		d, err = newData(c, c.threads, func(x float64) float64 { return x })
	case "bfloat16":
		d, err = newData(c, c.threads, func(x float64) lsr.BFloat16 { return lsr.ToBFloat16(float32(x)) })
	}
	if err != nil {
		return nil, err
	}
	contenders := d.contenders
	for _, s := range servers {
		if err := s.load(c, d, dir); err != nil {
			return nil, err
		}
		for _, n := range c.threads {
			contenders = append(contenders, s.contenders(n)...)
		}
	}
	if err := agree(c, contenders); err != nil {
		return nil, err
	}
	for _, b := range contenders {
		elapsed, _, err := b.round(1)
		if err != nil {
			return nil, err
		}
		b.calls = 1 + int(3*time.Millisecond/max(elapsed, 1))
		b.every = max(1, min(int(elapsed/(50*time.Millisecond)), rounds/3))
		b.best = math.MaxInt64
	}
	for round := range rounds {
		for _, b := range contenders {
			if round%b.every != 0 {
				continue
			}
			elapsed, faults, err := b.round(b.calls)
			if err != nil {
				return nil, err
			}
			if each := elapsed / time.Duration(b.calls); each < b.best {
				b.best, b.faults = each, float64(faults)/float64(b.calls)
			}
		}
	}
	return contenders, nil
}

// agree checks that all contenders compute the same loss and gradient as lsr, whose contenders are the first two.
func agree(c *benchCase, contenders []*contender) error {
	tolerance := map[string]float64{"float32": 1e-4, "float64": 1e-10, "bfloat16": 2e-2}[c.dtype]
	var wantLoss, wantGradient float64
	for i, b := range contenders {
		if b.check == nil {
			continue
		}
		loss, gradient, err := b.check()
		switch {
		case err != nil:
			return err
		case i == 0:
			wantLoss = loss
		case i == 1:
			wantGradient = gradient
		}
		if !(math.Abs(loss-wantLoss) <= tolerance*wantLoss) {
			return fmt.Errorf("%s has the loss %v, %s %v: more than %g apart", b.name, loss, contenders[0].name, wantLoss, tolerance)
		}
		if b.direction == "gradient" && !(math.Abs(gradient-wantGradient) <= tolerance*wantGradient) {
			return fmt.Errorf("%s has the sum of |gradient| %v, %s %v: more than %g apart", b.name, gradient, contenders[0].name, wantGradient, tolerance)
		}
	}
	return nil
}
