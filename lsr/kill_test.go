package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/aside/asidetest"
)

// Killed at any moment, lsr eval leaves each output as it was or as it was to be. Temporary files may stay, .lsr-*.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: files after kill -9")
	}
	assert.Zero(t, killed(t, 24), "outputs that are neither the old file nor the new one")
}

// An lsr that writes its outputs in place is found out.
func TestKillFindsFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: that a command which does not survive kill -9 is found out")
	}
	assert.NotZero(t, killed(t, 100, asidetest.Fault(t)...))
}

// killed builds the command, kills it again and again at random moments, and counts outputs that are neither the old file
// nor the new one. It ends with the first of them.
func killed(t *testing.T, times int, buildFlags ...string) (torn int) {
	t.Helper()
	command := asidetest.Build(t, buildFlags...)

	dir := t.TempDir()
	const rows, classes = 2000, 1000
	g := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	x, y := make([]float64, rows*classes), make([]float64, rows)
	for i := range x {
		x[i] = g.NormFloat64()
	}
	logits, targets := save(t, dir, "x.npy", "<f4", []int{rows, classes}, x), save(t, dir, "y.npy", "|i1", []int{rows}, y)
	paths := [2]string{filepath.Join(dir, "grad.npy"), filepath.Join(dir, "losses.npy")}
	eval := func(smoothing string) *exec.Cmd {
		return exec.Command(command, "eval", logits, targets, "--smoothing", smoothing, "--grad", paths[0], "--rows", paths[1])
	}
	read := func() (files [2]string) {
		for i, path := range paths {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			files[i] = string(b)
		}
		return files
	}
	require.NoError(t, eval("0.2").Run())
	after := read()
	start := time.Now()
	require.NoError(t, eval("0.1").Run())
	whole := time.Since(start)
	before := read()
	require.NotEqual(t, before[0], after[0])
	require.NotEqual(t, before[1], after[1])

	var kills, olds, news, left int
	for range times {
		cmd := eval("0.2")
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(g.Int64N(int64(whole * 5 / 4))))
		cmd.Process.Kill()
		cmd.Wait()
		temporary, err := filepath.Glob(filepath.Join(dir, ".lsr-*"))
		require.NoError(t, err)
		left += len(temporary)
		for _, path := range temporary {
			require.NoError(t, os.Remove(path))
		}
		for i, text := range read() {
			switch text {
			case before[i]:
				olds++
				continue
			case after[i]:
				news++
			default:
				torn++
			}
			require.NoError(t, os.WriteFile(paths[i], []byte(before[i]), 0o666))
		}
		if kills++; torn != 0 {
			break
		}
	}
	t.Logf("%d times kill -9 left %d old files, %d new ones, %d that are neither, and %d temporary ones", kills, olds, news, torn, left)
	return torn
}
