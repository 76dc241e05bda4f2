package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a terminal, and what is seen on it.
func terminal(t *testing.T) (tty, screen *os.File) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { tty.Close() })
	return tty, screen
}

// A progress bar shows on a terminal, and makes way for an error.
func TestProgress(t *testing.T) {
	dir := t.TempDir()
	const n = blockLogits + 1 // two blocks
	x, y := save(t, dir, "x.npy", "<f2", []int{n, 1}, make([]float64, n)), save(t, dir, "y.npy", "|i1", []int{n}, make([]float64, n))
	checks := (n + 1<<12 - 1) >> 12 // of the targets
	tty, screen := terminal(t)
	var out bytes.Buffer
	assert.Equal(t, badData, run(&interrupted{t.Context(), checks + 1}, []string{"eval", x, y, "--rows", filepath.Join(dir, "r.npy")}, &out, tty))
	require.NoError(t, tty.Close())
	text, _ := io.ReadAll(screen) // up to an error: the terminal is closed
	assert.Regexp(t, `^\reval +99% .*\r +\rlsr: interrupted\r\n$`, string(text))
}
