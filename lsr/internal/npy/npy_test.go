package npy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golsr/lsr/internal/aside"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// file makes a .npy file.
func file(version byte, header string, data []byte) []byte {
	head := []byte{'\x93', 'N', 'U', 'M', 'P', 'Y', version, 0}
	if version == 1 {
		head = binary.LittleEndian.AppendUint16(head, uint16(len(header)))
	} else {
		head = binary.LittleEndian.AppendUint32(head, uint32(len(header)))
	}
	return append(append(head, header...), data...)
}

func dict(descr, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", descr, shape)
}

func read(b []byte) (*File, error) { return New(bytes.NewReader(b), int64(len(b))) }

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		descr string
		data  []byte
		want  float64
	}{
		{"<f4", []byte{0, 0, 0x80, 0x3f}, 1}, {">f4", []byte{0x3f, 0x80, 0, 0}, 1},
		{"<f8", []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}, 1}, {">f8", []byte{0x3f, 0xf0, 0, 0, 0, 0, 0, 0}, 1},
		{"<f2", []byte{0, 0x3c}, 1}, {">f2", []byte{0x3c, 0}, 1},
		{"|i1", []byte{0xfe}, -2}, {"<i2", []byte{0xfe, 0xff}, -2}, {">i2", []byte{0xff, 0xfe}, -2},
		{"<i4", []byte{0xfe, 0xff, 0xff, 0xff}, -2}, {">i8", []byte{255, 255, 255, 255, 255, 255, 255, 254}, -2},
		{"|u1", []byte{0xfe}, 254}, {"<u2", []byte{0xfe, 0xff}, 65534}, {"<u4", []byte{1, 0, 0, 0}, 1},
		{"<u8", []byte{1, 0, 0, 0, 0, 0, 0, 0}, 1}, {"|b1", []byte{1}, 1},
	} {
		for version := byte(1); version <= 3; version++ {
			f, err := read(file(version, dict(c.descr, "(1,)"), c.data))
			require.NoError(t, err, c.descr)
			var got [1]float64
			require.NoError(t, f.Float64s(got[:], 0))
			assert.Equal(t, c.want, got[0], c.descr)
			var n [1]int64
			if f.Kind == 'f' {
				assert.Error(t, f.Int64s(n[:], 0))
			} else {
				require.NoError(t, f.Int64s(n[:], 0))
				assert.Equal(t, int64(c.want), n[0], c.descr)
			}
			assert.Error(t, f.Float64s(got[:], 1), "beyond the end")
		}
	}
}

func TestUint64BeyondInt64(t *testing.T) {
	f, err := read(file(1, dict("<u8", "(1,)"), bytes.Repeat([]byte{255}, 8)))
	require.NoError(t, err)
	assert.ErrorContains(t, f.Int64s(make([]int64, 1), 0), "element 0 is 18446744073709551615")
}

func TestHeaders(t *testing.T) {
	four := make([]byte, 16)
	for _, c := range []struct {
		name, header string
		want         string // part of the error; empty: none
	}{
		{"plain", dict("<f4", "(2, 2)"), ""},
		{"other order and quotes", `{"shape": (4,), "fortran_order": False, "descr": "<f4"}`, ""},
		{"long", dict("<f4", "(4L,)"), ""},
		{"one number without a comma", dict("<f4", "(4)"), ""},
		{"cut short", dict("<f4", "(5,)"), "needs 20 bytes"},
		{"too long", dict("<f4", "(3,)"), "needs 12 bytes"},
		{"huge", dict("<f4", "(9223372036854775807, 9223372036854775807)"), "over 2⁶³"},
		{"negative", dict("<f4", "(-4,)"), "expected a number"},
		{"number out of range", dict("<f4", "(99999999999999999999,)"), "below 2⁶³"},
		{"structured", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}", "expected a string"},
		{"object", dict("|O", "(4,)"), "expected elements"},
		{"complex", dict("<c8", "(2,)"), "expected elements"},
		{"big without order", dict("|f4", "(4,)"), "expected elements"},
		{"key twice", "{'descr': '<f4', 'descr': '<f4', 'shape': (4,)}", "new key"},
		{"key missing", "{'descr': '<f4', 'shape': (4,)}", "got 2"},
		{"key unknown", "{'descr': '<f4', 'shape': (4,), 'x': 1}", `got "x"`},
		{"garbage behind", dict("<f4", "(4,)") + "x", "end of the header"},
		{"empty", "", "expected a dict"},
		{"nested", strings.Repeat("(", 1000), "expected a dict"},
		{"dimensions", dict("<f4", "("+strings.Repeat("1,", 65)+")"), "64 dimensions"},
	} {
		f, err := read(file(2, c.header, four))
		if c.want == "" {
			require.NoError(t, err, c.name)
			assert.Equal(t, 4, f.Len(), c.name)
			continue
		}
		assert.ErrorContains(t, err, c.want, c.name)
	}
	_, err := read(nil)
	assert.ErrorContains(t, err, "begin")
	_, err = read(file(4, "", nil))
	assert.ErrorContains(t, err, "version")
	_, err = read([]byte("\x93NUMPY\x02\x00\xff\xff\xff\x7f"))
	assert.ErrorContains(t, err, "header of 2147483647 bytes in a file of 12")
}

