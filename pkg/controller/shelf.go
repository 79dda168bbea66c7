package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"
)

// shelf holds the constraints of one kind: the store that a reflector fills.
type shelf struct {
	packed bool
	tell   func(name string)
	stop   context.CancelFunc

	mu    sync.RWMutex
	known map[string]held // by name; nil before all have been listed
}

var _ toolscache.TransformingStore = &shelf{}

func newShelf(packed bool, tell func(string), stop context.CancelFunc) *shelf {
	return &shelf{packed: packed, tell: tell, stop: stop}
}

// held is a constraint, decoded or as JSON.
type held struct {
	name   string
	object *unstructured.Unstructured
	text   []byte
}

// lastApplied is where kubectl keeps a copy of the whole object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

var errNoConstraint = errors.New("the API server sent what is no object")

// hold takes out of a constraint what nobody reads. It may be called with what
// it has returned.
func (s *shelf) hold(obj any) (held, error) {
	if done, ok := obj.(held); ok {
		return done, nil
	}
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return held{}, errNoConstraint
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", lastApplied)
	if !s.packed {
		return held{name: u.GetName(), object: u}, nil
	}
	text, err := u.MarshalJSON()
	if err != nil {
		return held{}, fmt.Errorf("encoding constraint %s: %w", u.GetName(), err)
	}
	return held{name: u.GetName(), text: slices.Clip(slices.Clone(text))}, nil
}

func (h held) read() (*unstructured.Unstructured, error) {
	if h.object != nil {
		return h.object, nil
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(h.text); err != nil {
		return nil, fmt.Errorf("decoding constraint %s: %w", h.name, err)
	}
	return u, nil
}

// Transformer has constraints held as they arrive in a streamed list.
func (s *shelf) Transformer() toolscache.TransformFunc {
	return func(obj any) (any, error) { return s.hold(obj) }
}

// Add implements cache.ReflectorStore.
func (s *shelf) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s *shelf) Update(obj any) error {
	h, err := s.hold(obj)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.known[h.name] = h
	s.mu.Unlock()
	s.tell(h.name)
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *shelf) Delete(obj any) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return errNoConstraint
	}
	s.mu.Lock()
	delete(s.known, u.GetName())
	s.mu.Unlock()
	s.tell(u.GetName())
	return nil
}

// Replace implements cache.ReflectorStore: all is what there is now.
func (s *shelf) Replace(all []any, _ string) error {
	now := make(map[string]held, len(all))
	for _, obj := range all {
		h, err := s.hold(obj)
		if err != nil {
			return err
		}
		now[h.name] = h
	}
	s.mu.Lock()
	before := s.known
	s.known = now
	s.mu.Unlock()
	for name := range before {
		if _, still := now[name]; !still {
			s.tell(name)
		}
	}
	for name := range now {
		s.tell(name)
	}
	return nil
}

// Resync implements cache.ReflectorStore. Nothing is told again.
func (*shelf) Resync() error { return nil }

// complete tells whether all constraints have been listed.
func (s *shelf) complete() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known != nil
}

func (s *shelf) get(name string) (held, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h, found := s.known[name]
	return h, found
}

func (s *shelf) names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.known))
}

func (s *shelf) all() []held {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.known))
}
