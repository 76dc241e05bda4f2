// Package npy reads and writes arrays in NumPy's .npy format, versions 1.0 to 3.0, block by block: memory does not depend
// on what a file claims to hold. The format is that of numpy.lib.format's documentation.
package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/golsr/lsr"
	"github.com/golsr/lsr/internal/aside"
)

const (
	magic     = "\x93NUMPY"
	maxHeader = 1 << 20
	maxDims   = 64 // as in NumPy
	bufferLen = 1 << 16
)

// File is an array that is read in blocks of elements, which are numbered in the order in which they are stored. It is not
// safe for concurrent use.
type File struct {
	Name    string
	Kind    byte // 'f' float, 'i' int, 'u' unsigned, 'b' bool
	Size    int  // bytes of an element
	Shape   []int
	Fortran bool // the first index changes fastest; false where both orders are the same

	order  binary.ByteOrder
	r      io.ReaderAt
	offset int64 // of the first element
	len    int
	buffer []byte
	file   *os.File    // what r is, if that is a file,
	info   os.FileInfo // and what it was like when it was opened
}

// Open opens a regular file and checks that it holds what its header says, no less and no more.
func Open(path string) (*File, error) {
	info, err := os.Stat(path) // before the file is opened, which would wait for a pipe's other end
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: expected a regular file, got %s", path, info.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, err
	}
	a, err := New(f, info.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a.Name, a.file, a.info = path, f, info
	return a, nil
}

// Unchanged says whether the file has still the size and the time that it was opened with.
func (f *File) Unchanged() error {
	info, err := f.file.Stat()
	if err == nil && (info.Size() != f.info.Size() || !info.ModTime().Equal(f.info.ModTime())) {
		err = fmt.Errorf("%s: changed while it was read", f.Name)
	}
	return err
}

