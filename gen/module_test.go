package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr"
)

// module is a user's module, in a folder of its own, which finds package lsr by a replace directive.
type module string

func newModule(t *testing.T) module {
	t.Helper()
	m := module(t.TempDir())
	checkout, err := filepath.Abs("..")
	require.NoError(t, err)
	sums, err := os.ReadFile("../go.sum")
	require.NoError(t, err)
	save(t, string(m), map[string]string{"go.sum": string(sums)})
	m.do(t, "", "mod", "init", "example.com/user")
	m.do(t, "", "mod", "edit", "-require", lsrPath+"@v0.0.0", "-replace", lsrPath+"="+checkout)
	m.do(t, "", "get", lsrPath)
	m.do(t, "", "get", "-tool", lsrPath+"/gen")
	return m
}

// try runs the go command in the module, without a network.
func (m module) try(environment string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = string(m)
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOFLAGS=", "LSR_TEST_GEN=")
	cmd.Env = append(cmd.Env, strings.Fields(environment)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// do does the same, which must succeed.
func (m module) do(t *testing.T, environment string, args ...string) string {
	t.Helper()
	start := time.Now()
	out, err := m.try(environment, args...)
	require.NoError(t, err, "%s go %s\n%s", environment, strings.Join(args, " "), out)
	t.Logf("%5.1f s: %s go %s", time.Since(start).Seconds(), environment, strings.Join(args, " "))
	return out
}

// edit changes files of the module.
func (m module) edit(t *testing.T, pattern string, change func(string) string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(string(m), pattern))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, []byte(change(string(b))), 0o666))
	}
}

// classCounts are awkward ones, by package. The first package's kernels are also broken one by one. (One class would not do:
// a kernel that does nothing finds the only right sums, those of other kernels, in memory.)
func classCounts() []string {
	switch {
	case os.Getenv("LSR_ALL_CLASSES") != "":
		return []string{"3,17,65", "1,2,4,5,6,7,8,9,10,11,12,13,15,16,19,23,31,32", "33,37,47,48", "49,63,64", "96,100,127,128,129,255,256,257",
			"511,513,1000,1023,1025,4095,4096", "4097,8193,9000"}
	case testing.Short():
		return []string{"17,65"}
	}
	return []string{"1,3,17,65,8197"}
}

const allTypes = "float32,float64,float16,bfloat16"

// A blank import of a package with kernels is enough for package lsr to have them.
const (
	blankTest = `package blank

import (
	"slices"
	"testing"

	"github.com/golsr/lsr"
%s)

func specialized[T lsr.Element](t *testing.T, classes int) {
	all := lsr.Kernels()
	if got := lsr.SpecializedFor[T](classes); !slices.Equal(got, all[:len(all)-1]) {
		t.Errorf("%%T, %%d classes: %%v", *new(T), classes, got)
	}
}

func TestBlank(t *testing.T) {
	for _, classes := range []int{%s} {
		specialized[float32](t, classes)
		specialized[float64](t, classes)
		specialized[lsr.Float16](t, classes)
		specialized[lsr.BFloat16](t, classes)
	}
}
`
	noneTest = `package none

import (
	"testing"

	"github.com/golsr/lsr"
)

func TestNone(t *testing.T) {
	if got := lsr.SpecializedFor[float64](17); len(got) != 0 {
		t.Error(got)
	}
}
`
)

