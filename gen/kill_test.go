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

// Killed at any moment, this command leaves each file as it was or as it was to be. Temporary files may stay, .lsr-*.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: files after kill -9")
	}
	assert.Zero(t, killed(t, 24), "files that are neither the old one nor the new one")

	// What a killed command leaves over is in nobody's way.
	dir := folder(t)
	save(t, dir, map[string]string{".lsr-LEFTOVER": "pack"})
	for _, args := range [][]string{{"--classes", "3"}, {"--classes", "3", "--check"}} {
		status, _, stderr := generate(t, dir, args...)
		require.Zero(t, status, stderr)
	}
	assert.Equal(t, "pack", snapshot(t, dir)[".lsr-LEFTOVER"])
}

// A command that writes files in place is found out.
func TestKillFindsFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: that a command which does not survive kill -9 is found out")
	}
	assert.NotZero(t, killed(t, 100, asidetest.Fault(t)...))
}

// killed builds the command, kills it again and again, mostly while it writes, and counts files that are neither the old one
// nor the new one. It ends with the first of them.
func killed(t *testing.T, times int, buildFlags ...string) (torn int) {
	t.Helper()
	path := asidetest.Build(t, buildFlags...)
	dir := folder(t)
	gen := func(classes string) *exec.Cmd {
		return exec.Command(path, "--dir", dir, "--classes", classes, "--types", "float32,float64")
	}
	start := time.Now()
	require.NoError(t, gen("65,129").Run())
	whole := time.Since(start)
	after := snapshot(t, dir)
	require.NoError(t, gen("65").Run())
	before := snapshot(t, dir)
	writes := func() bool {
		info, err := os.Stat(filepath.Join(dir, "lsr_kernels_amd64.s"))
		return err != nil || info.Size() != int64(len(before["lsr_kernels_amd64.s"])) || len(temporary(t, dir)) != 0
	}

	g := rand.New(rand.NewPCG(uint64(start.UnixNano()), 0))
	var kills, olds, news, left int
	for n := range times {
		cmd := gen("65,129")
		require.NoError(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if n%4 == 0 {
			time.Sleep(time.Duration(g.Int64N(int64(whole))))
		} else {
			for !writes() && len(ended) == 0 {
				time.Sleep(20 * time.Microsecond)
			}
			time.Sleep(time.Duration(n%4-1) * time.Duration(g.Int64N(int64(time.Millisecond))))
		}
		cmd.Process.Kill()
		<-ended
		left += len(temporary(t, dir))
		for _, path := range temporary(t, dir) {
			require.NoError(t, os.Remove(path))
		}
		for name, text := range snapshot(t, dir) {
			switch {
			case before[name] == after[name]:
				assert.Equal(t, before[name], text, name)
			case text == before[name]:
				olds++
			case text == after[name]:
				news++
			default:
				torn++
			}
		}
		save(t, dir, before)
		if kills++; torn != 0 {
			break
		}
	}
	t.Logf("%d times kill -9 left %d old files, %d new ones, %d that are neither, and %d temporary ones", kills, olds, news, torn, left)
	return torn
}

// temporary are the files in a folder that are not complete.
func temporary(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, ".lsr-*"))
	require.NoError(t, err)
	return paths
}
