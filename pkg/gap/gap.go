// Package gap keeps what the webhook left unjudged: requests that it answered with an
// error of its own, or that were answered when nobody waited for it any more, so that
// API servers let the objects in. A webhook's process records them and says so in its
// presence Lease; the leader looks at each object first, and lists those that are
// there.
//
// Anybody can send the webhook reviews. What is recorded is therefore a claim: the
// leader believes it of an object that exists with the same UID.
package gap

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Annotation of a presence Lease holds the Passed of a process.
const Annotation = "fusegate.dev/unjudged"

const (
	// most bounds how many a process keeps, and maxAge for how long: the leader has
	// seen them by then, or nobody will.
	most   = 256
	maxAge = 15 * time.Minute
)

// Passed is a request that was not judged.
type Passed struct {
	Group     string    `json:"g,omitempty"`
	Version   string    `json:"v"`
	Kind      string    `json:"k"`
	Namespace string    `json:"ns,omitempty"`
	Name      string    `json:"n"`
	UID       types.UID `json:"u"`
	// At is when, in seconds.
	At int64 `json:"t"`
}

// GroupVersionKind is that of the object.
func (p Passed) GroupVersionKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: p.Group, Version: p.Version, Kind: p.Kind}
}

// nameable tells whether an object can be looked for by p. All of them together stay
// below what annotations of an object may have (256 KiB, TotalAnnotationSizeLimitB in
// k8s.io/apimachinery pkg/api/validation), whatever somebody sends: the presence of a
// process depends on its Lease.
func (p Passed) nameable() bool {
	const name, label = 253, 63
	return plain(p.Group, 0, 2*label) && plain(p.Version, 1, label) && plain(p.Kind, 1, label) &&
		plain(p.Namespace, 0, label) && (plain(p.Name, 1, name) || readable(p.Name, name)) && plain(string(p.UID), 1, label)
}

// readable tells whether a text can be shown, and has no more than so many bytes as
// JSON: the names of some kinds, such as Roles, may hold nearly anything.
func readable(s string, most int) bool {
	text, err := json.Marshal(s)
	return err == nil && s != "" && len(text) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// plain tells whether a text has so many bytes, none of which JSON escapes.
func plain(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return c < '!' || c > '~' || strings.ContainsRune("\"\\<>&", c) })
}

// Recorder keeps the latest of what passed. The zero value is ready to use. It is safe
// for concurrent use.
type Recorder struct {
	mu     sync.Mutex
	latest []recorded // in the order in which they came
}

type recorded struct {
	Passed
	source string
}

// Record keeps p, if an object can be looked for by it. Where there are many, those
// of the source of most of them make room.
func (r *Recorder) Record(source string, p Passed) {
	if !p.nameable() {
		return
	}
	p = p.clone()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.latest) >= most {
		r.drop()
	}
	r.latest = append(r.latest, recorded{p, strings.Clone(source)})
}

// drop takes out the oldest of the source that has the most.
func (r *Recorder) drop() {
	count := map[string]int{}
	var of string
	for _, x := range r.latest {
		if count[x.source]++; count[x.source] > count[of] {
			of = x.source
		}
	}
	at := slices.IndexFunc(r.latest, func(x recorded) bool { return x.source == of })
	r.latest = slices.Delete(r.latest, at, at+1)
}

// clone does not share memory with the review.
func (p Passed) clone() Passed {
	for _, s := range []*string{&p.Group, &p.Version, &p.Kind, &p.Namespace, &p.Name, (*string)(&p.UID)} {
		*s = strings.Clone(*s)
	}
	return p
}

// Annotations are those of the presence Lease.
func (r *Recorder) Annotations() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := time.Now().Add(-maxAge).Unix()
	r.latest = slices.DeleteFunc(r.latest, func(x recorded) bool { return x.At < oldest })
	if len(r.latest) == 0 {
		return map[string]string{Annotation: ""}
	}
	all := make([]Passed, len(r.latest))
	for i, x := range r.latest {
		all[i] = x.Passed
	}
	text, err := json.Marshal(all)
	if err != nil {
		text = nil // it is text and numbers
	}
	return map[string]string{Annotation: string(text)}
}

// Read returns what an annotation says.
func Read(annotations map[string]string) ([]Passed, error) {
	text := annotations[Annotation]
	if text == "" {
		return nil, nil
	}
	var out []Passed
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", Annotation, err)
	}
	return slices.DeleteFunc(out, func(p Passed) bool { return !p.nameable() }), nil
}
