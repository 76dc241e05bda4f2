// Package asidetest builds commands that write by package aside, for tests of what kill -9 and bad file systems do to them.
package asidetest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Build builds the command in the working directory, which is one below the module's, and returns its path.
func Build(tb testing.TB, flags ...string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "command")
	out, err := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), ".")...).CombinedOutput()
	require.NoError(tb, err, "%s", out)
	return path
}

// Fault is flags for Build with which the command writes its files in place.
func Fault(tb testing.TB) []string {
	tb.Helper()
	path, err := filepath.Abs("../internal/aside/aside.go")
	require.NoError(tb, err)
	b, err := os.ReadFile(path)
	require.NoError(tb, err)
	fault := string(b)
	for _, change := range [][2]string{{`filepath.Join(filepath.Dir(place), ".lsr-"+rand.Text())`, "place"}, {"os.O_EXCL", "os.O_TRUNC"},
		{`"crypto/rand"`, ""}, {"\tos.Remove(f.Name())", ""}} {
		require.Contains(tb, fault, change[0])
		fault = strings.Replace(fault, change[0], change[1], 1)
	}
	planted, overlay := filepath.Join(tb.TempDir(), "aside.go"), filepath.Join(tb.TempDir(), "overlay.json")
	require.NoError(tb, os.WriteFile(planted, []byte(fault), 0o666))
	b, err = json.Marshal(map[string]any{"Replace": map[string]string{path: planted}})
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(overlay, b, 0o666))
	return []string{"-overlay", overlay}
}
