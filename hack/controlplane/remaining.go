package main

import (
	"fmt"
	"time"
)

// remaining counts what is still to be compiled, over all binaries that are to
// be built: most of their packages are the same. How many of them the go command
// has compiled before is not asked, since that would take as long as a build; the
// estimate is thus the most it may take, and falls in a leap when a binary is
// done sooner.
type remaining struct {
	start    time.Time
	done     int                 // compiled since the start
	packages map[string]struct{} // not known to be compiled
	of       map[string][]string // by the name of the binary
}

func newRemaining() *remaining {
	return &remaining{start: time.Now(), packages: map[string]struct{}{}, of: map[string][]string{}}
}

// add notes the packages of a binary.
func (r *remaining) add(t target, packages []string) {
	r.of[t.name] = packages
	for _, p := range packages {
		r.packages[p] = struct{}{}
	}
}

// compiled notes that a package was.
func (r *remaining) compiled(pkg string) {
	r.done++
	delete(r.packages, pkg)
}

// finish notes that a binary is built, and thus all of its packages.
func (r *remaining) finish(t target) {
	for _, p := range r.of[t.name] {
		delete(r.packages, p)
	}
}

// enough is how many packages have to be compiled before their pace says
// something of the others.
const enough = 100

// estimate says how long the rest takes at the pace so far.
func (r *remaining) estimate() string {
	if r.done < enough {
		return fmt.Sprintf("; at most %d to go", len(r.packages))
	}
	rest := time.Since(r.start) / time.Duration(r.done) * time.Duration(len(r.packages))
	return fmt.Sprintf("; at most %d to go, about %.0f min", len(r.packages), rest.Minutes())
}
