package digits

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The first word of an IDX file: unsigned bytes (08), and the number of dimensions.
const (
	labelsMagic = 0x0801
	imagesMagic = 0x0803
)

// maxSide is the largest height or width of an image that ReadIDX takes.
const maxSide = 1 << 12

// ReadIDX reads the four files of MNIST (Y. LeCun, C. Cortes, C. Burges) and the sets made in its likeness, such as
// Fashion-MNIST (Debian's package dataset-fashion-mnist) from a folder: train-images-idx3-ubyte, train-labels-idx1-ubyte
// and the same with t10k, each gzipped with the ending .gz, or plain. The result holds the training rows first
// ([Dataset].Train) and then the others. Labels must be 0 to 9.
//
// Nothing in a file is believed before it is seen: memory grows with the bytes read, not with the sizes that a header
// claims.
func ReadIDX(dir string) (*Dataset, error) {
	d := &Dataset{Classes: classes}
	for _, part := range []string{"train", "t10k"} {
		before, height, width := d.Rows(), 0, 0
		name := part + "-labels-idx1-ubyte"
		if err := readFile(dir, name, func(r io.Reader) (err error) {
			d.Labels, err = readLabels(r, d.Labels)
			return err
		}); err != nil {
			return nil, err
		}
		name = part + "-images-idx3-ubyte"
		if err := readFile(dir, name, func(r io.Reader) (err error) {
			d.Images, height, width, err = readImages(r, d.Images, d.Rows()-before)
			if err == nil && d.Width != 0 && height*width != d.Width {
				err = fmt.Errorf("expected images of %d pixels as in the training set, got %d×%d", d.Width, height, width)
			}
			return err
		}); err != nil {
			return nil, err
		}
		if part == "train" {
			d.Width, d.Train = height*width, d.Rows()
		}
	}
	return d, nil
}

// readFile opens name.gz, or else name, and lets read have its content.
func readFile(dir, name string, read func(io.Reader) error) (err error) {
	path := filepath.Join(dir, name+".gz")
	defer func() {
		if err != nil {
			err = fmt.Errorf("digits: %s: %w", path, err)
		}
	}()
	f, err := os.Open(path)
	zipped := true
	if errors.Is(err, fs.ErrNotExist) {
		var plain *os.File
		if plain, err = os.Open(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("expected this file, or %s without .gz: %w", name, fs.ErrNotExist)
		}
		f, zipped, path = plain, false, filepath.Join(dir, name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = bufio.NewReaderSize(f, 1<<16)
	if zipped {
		if r, err = gzip.NewReader(r); err != nil {
			return err
		}
	}
	return read(r)
}

// header reads the magic number and the dimensions.
func header(r io.Reader, magic uint32, dims int) ([]uint32, error) {
	words := make([]uint32, 1+dims)
	if err := binary.Read(r, binary.BigEndian, words); err != nil {
		return nil, fmt.Errorf("header: expected %d bytes: %w", 4*len(words), err)
	}
	if words[0] != magic {
		return nil, fmt.Errorf("expected the magic number %#08x, got %#08x", magic, words[0])
	}
	return words[1:], nil
}

// body hands out the next want bytes of r in pieces, and checks that they are all and the last.
func body(r io.Reader, want int64, piece func([]byte) error) error {
	buf := make([]byte, 1<<15)
	for left := want; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if e := piece(buf[:n]); e != nil {
			return e
		}
		left -= int64(n)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			// compress/gzip says ErrUnexpectedEOF as well when its input is cut off.
			return fmt.Errorf("expected %d bytes after the header, got %d: %w", want, want-left, io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
	}
	// Reading to the end lets gzip compare its checksum, too.
	switch n, err := io.ReadFull(r, buf[:1]); {
	case n > 0:
		return fmt.Errorf("expected %d bytes after the header, got more", want)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// readLabels appends the labels of an IDX file.
func readLabels(r io.Reader, labels []uint8) ([]uint8, error) {
	dims, err := header(r, labelsMagic, 1)
	if err != nil {
		return nil, err
	}
	if dims[0] == 0 {
		return nil, errors.New("expected at least one label, got none")
	}
	start := len(labels)
	err = body(r, int64(dims[0]), func(b []byte) error {
		for _, label := range b {
			if label >= classes {
				return fmt.Errorf("label %d: expected 0 to %d, got %d", len(labels)-start, classes-1, label)
			}
			labels = append(labels, label)
		}
		return nil
	})
	return labels, err
}

// readImages appends the images of an IDX file, of which there must be count.
func readImages(r io.Reader, images []float32, count int) (_ []float32, height, width int, err error) {
	dims, err := header(r, imagesMagic, 3)
	if err != nil {
		return nil, 0, 0, err
	}
	if int64(dims[0]) != int64(count) {
		return nil, 0, 0, fmt.Errorf("expected %d images, as many as there are labels, got %d", count, dims[0])
	}
	if h, w := dims[1], dims[2]; h < 1 || h > maxSide || w < 1 || w > maxSide {
		return nil, 0, 0, fmt.Errorf("expected images of 1×1 to %d×%d pixels, got %d×%d", maxSide, maxSide, h, w)
	}
	height, width = int(dims[1]), int(dims[2])
	var pixels []byte // gathered first: growing bytes is cheaper than growing floats
	if err := body(r, int64(count)*int64(height)*int64(width), func(b []byte) error {
		pixels = append(pixels, b...)
		return nil
	}); err != nil {
		return nil, 0, 0, err
	}
	images = slices.Grow(images, len(pixels))
	for _, pixel := range pixels {
		images = append(images, float32(pixel)/255)
	}
	return images, height, width, nil
}
