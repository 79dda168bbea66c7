//go:build !linux

package machine

import "errors"

var errUnknown = errors.New("the use of processors is not known here")

func readUse() (use, error) { return use{}, errUnknown }

func processors() float64 { return 0 }
