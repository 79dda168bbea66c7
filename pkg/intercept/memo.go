package intercept

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxMemo bounds the requests that a memo remembers.
const maxMemo = 1 << 14

// memo remembers what conditions said of a request, by all that they can see
// of it. Evaluating them takes a tenth of a millisecond, and the samples of
// many constraints are alike.
type memo struct {
	// objects tells that a condition may read the objects.
	objects bool
	size    atomic.Int64
	known   sync.Map
}

func newMemo(declared []admissionregistrationv1.MatchCondition) *memo {
	return &memo{objects: slices.ContainsFunc(declared, func(c admissionregistrationv1.MatchCondition) bool {
		// It is object, oldObject or namespaceObject that they read.
		return strings.Contains(c.Expression, "bject")
	})}
}

func (m *memo) get(key string) ([]Reason, bool) {
	v, ok := m.known.Load(key)
	if !ok {
		return nil, false
	}
	why, ok := v.([]Reason)
	return why, ok
}

func (m *memo) put(key string, why []Reason) {
	if key != "" && m.size.Add(1) <= maxMemo {
		m.known.Store(key, why)
	}
}

// key is all that conditions can see of a request that is converted to a kind.
// It is empty for a request that cannot be remembered.
func (m *memo) key(r Request, kind schema.GroupVersionKind) string {
	k := fingerprint{}
	k.text(r.Kind.Group, r.Kind.Version, r.Kind.Kind, kind.Group, kind.Version, kind.Kind,
		r.Resource.Group, r.Resource.Version, r.Resource.Resource, r.SubResource,
		r.Name, r.namespace(), string(r.Operation), r.User.Username, r.User.UID)
	k.list(r.User.Groups)
	for _, name := range slices.Sorted(maps.Keys(r.User.Extra)) {
		k.text(name)
		k.list(r.User.Extra[name])
	}
	if !m.objects {
		return string(k)
	}
	for _, o := range []map[string]any{r.Object, r.OldObject} {
		text, err := json.Marshal(o)
		if err != nil {
			return ""
		}
		k.text(string(text))
	}
	return string(k)
}

// fingerprint is a list of texts, each after its length.
type fingerprint []byte

func (f *fingerprint) text(texts ...string) {
	for _, t := range texts {
		*f = append(binary.AppendUvarint(*f, uint64(len(t))), t...)
	}
}

// list tells nil from empty, as conditions do: has() of the one is false.
func (f *fingerprint) list(texts []string) {
	if texts == nil {
		*f = append(*f, 0)
		return
	}
	*f = binary.AppendUvarint(*f, uint64(len(texts)+1))
	f.text(texts...)
}
