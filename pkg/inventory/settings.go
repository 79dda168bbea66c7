package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds by which Gatekeeper is told what to read. Of Configs only those with
// configName count.
var (
	syncSetGVK = schema.GroupVersionKind{Group: "syncset.gatekeeper.sh", Version: "v1alpha1", Kind: "SyncSet"}
	configGVK  = schema.GroupVersionKind{Group: "config.gatekeeper.sh", Version: "v1alpha1", Kind: "Config"}
)

const configName = "config"

// settings are the kinds that SyncSets and Config name.
type settings struct {
	i       *Inventory
	sources []*source
}

// source is the objects of one of those kinds.
type source struct {
	i   *Inventory
	gvk schema.GroupVersionKind
	// kindsOf returns what an object names; counts is false for objects that
	// do not count.
	kindsOf func(*unstructured.Unstructured) (kinds []schema.GroupVersionKind, counts bool)

	mu       sync.Mutex
	named    map[string][]schema.GroupVersionKind
	complete bool
	obstacle error
}

var _ objects = (*source)(nil)

func newSettings(i *Inventory) *settings {
	return &settings{i: i, sources: []*source{
		{i: i, gvk: syncSetGVK, kindsOf: i.ofSyncSet, named: map[string][]schema.GroupVersionKind{}},
		{i: i, gvk: configGVK, kindsOf: i.ofConfig, named: map[string][]schema.GroupVersionKind{}},
	}}
}

func (s *settings) start(ctx context.Context) {
	for _, from := range s.sources {
		s.i.tasks.Go(func() { s.i.follow(ctx, from.gvk, from) })
	}
}

// known tells whether it is known what SyncSets and Config name, or that it
// cannot be known.
func (s *settings) known() bool {
	for _, from := range s.sources {
		from.mu.Lock()
		known := from.complete || from.obstacle != nil
		from.mu.Unlock()
		if !known {
			return false
		}
	}
	return true
}

// configured returns the kinds that are named, and why there may be more.
func (s *settings) configured() (map[schema.GroupVersionKind]bool, error) {
	out := map[schema.GroupVersionKind]bool{}
	var unknown error
	for _, from := range s.sources {
		from.mu.Lock()
		for _, kinds := range from.named {
			for _, gvk := range kinds {
				out[gvk] = true
			}
		}
		if !from.complete && !errors.Is(from.obstacle, errNotServed) && unknown == nil {
			unknown = fmt.Errorf("it is not known what %ss name", from.gvk.Kind)
			if from.obstacle != nil {
				unknown = fmt.Errorf("%w: %w", unknown, from.obstacle)
			}
		}
		from.mu.Unlock()
	}
	return out, unknown
}

func (*source) trim(*unstructured.Unstructured) {}

func key(u *unstructured.Unstructured) string { return u.GetNamespace() + "/" + u.GetName() }

func (s *source) replace(all []*unstructured.Unstructured) {
	named := map[string][]schema.GroupVersionKind{}
	for _, u := range all {
		if kinds, counts := s.kindsOf(u); counts {
			named[key(u)] = kinds
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named, s.complete = named, true
	s.i.nudge()
}

func (s *source) put(u *unstructured.Unstructured) {
	kinds, counts := s.kindsOf(u)
	if !counts {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.named[key(u)], kinds) {
		s.i.o.Log.Info("kinds for the inventory named", "by", s.gvk.Kind+" "+strings.TrimPrefix(key(u), "/"), "kinds", fmt.Sprint(kinds))
		s.named = maps.Clone(s.named)
		s.named[key(u)] = kinds
		s.i.nudge()
	}
}

func (s *source) remove(u *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named = maps.Clone(s.named)
	delete(s.named, key(u))
	s.i.nudge()
}

func (s *source) problem(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !errors.Is(err, errNotServed) && (s.obstacle == nil || sort(err) != sort(s.obstacle)) {
		s.i.o.Log.Error(err, "what is to be in the inventory cannot be read; trying again", "kind", s.gvk.Kind)
	}
	if (err == nil) != (s.obstacle == nil) || err != nil && sort(err) != sort(s.obstacle) {
		s.obstacle = err
		s.i.nudge()
	}
}

func (i *Inventory) ofSyncSet(u *unstructured.Unstructured) ([]schema.GroupVersionKind, bool) {
	return i.few(u, "spec.gvks", listed(u, "spec", "gvks"))
}

// maxNamed is how many kinds one object may name: each is followed, and one object
// must not cost the others theirs.
const maxNamed = 500

// few are the kinds that an object names, unless they are too many: then it does
// not count, or counts as it was before.
func (i *Inventory) few(u *unstructured.Unstructured, field string, kinds []schema.GroupVersionKind) ([]schema.GroupVersionKind, bool) {
	if len(kinds) <= maxNamed {
		return kinds, true
	}
	i.o.Log.Error(fmt.Errorf("%s: %d kinds, at most %d are allowed: name those that policies read", field, len(kinds), maxNamed),
		"what an object names is not read for the inventory", "object", u.GetKind()+" "+key(u), "generation", u.GetGeneration())
	return nil, false
}

// ofConfig takes of the Config what Fusegate honours, and says what it does not.
func (i *Inventory) ofConfig(u *unstructured.Unstructured) ([]schema.GroupVersionKind, bool) {
	if u.GetName() != configName || !slices.Contains(i.o.ConfigNamespaces, u.GetNamespace()) {
		i.o.Log.Info("a Config that has no effect", "config", key(u), "reason",
			fmt.Sprintf("only one named %s counts, in namespace %s", configName, strings.Join(i.o.ConfigNamespaces, " or ")))
		return nil, false
	}
	for _, field := range [][]string{{"spec", "match"}, {"spec", "validation"}, {"spec", "readiness"}} {
		if v, found, _ := unstructured.NestedFieldNoCopy(u.Object, field...); found && !empty(v) {
			i.o.Log.Info("a field of the Config has no effect", "config", key(u), "generation", u.GetGeneration(),
				"field", strings.Join(field, "."), "reason", withoutEffect[field[1]])
		}
	}
	return i.few(u, "spec.sync.syncOnly", listed(u, "spec", "sync", "syncOnly"))
}

// withoutEffect says what to use in place of fields of a Config.
var withoutEffect = map[string]string{
	"match":      "Fusegate exempts namespaces by its setting exempt.namespaces; install --import-gatekeeper-config takes over what is for the webhook",
	"validation": "there are no traces",
	"readiness":  "/readyz says what is waited for",
}

func empty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return v == nil
}

// listed reads a list of kinds.
func listed(u *unstructured.Unstructured, path ...string) []schema.GroupVersionKind {
	items, _, _ := unstructured.NestedSlice(u.Object, path...)
	var out []schema.GroupVersionKind
	for _, item := range items {
		fields, _ := item.(map[string]any)
		group, _ := fields["group"].(string)
		version, _ := fields["version"].(string)
		kind, _ := fields["kind"].(string)
		if version != "" && kind != "" {
			out = append(out, schema.GroupVersionKind{Group: group, Version: version, Kind: kind})
		}
	}
	return out
}
