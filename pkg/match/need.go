package match

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/policy"
)

// Need is what a constraint needs to see.
type Need struct {
	Kind, Name string
	// UID and Generation tell which version of the constraint this is.
	UID        types.UID
	Generation int64
	// Match says which objects; nil matches everything.
	Match *Matcher
	// Operations are those of its template, as written. Empty means CREATE and
	// UPDATE; "*" means all four.
	Operations []policy.Operation
	// Scales tells that its template may read what scaling changes, spec.replicas.
	Scales bool
}
