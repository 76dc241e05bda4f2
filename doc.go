// Package lsr is the cross-entropy loss with label smoothing, and its gradient.
package lsr
