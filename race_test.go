package lsr

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRace plants races between a call and a goroutine that touches its memory, in a program of its own. The race detector has
// to report them, whatever the kernel, and nothing else.
func TestRace(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED with -short: races, which need a program built with -race")
	}
	program := filepath.Join(t.TempDir(), "race")
	if out, err := exec.Command("go", "build", "-race", "-o", program, "./testdata/race").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: races: %v\n%s", err, out)
	}
	for what, race := range map[string]bool{
		"logits": true, "targets": true, "labels": true, "destination": true, "destination read": true, "ignored gradient": true,
		"logits read": false, "logits' padding": false, "gradient's padding": false, "ignored logits": false, "nothing": false,
	} {
		for _, kernel := range Kernels() {
			for _, shape := range [][2]int{{2, 1}, {10, 1}, {1000, 1}, {2, 32}, {10, 32}} { // classes, inner
				if strings.Contains(what, "padding") && shape[1] > 1 {
					continue
				}
				name := fmt.Sprintf("%s %s K=%d inner=%d", what, kernel, shape[0], shape[1])
				cmd := exec.Command(program, what, kernel, fmt.Sprint(shape[0]), fmt.Sprint(shape[1]))
				cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0")
				out, err := cmd.CombinedOutput()
				if !race {
					require.NoError(t, err, "%s: %s", name, out)
					continue
				}
				require.Error(t, err, "%s: no race reported", name)
				require.Contains(t, string(out), "DATA RACE", name)
			}
		}
	}
}