// New reads the header of a file of so many bytes.
func New(r io.ReaderAt, size int64) (*File, error) {
	var start [12]byte
	n, err := r.ReadAt(start[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n < 10 || string(start[:6]) != magic {
		return nil, errors.New("expected a .npy file, got one that does not begin like one")
	}
	if start[6] < 1 || start[6] > 3 || start[7] != 0 {
		return nil, fmt.Errorf("expected .npy version 1.0, 2.0 or 3.0, got %d.%d", start[6], start[7])
	}
	length, at := int64(binary.LittleEndian.Uint16(start[8:])), int64(10)
	if start[6] > 1 {
		length, at = int64(binary.LittleEndian.Uint32(start[8:])), 12
	}
	if length > maxHeader || at+length > size {
		return nil, fmt.Errorf("header of %d bytes in a file of %d", length, size)
	}
	text := make([]byte, length)
	if _, err := r.ReadAt(text, at); err != nil && err != io.EOF {
		return nil, err
	}
	h, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	f := &File{Shape: h.shape, r: r, offset: at + length}
	if err := f.setType(h.descr); err != nil {
		return nil, err
	}
	bytes, fits := product(h.shape, f.Size)
	if !fits || int64(bytes) != size-f.offset {
		return nil, fmt.Errorf("shape %v of %s needs %s bytes of data, the file has %d", h.shape, h.descr,
			map[bool]string{true: fmt.Sprint(bytes), false: "over 2⁶³"}[fits], size-f.offset)
	}
	f.len = bytes / f.Size
	axes := 0
	for _, d := range h.shape {
		if d != 1 {
			axes++
		}
	}
	f.Fortran = h.fortran && axes > 1
	return f, nil
}

// setType understands a dtype such as <f4.
func (f *File) setType(descr string) error {
	bad := fmt.Errorf("expected elements of f2, f4, f8, b1, or an integer type, got %q", descr)
	if len(descr) != 3 {
		return bad
	}
	switch descr[0] {
	case '<', '|':
		f.order = binary.LittleEndian
	case '>':
		f.order = binary.BigEndian
	case '=':
		f.order = binary.NativeEndian
	default:
		return bad
	}
	f.Kind, f.Size = descr[1], int(descr[2]-'0')
	sizes := map[byte][]int{'f': {2, 4, 8}, 'i': {1, 2, 4, 8}, 'u': {1, 2, 4, 8}, 'b': {1}}
	if !slices.Contains(sizes[f.Kind], f.Size) || descr[0] == '|' && f.Size > 1 {
		return bad
	}
	return nil
}

// Len is the number of elements.
func (f *File) Len() int { return f.len }

// Type is the dtype without its byte order, such as f4.
func (f *File) Type() string { return fmt.Sprintf("%c%d", f.Kind, f.Size) }

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// each calls got with the bytes of n elements from number start on, one after another.
func (f *File) each(n, start int, got func(i int, b []byte) error) error {
	if start < 0 || n < 0 || n > f.len-start {
		return fmt.Errorf("%s: no elements [%d, %d), it has %d", f.Name, start, start+n, f.len)
	}
	if f.buffer == nil {
		f.buffer = make([]byte, bufferLen)
	}
	for i := 0; i < n; {
		block := f.buffer[:min(bufferLen, (n-i)*f.Size)]
		if read, err := f.r.ReadAt(block, f.offset+int64(start+i)*int64(f.Size)); read < len(block) {
			if err == io.EOF { // the file has shrunk since it was opened
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		for ; len(block) > 0; i++ {
			if err := got(i, block[:f.Size]); err != nil {
				return err
			}
			block = block[f.Size:]
		}
	}
	return nil
}

// Float64s reads len(dst) elements of a float, integer or bool type from number start on. An integer beyond 2⁵³ is rounded.
func (f *File) Float64s(dst []float64, start int) error {
	if f.Kind != 'f' {
		return f.each(len(dst), start, func(i int, b []byte) error {
			u := f.bits(b)
			if dst[i] = float64(u); f.Kind == 'i' {
				dst[i] = float64(signed(u, f.Size))
			}
			return nil
		})
	}
	return f.each(len(dst), start, func(i int, b []byte) error {
		switch u := f.bits(b); f.Size {
		case 2:
			dst[i] = float64(lsr.Float16(u).Float32())
		case 4:
			dst[i] = float64(math.Float32frombits(uint32(u)))
		default:
			dst[i] = math.Float64frombits(u)
		}
		return nil
	})
}

// Float32s reads len(dst) elements of f2 or f4 from number start on.
func (f *File) Float32s(dst []float32, start int) error {
	if f.Kind != 'f' || f.Size > 4 {
		return fmt.Errorf("%s: expected f2 or f4, got %s", f.Name, f.Type())
	}
	return f.each(len(dst), start, func(i int, b []byte) error {
		if u := f.bits(b); f.Size == 2 {
			dst[i] = lsr.Float16(u).Float32()
		} else {
			dst[i] = math.Float32frombits(uint32(u))
		}
		return nil
	})
}

// Uint16s reads the bits of len(dst) elements of f2 or u2 from number start on.
func (f *File) Uint16s(dst []uint16, start int) error {
	if t := f.Type(); t != "f2" && t != "u2" {
		return fmt.Errorf("%s: expected f2 or u2, got %s", f.Name, t)
	}
	return f.each(len(dst), start, func(i int, b []byte) error {
		dst[i] = f.order.Uint16(b)
		return nil
	})
}

// Int64s reads len(dst) elements of any integer type, or bool, from number start on.
func (f *File) Int64s(dst []int64, start int) error {
	if f.Kind == 'f' {
		return fmt.Errorf("%s: expected an integer type, got %s", f.Name, f.Type())
	}
	return f.each(len(dst), start, func(i int, b []byte) error {
		u := f.bits(b)
		if f.Kind == 'i' {
			dst[i] = signed(u, f.Size)
			return nil
		}
		if u > math.MaxInt64 {
			return fmt.Errorf("%s: element %d is %d, expected one below 2⁶³", f.Name, start+i, u)
		}
		dst[i] = int64(u)
		return nil
	})
}

// bits is an element as an unsigned number.
func (f *File) bits(b []byte) uint64 {
	switch f.Size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(f.order.Uint16(b))
	case 4:
		return uint64(f.order.Uint32(b))
	}
	return f.order.Uint64(b)
}

// signed extends the sign of a number of so many bytes.
func signed(u uint64, size int) int64 {
	shift := 64 - 8*size
	return int64(u<<shift) >> shift
}

// Writer is an array that is being written, to a file aside until it is committed.
type Writer struct {
	*aside.File
	path   string
	size   int // bytes of an element
	len    int
	offset int64
	buffer []byte
}

// Create starts a little-endian array; descr is <f2, <f4, <f8 or <u2. Elements that are never written are 0.
func Create(path, descr string, shape []int) (*Writer, error) {
	if !slices.Contains([]string{"<f2", "<f4", "<f8", "<u2"}, descr) {
		return nil, fmt.Errorf("%s: expected <f2, <f4, <f8 or <u2, got %q", path, descr)
	}
	if len(shape) > maxDims {
		return nil, fmt.Errorf("%s: expected at most %d dimensions, got %d", path, maxDims, len(shape))
	}
	for _, d := range shape {
		if d < 0 {
			return nil, fmt.Errorf("%s: expected dimensions of 0 and up, got shape %v", path, shape)
		}
	}
	size := int(descr[2] - '0')
	bytes, fits := product(shape, size)
	if !fits {
		return nil, fmt.Errorf("%s: shape %v is too large", path, shape)
	}
	tuple := ""
	for _, d := range shape {
		tuple += fmt.Sprintf("%d, ", d)
	}
	if tuple != "" {
		if tuple = tuple[:len(tuple)-1]; len(shape) > 1 {
			tuple = tuple[:len(tuple)-1]
		}
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, tuple)
	for (10+len(text)+1)%64 != 0 {
		text += " "
	}
	text += "\n"
	head := append([]byte(magic+"\x01\x00"), 0, 0)
	binary.LittleEndian.PutUint16(head[8:], uint16(len(text)))
	head = append(head, text...)

	f, err := aside.Create(path)
	if err != nil {
		return nil, err
	}
	w := &Writer{File: f, path: path, size: size, len: bytes / size, offset: int64(len(head))}
	_, err = f.Write(head)
	if err == nil {
		err = f.Truncate(w.offset + int64(bytes))
	}
	if err != nil {
		f.Abort()
		return nil, err
	}
	return w, nil
}

// Float64sAt writes elements of f8 from number start on.
func (w *Writer) Float64sAt(src []float64, start int) error {
	return writeAt(w, src, start, 8, func(b []byte, v float64) []byte {
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	})
}

// Float32sAt writes elements of f4 from number start on.
func (w *Writer) Float32sAt(src []float32, start int) error {
	return writeAt(w, src, start, 4, func(b []byte, v float32) []byte {
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	})
}

// Uint16sAt writes the bits of elements of f2 or u2 from number start on.
func (w *Writer) Uint16sAt(src []uint16, start int) error {
	return writeAt(w, src, start, 2, binary.LittleEndian.AppendUint16)
}

func writeAt[T any](w *Writer, src []T, start, size int, put func([]byte, T) []byte) error {
	if size != w.size || start < 0 || len(src) > w.len-start {
		return fmt.Errorf("%s: elements [%d, %d) of %d bytes do not fit %d of %d", w.path, start, start+len(src), size, w.len, w.size)
	}
	for len(src) > 0 {
		n := min(len(src), bufferLen/size)
		w.buffer = w.buffer[:0]
		for _, v := range src[:n] {
			w.buffer = put(w.buffer, v)
		}
		if _, err := w.WriteAt(w.buffer, w.offset+int64(start)*int64(size)); err != nil {
			return fmt.Errorf("%s: %w", w.path, err)
		}
		src, start = src[n:], start+n
	}
	return nil
}
