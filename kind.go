package lsr

import "unsafe"

// elementNames are the element types, by kind.
var elementNames = [kinds]string{float32Kind: "float32", float64Kind: "float64", float16Kind: "float16", bfloat16Kind: "bfloat16"}

// kindOf is the kind of an element type.
func kindOf[T Element]() kind {
	switch any(*new(T)).(type) {
	case float32:
		return float32Kind
	case float64:
		return float64Kind
	case Float16:
		return float16Kind
	}
	return bfloat16Kind
}

// computedKind is the kind of the type that elements are computed in.
func computedKind[T Element]() kind {
	if kindOf[T]() == float64Kind {
		return float64Kind
	}
	return float32Kind
}

// isHalf reports whether elements are narrower than the type that they are computed in.
func isHalf[T Element]() bool { return sizeOf[T]() == 2 }

// sizeOf is how many bytes an element takes.
func sizeOf[T any]() int { return int(unsafe.Sizeof(*new(T))) }

// roundUp is the next multiple of a power of two.
func roundUp(n, multiple int) int { return (n + multiple - 1) &^ (multiple - 1) }
