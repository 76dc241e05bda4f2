package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/golsr/lsr/internal/aside/asidetest"
)

// What becomes of the outputs of lsr eval on a file system that is full, or may only be read. The script has one of its own.
func TestBadFileSystem(t *testing.T) {
	dir, disk := t.TempDir(), t.TempDir()
	command := asidetest.Build(t)
	const rows, classes = 1000, 100
	x, y := save(t, dir, "x.npy", "<f4", []int{rows, classes}, make([]float64, rows*classes)), save(t, dir, "y.npy", "|i1", []int{rows}, make([]float64, rows))
	script := func(then string) []string {
		mount := []string{"-m", "sh", "-c", `mount -t tmpfs -o size=64k lsr "$1" && printf old >"$1/grad.npy" && ` + then +
			`; "$0" eval "$2" "$3" --grad "$1/grad.npy" --rows "$1/rows.npy"; echo status $?; ls -A "$1"; cat "$1/grad.npy"`, command, disk, x, y}
		if os.Getuid() != 0 {
			mount[0] = "-rm"
		}
		return mount
	}
	if out, err := exec.Command("unshare", append(script("")[:3], "mount -t tmpfs lsr "+disk)...).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: full disks and unwritable directories; no file system can be mounted here: %v %s", err, out)
	}
	for then, want := range map[string]string{
		"true":                         "no space left on device",
		`mount -o remount,ro lsr "$1"`: "read-only file system",
	} {
		cmd := exec.Command("unshare", script(then)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Run(), stderr.String())
		assert.Equal(t, "status 1\ngrad.npy\nold", stdout.String())
		assert.Contains(t, stderr.String(), want)
		assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %s", stderr.String())
	}
}

// meddling is a context that does something when it has been asked a number of times.
type meddling struct {
	context.Context
	left int
	do   func()
}

func (m *meddling) Err() error {
	if m.left--; m.left == -1 {
		m.do()
	}
	return nil
}

// Inputs that shrink or change while they are read, at any moment: an error and nothing written.
func TestInputsChange(t *testing.T) {
	const rows, classes = 3, blockLogits/2 + 1 // a block each
	x := make([]float64, rows*classes)
	for input, meddle := range map[string]func(path string) error{
		"x.npy shrinks": func(path string) error { return os.Truncate(path, 1000) },
		"y.npy shrinks": func(path string) error { return os.Truncate(path, 1) },
		"y.npy changes": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			copy(b[len(b)-rows:], "\xFF\xFF\xFF") // -1
			return os.WriteFile(path, b, 0)
		},
		"x.npy changes": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 1
			return os.WriteFile(path, b, 0)
		},
	} {
		name := strings.Fields(input)[0]
		failed := 0
		for left := range 8 {
			dir := t.TempDir()
			logits, targets := save(t, dir, "x.npy", "<f4", []int{rows, classes}, x), save(t, dir, "y.npy", "|i1", []int{rows}, []float64{0, 1, 2})
			grad := filepath.Join(dir, "grad.npy")
			require.NoError(t, os.WriteFile(grad, []byte("old"), 0o644))
			old := time.Now().Add(-time.Minute) // clocks of file systems are coarse
			require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
			var stdout, stderr bytes.Buffer
			done := false
			ctx := &meddling{t.Context(), left, func() { done = true; require.NoError(t, meddle(filepath.Join(dir, name))) }}
			status := run(ctx, []string{"eval", logits, targets, "--grad", grad}, &stdout, &stderr)
			if !done { // there are not so many moments
				assert.Zero(t, status, stderr.String())
				info, err := os.Stat(grad)
				require.NoError(t, err)
				assert.Greater(t, info.Size(), int64(4*rows*classes), "%s at %d", input, left)
				continue
			}
			failed++
			assert.Equal(t, badData, status)
			assert.Contains(t, stderr.String(), name, "%s at %d", input, left)
			assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line: %s", stderr.String())
			assert.Empty(t, stdout.String())
			b, err := os.ReadFile(grad)
			require.NoError(t, err)
			assert.Equal(t, "old", string(b))
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Len(t, files, 3, "nothing is left")
		}
		assert.Equal(t, 4, failed, "%s: when targets are checked, and before each block", input)
	}
}