func TestFortran(t *testing.T) {
	for shape, want := range map[string]bool{"(2, 2)": true, "(4,)": false, "(1, 4)": false} {
		f, err := read(file(1, strings.Replace(dict("<f4", shape), "False", "True", 1), make([]byte, 16)))
		require.NoError(t, err)
		assert.Equal(t, want, f.Fortran, shape)
	}
}

func TestWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npy")
	for _, shape := range [][]int{{}, {0}, {1}, {3}, {70, 1000}} {
		w, err := Create(path, "<f4", shape)
		require.NoError(t, err)
		n := w.len
		want := make([]float32, n)
		for i := range want {
			want[i] = float32(i)
		}
		require.NoError(t, w.Float32sAt(want[n/2:], n/2))
		require.NoError(t, w.Float32sAt(want[:n/2], 0))
		assert.Error(t, w.Float32sAt([]float32{1}, n), "beyond the end")
		assert.Error(t, w.Float64sAt(nil, 0), "another type")
		require.NoError(t, aside.Commit(w.File))
		w.Abort()
		f, err := Open(path)
		require.NoError(t, err)
		assert.Equal(t, shape, f.Shape)
		assert.Zero(t, f.offset%64)
		got := make([]float32, n)
		require.NoError(t, f.Float32s(got, 0))
		assert.Equal(t, want, got)
		require.NoError(t, f.Close())
	}
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	w, err := Create(path, "<f8", []int{2})
	require.NoError(t, err)
	require.NoError(t, w.Float64sAt([]float64{math.Pi}, 0))
	w.Abort()
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, before, after, "an aborted write changes nothing")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 1, "and leaves nothing")
}

func TestCreateRefusesWhatItCannotWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	for _, descr := range []string{"", "f4", "<f0", "<f3", ">f4", "<f4'"} {
		_, err := Create(path, descr, []int{1})
		assert.ErrorContains(t, err, "expected <f2", descr)
	}
	_, err := Create(path, "<f4", make([]int, 65))
	assert.ErrorContains(t, err, "at most 64 dimensions")
	_, err = Create(path, "<f4", []int{-1})
	assert.ErrorContains(t, err, "0 and up")
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	_, err := Open(t.TempDir())
	assert.ErrorContains(t, err, "regular file")
}

// A file that shrinks while it is read is an error, not the end of the array.
func TestShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.npy")
	require.NoError(t, os.WriteFile(path, file(1, dict("<f4", "(2,)"), make([]byte, 8)), 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Truncate(path, f.offset+7))
	assert.ErrorIs(t, f.Float32s(make([]float32, 2), 0), io.ErrUnexpectedEOF)
}

// FuzzNew reads hostile files: no panic, and no more elements than there are bytes.
func FuzzNew(f *testing.F) {
	f.Add(file(1, dict("<f4", "(2, 2)"), make([]byte, 16)))
	f.Add(file(2, dict(">i8", "()"), make([]byte, 8)))
	f.Add(file(3, `{"shape": (0, 9223372036854775807), "fortran_order": True, "descr": "|u1"}`, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := read(b)
		if err != nil {
			return
		}
		if a.Len()*a.Size > len(b) {
			t.Fatalf("%d elements of %d bytes in %d bytes", a.Len(), a.Size, len(b))
		}
		n := min(a.Len(), 100)
		if err := a.Float64s(make([]float64, n), a.Len()-n); err != nil {
			t.Fatal(err)
		}
		a.Int64s(make([]int64, n), 0)
		a.Float32s(make([]float32, n), 0)
		a.Uint16s(make([]uint16, n), 0)
	})
}
