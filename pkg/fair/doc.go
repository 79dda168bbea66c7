// Package fair shares what there is little of, seats and memory, between those who
// ask for it: first between sources, which are the addresses that requests come
// from, then within each between two lanes, and within a lane between flows, which
// are namespaces or users.
//
// Whoever is turned away is told why. ErrShare says that what is in the way is the
// load of the same flow of the same source, whatever others do; a caller may hold
// that against it. ErrFull says that all together are too much.
//
// The fair queues of API servers (k8s.io/apiserver
// pkg/util/flowcontrol/fairqueuing) are not used: they deal flows to a fixed
// number of queues by their hashes, so that who is turned away may have done
// nothing but share a queue, they do not say whose load was in the way, and they
// have one level.
package fair

import "errors"

var (
	// ErrShare is why a request is turned away that its own flow is in the way of.
	ErrShare = errors.New("more than its share is in progress")
	// ErrFull is why a request is turned away that others are in the way of.
	ErrFull = errors.New("too much is in progress")
)

// Key says whose load a request is.
type Key struct {
	// Source is the address that it comes from.
	Source string
	// Reserved puts it into the lane that is not taken up by the other, and whose
	// flows are never turned away for their own load.
	Reserved bool
	// Stranger has the source make do with an eighth of all.
	Stranger bool
	// Flow is who is charged for it within its source and lane.
	Flow string
}

// lane is a source's lane.
type lane struct {
	source   string
	reserved bool
}

func (k Key) lane() lane { return lane{k.Source, k.Reserved} }
