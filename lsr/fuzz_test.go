package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzEval runs eval with flags drawn from the input on two small files: whatever they are, the exit status is 0, 1 or 2, an
// error is one line and leaves no file, and what --json prints is JSON.
func FuzzEval(f *testing.F) {
	for _, s := range []string{
		"--json", "--smoothing=2", "--smoothing 0.1 --reduction none --rows out.npy", "--grad out.npy --z-loss 1e-3", "--denominator -1",
		"--ignore-index 1 --empty nan", "--axis 0", "--axis=-1 --mask-neg-inf", "--kernel go --workers 3", "--prior x.npy", "--weights x",
		"--reduction=sum --lse out.npy --json", "--bf16", "--kernel avx9", "--no-such-flag", "--axis 9223372036854775807", "--smoothing NaN",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	logits := save(f, dir, "logits.npy", "<f4", []int{4, 3}, []float64{1, 2, 3, 0, 0, 1, 5, 1, 1, 2, 2, 2})
	targets := save(f, dir, "targets.npy", "<i8", []int{4}, []float64{0, 2, 0, 1})
	f.Fuzz(func(t *testing.T, flags string) {
		if strings.ContainsAny(flags, "/\x00") || len(flags) > 1000 {
			t.Skip() // outputs stay in the folder
		}
		t.Chdir(t.TempDir())
		args := append([]string{"eval", logits, targets}, strings.Fields(flags)...)
		status, stdout, stderr := lsrRun(args...)
		switch status {
		case 0:
			if strings.HasPrefix(stdout, "{") {
				require.True(t, json.Valid([]byte(stdout)), "%q: %s", args, stdout)
			}
		case 1, 2:
			require.Equal(t, 1, strings.Count(stderr, "\n"), "%q: %q", args, stderr)
			left, err := os.ReadDir(".")
			require.NoError(t, err)
			require.Empty(t, left, "%q left files", args)
		default:
			require.Fail(t, "exit status", "%q: %d", args, status)
		}
	})
}
