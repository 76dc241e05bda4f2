// Command gen makes the kernels of package lsr: the assembly with avo, and with jennifer the Go around it. Without arguments
// it makes those of package lsr itself, which go generate runs in its folder.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := core()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := write(f); err != nil {
			return err
		}
	}
	return nil
}

// file is a file to write.
type file struct {
	name string
	data []byte
}

// write writes a file aside and renames it.
func write(f file) error {
	tmp, err := os.CreateTemp(".", f.name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(f.data); err == nil {
		err = tmp.Chmod(0o644)
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.name)
}
