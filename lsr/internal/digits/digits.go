// Package digits reads sets of small labelled images: one that is embedded, and IDX files.
//
// The embedded set is the test set (1,797 images of 8×8 pixels) of "Optical Recognition of Handwritten Digits" by
// E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licensed CC BY 4.0
// (https://creativecommons.org/licenses/by/4.0/). The file is the copy in Debian's package python3-sklearn; it is
// embedded as it is there, and its pixels, 0 to 16, are divided by 16 when it is read.
package digits

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const classes = 10

// Dataset is labelled images.
type Dataset struct {
	Images  []float32 // [rows, Width], each pixel from 0 to 1
	Labels  []uint8   // one for each row, below Classes
	Width   int       // pixels of an image
	Classes int
	Train   int // the first Train rows are for training and the others for testing; 0: the set comes undivided
}

// Rows is the number of images.
func (d *Dataset) Rows() int { return len(d.Labels) }

// Image is row i of Images.
func (d *Dataset) Image(i int) []float32 { return d.Images[i*d.Width : (i+1)*d.Width] }

//go:embed digits.csv.gz
var embedded []byte

// Load reads the embedded set.
func Load() (*Dataset, error) {
	r, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		return nil, fmt.Errorf("digits: embedded set: %w", err)
	}
	d, err := readCSV(r)
	if err != nil {
		return nil, fmt.Errorf("digits: embedded set: %w", err)
	}
	return d, nil
}

// readCSV reads lines of 64 pixels, 0 to 16, and a label.
func readCSV(r io.Reader) (*Dataset, error) {
	const width, most = 64, 16
	d := &Dataset{Width: width, Classes: classes}
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = width + 1
	lines.ReuseRecord = true
	for {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for i, field := range record {
			limit := most
			if i == width {
				limit = classes - 1
			}
			v, err := strconv.Atoi(field)
			if err != nil || v < 0 || v > limit {
				line, column := lines.FieldPos(i)
				return nil, fmt.Errorf("line %d, column %d: expected a number from 0 to %d, got %q", line, column, limit, field)
			}
			if i < width {
				d.Images = append(d.Images, float32(v)/most)
			} else {
				d.Labels = append(d.Labels, uint8(v))
			}
		}
	}
	if d.Rows() == 0 {
		return nil, errors.New("expected lines of 64 pixels and a label, got none")
	}
	return d, nil
}
