// Package aside writes files that appear, or are replaced, when they are complete.
package aside

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
)

// File is a file under way, beside the one that it will be. Abort it when done, committed or not.
type File struct {
	*os.File
	path string
}

// Create starts a file. What is there already must be a regular file; it keeps its permissions, and its place if path is
// a symbolic link.
func Create(path string) (*File, error) {
	old, err := os.Stat(path)
	replaces := err == nil
	if replaces {
		if !old.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: expected a regular file, or none, got %s", path, old.Mode())
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), ".lsr-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a := &File{f, path}
	if replaces {
		if err := f.Chmod(old.Mode().Perm()); err != nil {
			a.Abort()
			return nil, err
		}
	}
	return a, nil
}

// Commit gives files their names, after it has closed all of them: that is when some file systems find out that they are
// full.
func Commit(files ...*File) error {
	for _, f := range files {
		if err := f.Close(); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := os.Rename(f.Name(), f.path); err != nil {
			return err
		}
	}
	return nil
}

// Abort removes the file, unless it is committed.
func (f *File) Abort() {
	f.Close()
	os.Remove(f.Name())
}
