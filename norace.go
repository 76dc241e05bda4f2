//go:build !race

package lsr

const raceEnabled = false

func (j *job[T]) race() {}
