package main

import (
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// stripDefinition takes out of a CRD what nobody asks the cache for, and what
// makes up nearly all of it: of a version only its name, and whether it is
// served and stored, stays.
func stripDefinition(o any) (any, error) {
	if crd, ok := o.(*apiextensionsv1.CustomResourceDefinition); ok {
		crd.ManagedFields = nil
		for i, v := range crd.Spec.Versions {
			crd.Spec.Versions[i] = apiextensionsv1.CustomResourceDefinitionVersion{Name: v.Name, Served: v.Served, Storage: v.Storage}
		}
	}
	return o, nil
}

const (
	// maxWord is how long a string may be, in bytes, to be worth sharing.
	maxWord = 48
	// maxWords bounds how many are shared.
	maxWords = 4096
)

var withoutManagedFields = cache.TransformStripManagedFields()

// words are short strings that many cached objects hold: names of fields, most
// of all. Each is in memory once.
type words struct {
	mu    sync.Mutex
	known map[string]string
}

// strip takes the managed fields out of an object of any type, and has objects
// without a type of their own share their words.
func (w *words) strip(o any) (any, error) {
	o, err := withoutManagedFields(o)
	u, ok := o.(*unstructured.Unstructured)
	if !ok || err != nil {
		return o, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u.Object = w.object(u.Object)
	return u, nil
}

func (w *words) word(s string) string {
	if len(s) > maxWord {
		return s
	}
	if known, found := w.known[s]; found {
		return known
	}
	if len(w.known) < maxWords {
		w.known[s] = s
	}
	return s
}

func (w *words) object(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for key, v := range m {
		out[w.word(key)] = w.value(v)
	}
	return out
}

func (w *words) value(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return w.object(v)
	case []any:
		for i := range v {
			v[i] = w.value(v[i])
		}
		return v
	case string:
		return w.word(v)
	}
	return v
}
