//go:build unix

package aside

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// write makes a file by Create and Commit.
func write(t *testing.T, path, text string) {
	f, err := Create(path)
	require.NoError(t, err)
	defer f.Abort()
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, Commit(f))
}

func mode(t *testing.T, path string) fs.FileMode {
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info.Mode()
}

func read(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestPermissions(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	path := filepath.Join(t.TempDir(), "a")
	write(t, path, "1")
	assert.Equal(t, fs.FileMode(0o640), mode(t, path), "the umask counts")
	require.NoError(t, os.Chmod(path, 0o606))
	write(t, path, "2")
	assert.Equal(t, fs.FileMode(0o606), mode(t, path), "a file that is replaced keeps its permissions")
	assert.Equal(t, "2", read(t, path))
}

func TestSymbolicLink(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	path, link := filepath.Join(dir, "folder", "a"), filepath.Join(dir, "link")
	write(t, path, "1")
	require.NoError(t, os.Symlink(path, link))
	write(t, link, "2")
	assert.Equal(t, fs.ModeSymlink, mode(t, link).Type())
	assert.Equal(t, "2", read(t, path))

	require.NoError(t, os.Remove(path)) // now the link dangles
	relative := filepath.Join(dir, "relative")
	require.NoError(t, os.Symlink("link", relative))
	write(t, relative, "3")
	assert.Equal(t, fs.ModeSymlink, mode(t, link).Type())
	assert.Equal(t, fs.ModeSymlink, mode(t, relative).Type())
	assert.Equal(t, "3", read(t, path))
	for _, p := range []string{path, link, relative} {
		place, err := Place(p)
		require.NoError(t, err)
		assert.Equal(t, path, place)
	}
	require.NoError(t, os.Symlink("around", filepath.Join(dir, "around")))
	_, err = Create(filepath.Join(dir, "around"))
	assert.Error(t, err)
	_, err = Place(filepath.Join(dir, "around"))
	assert.Error(t, err)

	// The folder above a link's place is not that above the link.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "d", "e", "f"), 0o700))
	require.NoError(t, os.Symlink("e/f", filepath.Join(dir, "d", "sub")))
	require.NoError(t, os.Symlink("../x", filepath.Join(dir, "d", "e", "f", "link")))
	write(t, filepath.Join(dir, "d", "sub", "link"), "4")
	assert.Equal(t, "4", read(t, filepath.Join(dir, "d", "e", "x")))
	for _, p := range []string{"d/sub/link", "d/sub/../x"} {
		place, err := Place(dir + "/" + p)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(dir, "d", "e", "x"), place)
	}
}

func TestReadOnly(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("NOT TESTED: root may write to any file")
	}
	path := filepath.Join(t.TempDir(), "a")
	write(t, path, "1")
	require.NoError(t, os.Chmod(path, 0o444))
	_, err := Create(path)
	assert.ErrorIs(t, err, fs.ErrPermission)
}

// What is no regular file is not replaced: a device such as /dev/null would be gone.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for _, path := range []string{dir, pipe} {
		_, err := Create(path)
		assert.ErrorContains(t, err, "expected a regular file, or none")
	}
	assert.Equal(t, fs.ModeNamedPipe, mode(t, pipe).Type())
	_, err := Create(filepath.Join(dir, "none", "a"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, filepath.Join(dir, "none", "a"))
}

func TestAbort(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	write(t, path, "1")
	f, err := Create(path)
	require.NoError(t, err)
	f.Abort()
	assert.Error(t, Commit(f))
	assert.Equal(t, "1", read(t, path))

	// No file gets its name if one cannot be closed.
	f, err = Create(path)
	require.NoError(t, err)
	g, err := Create(filepath.Join(dir, "b"))
	require.NoError(t, err)
	require.NoError(t, g.Close())
	assert.Error(t, Commit(f, g))
	f.Abort()
	g.Abort()
	assert.Equal(t, "1", read(t, path))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}
