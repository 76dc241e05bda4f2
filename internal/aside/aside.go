// Package aside writes files that appear, or are replaced, when they are complete.
package aside

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file under way, beside the one that it will be. Abort it when done, committed or not.
type File struct {
	*os.File
	path string
}

// Place is where a path leads by its symbolic links, whether or not there is a file.
func Place(path string) (string, error) {
	for range 40 { // as many as Linux follows
		dir, name := filepath.Split(path)
		dir, err := filepath.EvalSymlinks(cmp.Or(dir, "."))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, name)
		to, err := os.Readlink(path)
		if err != nil { // no link, or nothing yet
			return filepath.Abs(path)
		}
		if path = to; !filepath.IsAbs(to) {
			path = dir + string(filepath.Separator) + to // not cleaned: .. is of what a link leads to
		}
	}
	return "", fmt.Errorf("%s: expected a file, got symbolic links without end", path)
}

// Create starts a file. What is there already must be a regular file that may be written to; it keeps its permissions. Where
// path is a symbolic link, the file is where that leads.
func Create(path string) (*File, error) {
	old, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	replaces := err == nil
	if replaces {
		if !old.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: expected a regular file, or none, got %s", path, old.Mode())
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	place, err := Place(path)
	if err != nil {
		return nil, failed(path, err)
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(place), ".lsr-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, failed(path, err)
	}
	a := &File{f, place}
	if replaces {
		if err := f.Chmod(old.Mode().Perm()); err != nil {
			a.Abort()
			return nil, err
		}
	}
	return a, nil
}

// failed names the path that was asked for in an error, instead of another.
func failed(path string, err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("%s: %w", path, err)
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