// In a module of a user's, kernels for awkward class counts are made, used, and right.
func TestModule(t *testing.T) {
	m := newModule(t)
	all := os.Getenv("LSR_ALL_CLASSES") != ""
	counts := classCounts()
	imports := ""
	for i, classes := range counts {
		save(t, string(m), map[string]string{fmt.Sprintf("p%d/p.go", i): fmt.Sprintf("package p%d\n\n//go:generate go tool gen --classes %s --types %s\n", i, classes, allTypes)})
		imports += fmt.Sprintf("\t_ \"example.com/user/p%d\"\n", i)
	}
	save(t, string(m), map[string]string{"blank/blank_test.go": fmt.Sprintf(blankTest, imports, strings.Join(counts, ",")), "none/none_test.go": noneTest})
	assert.Empty(t, m.do(t, "", "generate", "./..."))
	assert.Empty(t, m.do(t, "", "tool", "gen", "--dir", "p0", "--classes", counts[0], "--types", allTypes, "--check"))
	assert.Empty(t, m.do(t, "", "vet", "./..."))
	m.do(t, "", "test", "./...")

	t.Run("other builds", func(t *testing.T) {
		if testing.Short() {
			t.Skip("NOT TESTED with -short: purego and arm64 in a user's module")
		}
		m.do(t, "", "test", "-tags", "purego", "./...")
		m.do(t, "GOARCH=arm64", "vet", "./...")
		m.do(t, "", "vet", "-tags", "purego", "./...")
	})
	t.Run("race", func(t *testing.T) {
		if !all {
			t.Skip("NOT TESTED without LSR_ALL_CLASSES=1: the race detector in a user's module")
		}
		if out, err := m.try("", "test", "-race", "-run", "^$", "example.com/user/none"); err != nil {
			t.Skipf("NOT TESTED: the race detector in a user's module: %s", out)
		}
		m.do(t, "", "test", "-race", "./p0", "./blank")
	})
	t.Run("broken kernels", func(t *testing.T) {
		if testing.Short() {
			t.Skip("NOT TESTED with -short: whether a user's tests find broken kernels")
		}
		if lsr.Kernels()[0] == "go" {
			t.Skip("NOT TESTED: whether a user's tests find broken kernels; this machine runs none")
		}
		m.broken(t, all)
	})
	t.Run("another version", m.mismatch)
}

// broken lets kernels return at once, one at a time: the generated tests must find it, so they do run the kernel.
func (m module) broken(t *testing.T, all bool) {
	file := filepath.Join("p0", "lsr_kernels_amd64.s")
	b, err := os.ReadFile(filepath.Join(string(m), file))
	require.NoError(t, err)
	n := 0
	for _, k := range regexp.MustCompile(`(?m)^TEXT ·(\w+AVX2K\w+)\(SB\).*\n`).FindAllStringSubmatchIndex(string(b), -1) {
		name := string(b[k[2]:k[3]])
		if !all && name != "planeSumExpUniformFloat64AVX2K17" && name != "sumExpDenseBFloat16AVX2K65" {
			continue
		}
		n++
		m.edit(t, file, func(string) string { return string(b[:k[1]]) + "\tRET\n" + string(b[k[1]:]) })
		out, err := m.try("", "test", "-vet=off", "-failfast", "-run", "^TestLSR", "./p0")
		assert.Error(t, err, "%s is broken, and nobody has noticed", name)
		assert.Contains(t, out, "plain Go gives", name)
	}
	m.edit(t, file, func(string) string { return string(b) })
	require.NotZero(t, n)
	t.Logf("%d broken kernels", n)
}

// mismatch is what becomes of kernels that were made for another version of package lsr: they do not compile.
func (m module) mismatch(t *testing.T) {
	require.Regexp(t, `^RegisterABI[0-9a-f]{8}_IfUndefinedRunGoGenerate$`, registerName())
	m.edit(t, "p0/*.go", func(s string) string {
		return strings.ReplaceAll(s, registerName(), "RegisterABI01234567_IfUndefinedRunGoGenerate")
	})
	for _, build := range []string{"", "GOARCH=arm64", "GOFLAGS=-tags=purego"} {
		out, err := m.try(build, "build", "./...")
		assert.Error(t, err)
		assert.Contains(t, out, "undefined: lsr.RegisterABI01234567_IfUndefinedRunGoGenerate", build)
	}
	m.do(t, "", "generate", "./p0")
	m.do(t, "", "build", "./...")
}
