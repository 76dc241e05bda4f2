package digits

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLoad(t *testing.T) {
	d, err := Load()
	require.NoError(t, err)
	assert.Equal(t, []int{1797, 64, 10, 0}, []int{d.Rows(), d.Width, d.Classes, d.Train})
	require.Len(t, d.Images, 1797*64)
	var counts [10]int
	for _, label := range d.Labels {
		counts[label]++
	}
	assert.Equal(t, [10]int{178, 182, 177, 183, 181, 182, 181, 179, 174, 180}, counts)
	least, most := d.Images[0], d.Images[0]
	for _, v := range d.Images {
		least, most = min(least, v), max(most, v)
	}
	assert.Equal(t, []float32{0, 1}, []float32{least, most})
	assert.Equal(t, []float32{0, 0, 5. / 16, 13. / 16, 9. / 16, 1. / 16, 0, 0}, d.Image(0)[:8])
	assert.Equal(t, []uint8{0, 1, 2}, d.Labels[:3])
}

func TestCSVErrors(t *testing.T) {
	row := strings.Repeat("0,", 64)
	for text, want := range map[string]string{
		"":                         "got none",
		row + "1\n" + row + "10\n": `line 2, column 129: expected a number from 0 to 9, got "10"`,
		"17," + row[2:] + "1\n":    `line 1, column 1: expected a number from 0 to 16, got "17"`,
		"-1," + row[2:] + "1\n":    "expected a number",
		"x," + row[2:] + "1\n":     "expected a number",
		row + "\n":                 "expected a number",
		row + "1,1\n":              "wrong number of fields",
	} {
		_, err := readCSV(strings.NewReader(text))
		assert.ErrorContains(t, err, want)
	}
}

// idx is an IDX file.
func idx(magic uint32, dims []uint32, body ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, magic)
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return append(b, body...)
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

const (
	trainImages = "train-images-idx3-ubyte"
	trainLabels = "train-labels-idx1-ubyte"
	testImages  = "t10k-images-idx3-ubyte"
	testLabels  = "t10k-labels-idx1-ubyte"
)

// files are four that belong together, not zipped.
func files() map[string][]byte {
	return map[string][]byte{
		trainImages: idx(0x803, []uint32{2, 2, 3}, 0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6),
		trainLabels: idx(0x801, []uint32{2}, 9, 0),
		testImages:  idx(0x803, []uint32{1, 2, 3}, 255, 0, 0, 0, 0, 255),
		testLabels:  idx(0x801, []uint32{1}, 5),
	}
}

func write(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return dir
}

func TestReadIDX(t *testing.T) {
	plain, zipped, mixed := files(), map[string][]byte{}, files()
	for name, b := range plain {
		zipped[name+".gz"] = zip(b)
	}
	delete(mixed, trainImages)
	mixed[trainImages+".gz"] = zipped[trainImages+".gz"]
	for _, set := range []map[string][]byte{plain, zipped, mixed} {
		d, err := ReadIDX(write(t, set))
		require.NoError(t, err)
		assert.Equal(t, []int{3, 6, 10, 2}, []int{d.Rows(), d.Width, d.Classes, d.Train})
		assert.Equal(t, []uint8{9, 0, 5}, d.Labels)
		assert.Equal(t, []float32{0, .2, .4, .6, .8, 1}, d.Image(0))
		assert.Equal(t, []float32{1, 0, 0, 0, 0, 1}, d.Image(2))
	}
}

func TestReadIDXErrors(t *testing.T) {
	huge := ^uint32(0)
	for want, set := range map[string]map[string][]byte{
		"expected the magic number 0x00000803, got 0x00000801":        {trainImages: idx(0x801, []uint32{2, 2, 3}, make([]byte, 12)...)},
		"expected the magic number 0x00000801, got 0x00000d01":        {testLabels: idx(0xd01, []uint32{1}, 5)},
		"header: expected 16 bytes":                                   {trainImages: idx(0x803, []uint32{2, 2})},
		"header: expected 8 bytes":                                    {trainLabels: nil},
		"expected at least one label":                                 {trainLabels: idx(0x801, []uint32{0})},
		"label 1: expected 0 to 9, got 10":                            {trainLabels: idx(0x801, []uint32{2}, 9, 10)},
		"expected 2 images, as many as there are labels, got 3":       {trainImages: idx(0x803, []uint32{3, 2, 3}, make([]byte, 18)...)},
		"expected 12 bytes after the header, got 11":                  {trainImages: idx(0x803, []uint32{2, 2, 3}, make([]byte, 11)...)},
		"expected 12 bytes after the header, got 0":                   {trainImages: idx(0x803, []uint32{2, 2, 3})},
		"expected 12 bytes after the header, got more":                {trainImages: idx(0x803, []uint32{2, 2, 3}, make([]byte, 13)...)},
		"pixels, got 0×3":                                             {trainImages: idx(0x803, []uint32{2, 0, 3})},
		"1×1 to 4096×4096 pixels, got 4294967295×4294967295":          {trainImages: idx(0x803, []uint32{2, huge, huge})},
		"expected 4294967295 bytes after the header, got 2":           {trainLabels: idx(0x801, []uint32{huge}, 1, 2)},
		"expected 33554432 bytes after the header, got 1":             {trainImages: idx(0x803, []uint32{2, 4096, 4096}, 1)},
		"expected images of 6 pixels as in the training set, got 2×2": {testImages: idx(0x803, []uint32{1, 2, 2}, 1, 2, 3, 4)},
		"gzip: invalid header":                                        {trainImages + ".gz": []byte("no gzip, but long enough")},
		"header: expected 8 bytes: unexpected EOF":                    {trainLabels + ".gz": zip(idx(0x801, []uint32{2}, 9, 0))[:15]},
	} {
		all := files()
		for name, b := range set {
			all[name] = b
		}
		_, err := ReadIDX(write(t, all))
		if !assert.ErrorContains(t, err, want) {
			continue
		}
		for name := range set {
			assert.ErrorContains(t, err, name, "the error names the file")
		}
	}

	all := files()
	delete(all, testImages)
	_, err := ReadIDX(write(t, all))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, testImages+" without .gz")

	all = files()
	b := zip(all[trainLabels])
	all[trainLabels+".gz"] = b[:len(b)-4]
	_, err = ReadIDX(write(t, all))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	b[len(b)-5] ^= 1 // of the checksum
	all[trainLabels+".gz"] = b
	_, err = ReadIDX(write(t, all))
	assert.ErrorIs(t, err, gzip.ErrChecksum)
}

// A header that promises gigabytes costs no memory.
func TestReadIDXMemory(t *testing.T) {
	file := idx(0x801, []uint32{^uint32(0)}, 1, 2, 3)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readLabels(bytes.NewReader(file), nil)
	runtime.ReadMemStats(&after)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<18))
}
