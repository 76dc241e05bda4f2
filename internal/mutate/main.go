// Command mutate tests the tests of the kernels: it changes one instruction or one constant of the generated assembly at a
// time, and sees whether the short tests notice. Run it in the module's folder:
//
//	go run ./internal/mutate -n 20 -seed 1
//
// It exits with 1 if fewer than 95 % are noticed. What it does not change is said in mutations.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/cpu"
)

// wanted is the share of mutants that must be noticed.
const wanted = .95

func main() {
	n := flag.Int("n", 20, "number of mutants")
	seed := flag.Uint64("seed", 1, "which mutants")
	file := flag.String("file", "lsr_amd64.s", "assembly to change")
	run := flag.String("run", "ABI|Kernel|Golden|Memory", "tests to run")
	flag.Parse()
	if err := mutate(*n, *seed, *file, *run); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func mutate(n int, seed uint64, file, run string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	avx512 := cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL
	if !avx512 {
		fmt.Println("NOT TESTED: kernels of AVX-512, which this machine has not")
	}
	s := parse(string(text), func(function string) bool { return !avx512 && strings.Contains(function, "AVX512") })
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	t := &tests{dir: filepath.Dir(file), file: file, tmp: tmp, run: run, limit: 5 * time.Minute}
	start := time.Now()
	if out, err := t.test(string(text)); err != nil {
		return fmt.Errorf("the tests fail before anything is changed: %w\n%s", err, out)
	}
	t.limit = 5*time.Second + 3*time.Since(start) // a mutant may never end

	r := rand.New(rand.NewPCG(seed, 0))
	var survivors []mutant
	drawn := map[string]bool{}
	for done := 0; done < n; {
		m := s.draw(r)
		if drawn[m.String()] {
			continue
		}
		drawn[m.String()] = true
		start := time.Now()
		_, err := t.test(s.apply(m))
		if errors.Is(err, errBuild) {
			continue // no such instruction
		}
		done++
		verdict := "caught"
		if err == nil {
			verdict = "SURVIVED"
			survivors = append(survivors, m)
		}
		fmt.Printf("%-8s %4.1fs %s\n", verdict, time.Since(start).Seconds(), m)
	}
	caught := n - len(survivors)
	fmt.Printf("%d of %d mutants caught, seed %d\n", caught, n, seed)
	for _, m := range survivors {
		fmt.Println("survived:", m)
	}
	if float64(caught) < wanted*float64(n) {
		return fmt.Errorf("fewer than %g %% caught", 100*wanted)
	}
	return nil
}

// tests builds and runs the tests with another text in the place of a file.
type tests struct {
	dir, file, tmp, run string
	limit               time.Duration
}

var errBuild = errors.New("does not build")

func (t *tests) test(text string) ([]byte, error) {
	mutated, overlay, binary := filepath.Join(t.tmp, "mutated.s"), filepath.Join(t.tmp, "overlay.json"), filepath.Join(t.tmp, "tests")
	if err := os.WriteFile(mutated, []byte(text), 0o644); err != nil {
		return nil, err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {t.file: mutated}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlay, replace, 0o644); err != nil {
		return nil, err
	}
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, ".")
	build.Dir = t.dir
	if out, err := build.CombinedOutput(); err != nil {
		return out, errBuild
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.limit)
	defer cancel()
	test := exec.CommandContext(ctx, binary, "-test.short", "-test.failfast", "-test.run", t.run)
	test.Dir = t.dir
	return test.CombinedOutput()
}
