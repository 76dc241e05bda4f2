// Package abi calls functions in assembly and reports what they break of what Go expects under ABI0. It is for tests, and has
// functions that break something, for tests of the test.
package abi
