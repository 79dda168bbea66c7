package inventory_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/inventory"
)

func needs(kinds ...string) string {
	var out []string
	for _, k := range kinds {
		parts := strings.Split(k, " ")
		out = append(out, fmt.Sprintf(`[{"groups": [%q], "versions": [%q], "kinds": [%q]}]`, parts[0], parts[1], parts[2]))
	}
	return "\n\"[\n  " + strings.Join(out, ",\n  ") + "\n]\"\n"
}

// TestLife follows what a policy sees through the life of objects, of several
// kinds, in namespaces and outside, and of templates.
func TestLife(t *testing.T) {
	w := newWorld(t, inventory.Options{})
	w.namespace("inv-a")
	w.namespace("inv-b")
	w.object("ConfigMap", "inv-a", "one", "1")
	w.template("Maps", needs(" v1 ConfigMap"), everything)
	w.await("what exists", "Maps", "ConfigMap inv-a/one=1")
	w.object("ConfigMap", "inv-b", "two", "2")
	w.await("a new object", "Maps", "ConfigMap inv-a/one=1", "ConfigMap inv-b/two=2")
	w.object("ConfigMap", "inv-a", "one", "3")
	w.await("a changed object", "Maps", "ConfigMap inv-a/one=3", "ConfigMap inv-b/two=2")
	w.remove(configMaps, "inv-a", "one")
	w.await("a deleted object", "Maps", "ConfigMap inv-b/two=2")
	if _, found := w.engine.GetData([]string{"namespace", "inv-a"}); found {
		t.Error("a namespace is left with nothing in it")
	}

	lists := w.wire.listed("/configmaps")
	w.apply(namespaces, parse(t, `{apiVersion: v1, kind: Namespace, metadata: {name: inv-b, labels: {in: test, v: x}}}`))
	w.template("Maps", needs(" v1 ConfigMap", " v1 Namespace"), everything)
	w.await("another kind", "Maps", "ConfigMap inv-b/two=2", "Namespace inv-b=x")
	w.template("Maps", needs(" v1 Namespace"), everything)
	w.await("the kind alone", "Maps", "Namespace inv-b=x")
	w.namespace("inv-b")
	w.await("an object that is not labelled any more", "Maps")
	if got := w.wire.listed("/configmaps"); got != lists {
		t.Errorf("ConfigMaps were listed %d times since another kind came", got-lists)
	}
	u, found := w.engine.GetData([]string{"cluster", "v1", "Namespace", "inv-b"})
	if meta, _ := u.(map[string]any)["metadata"].(map[string]any); !found || meta["uid"] == nil || meta["managedFields"] != nil {
		t.Errorf("got %v, want the Namespace without managed fields", u)
	}
}

// TestSettings names kinds by SyncSets and Config.
func TestSettings(t *testing.T) {
	w := newWorld(t, inventory.Options{Secrets: true})
	w.namespace("inv-s")
	w.namespace(home)
	w.object("ConfigMap", "inv-s", "one", "1")
	w.object("Secret", "inv-s", "two", "2")
	w.template("All", "", everything)
	w.awaitFault("no kind at all", "All", "nothing says", "SyncSet")
	w.definitions()
	set := func(name, kinds string) {
		w.apply(syncSets, parse(t, fmt.Sprintf("{apiVersion: syncset.gatekeeper.sh/v1alpha1, kind: SyncSet, metadata: {name: %s}, spec: {gvks: [%s]}}", name, kinds)))
	}
	const maps, secret = `{group: "", version: v1, kind: ConfigMap}`, `{group: "", version: v1, kind: Secret}`
	set("first", maps)
	w.await("a SyncSet", "All", "ConfigMap inv-s/one=1")
	lists := w.wire.listed("/configmaps")
	config := parse(t, fmt.Sprintf("{apiVersion: config.gatekeeper.sh/v1alpha1, kind: Config, metadata: {name: config, namespace: %s}, spec: {sync: {syncOnly: [%s]}, match: [{processes: [sync], excludedNamespaces: [inv-s]}]}}", home, secret))
	w.apply(configs, config)
	w.await("the Config, too", "All", "ConfigMap inv-s/one=1", "Secret inv-s/two=2")
	set("second", secret)
	w.remove(configs, home, "config")
	w.remove(syncSets, "", "second")
	w.await("both gone", "All", "ConfigMap inv-s/one=1")
	set("first", secret+","+maps)
	w.await("a changed SyncSet", "All", "ConfigMap inv-s/one=1", "Secret inv-s/two=2")
	if got := w.wire.listed("/configmaps"); got != lists {
		t.Errorf("ConfigMaps were listed %d times while other kinds came and went", got-lists)
	}
	config.SetName("other")
	config.SetNamespace("inv-s")
	w.apply(configs, config)
	w.remove(syncSets, "", "first")
	w.awaitFault("a Config that does not count", "All", "nothing says")
	w.remove(configs, "inv-s", "other")
}

// TestIncomplete withholds policies for want of rights and of kinds.
func TestIncomplete(t *testing.T) {
	w := newWorld(t, inventory.Options{})
	w.namespace("inv-i")
	w.object("ConfigMap", "inv-i", "one", "1")
	w.grant("namespaces")
	w.template("Maps", needs(" v1 ConfigMap"), everything)
	w.template("Widgets", needs("test.fusegate.dev v1 Widget"), everything)
	w.template("Either", `[[{"groups":["test.fusegate.dev", ""],"versions":["v1"],"kinds":["Widget", "Namespace"]}]]`, `seen[x] { x := count(data.inventory.cluster.v1.Namespace) > 0 }`)
	w.awaitFault("no right", "Maps", "ConfigMap of v1", "forbidden")
	w.awaitFault("no such kind", "Widgets", "Widget of test.fusegate.dev/v1", "does not serve")
	if s, known := w.inventory.State("maps"); !known || s.Complete || !strings.Contains(s.Message, "forbidden") {
		t.Errorf("got state %+v, %v", s, known)
	}
	await(t, "readiness, whatever cannot be read", w.inventory.Err)
	w.grant("*")
	w.await("the right", "Maps", "ConfigMap inv-i/one=1")
	w.definition("test.fusegate.dev", "Widget", "widgets")
	w.await("the kind", "Widgets", "ConfigMap inv-i/one=1")
	widgets := schema.GroupVersionResource{Group: "test.fusegate.dev", Version: "v1", Resource: "widgets"}
	w.apply(widgets, parse(t, `{apiVersion: test.fusegate.dev/v1, kind: Widget, metadata: {name: w, labels: {in: test, v: "1"}}}`))
	w.await("an object of the kind", "Widgets", "ConfigMap inv-i/one=1", "Widget w=1")
	w.remove(crds, "", "widgets.test.fusegate.dev")
	w.await("the kind gone", "Widgets", "ConfigMap inv-i/one=1")

	w.grant("namespaces")
	w.wire.cut("/configmaps", false)
	await(t, "the metric of a kind that cannot be watched", func() error { return w.metric("fusegate_inventory_current", "ConfigMap", 0) })
	w.await("what is known stays", "Maps", "ConfigMap inv-i/one=1")
	w.grant("*")
	await(t, "the metric of a kind that is watched", func() error { return w.metric("fusegate_inventory_current", "ConfigMap", 1) })
	if err := w.metric("fusegate_inventory_complete", "ConfigMap", 1); err != nil {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	w := newWorld(t, inventory.Options{})
	w.namespace("inv-x")
	w.object("Secret", "inv-x", "s", "1")
	w.template("Secrets", needs(" v1 Secret"), everything)
	w.awaitFault("secrets that nobody allowed", "Secrets", "Secret of v1", "inventorySecrets")
	if n := w.wire.listed("/secrets"); n > 0 {
		t.Errorf("Secrets were listed %d times", n)
	}
	w.stop()
	w.start(inventory.Options{Secrets: true})
	w.template("Secrets", needs(" v1 Secret"), everything)
	w.await("secrets that are allowed, after a restart", "Secrets", "Secret inv-x/s=1")
}

// TestLosses takes the watch away while objects change: nothing is ever empty
// meanwhile, and what was deleted goes.
func TestLosses(t *testing.T) {
	w := newWorld(t, inventory.Options{})
	w.namespace("inv-l")
	for _, name := range []string{"kept", "goes"} {
		w.object("ConfigMap", "inv-l", name, "1")
	}
	w.template("Maps", needs(" v1 ConfigMap"), everything)
	w.await("the beginning", "Maps", "ConfigMap inv-l/goes=1", "ConfigMap inv-l/kept=1")
	steady := w.observe("Maps", "ConfigMap inv-l/kept=1")
	lists := w.wire.listed("/configmaps")
	w.wire.cut("/configmaps", true)
	w.object("ConfigMap", "inv-l", "new", "1")
	w.remove(configMaps, "inv-l", "goes")
	compact(t)
	w.wire.cut("/configmaps", false)
	w.await("a watch that lost its place", "Maps", "ConfigMap inv-l/kept=1", "ConfigMap inv-l/new=1")
	if w.wire.listed("/configmaps") == lists {
		t.Error("nothing was listed again: it was no 410")
	}
	if steps, gaps := steady(); steps == 0 || gaps > 0 {
		t.Errorf("an object that never changed was missing after %d of %d steps", gaps, steps)
	}
	if n := w.stale.Load(); n > 0 {
		t.Errorf("a watch that was made again at once was told of %d times", n)
	}
}

// TestStale loses the watch of a kind for longer: its policy is judged as before,
// and audit is told of it until the watch is back.
func TestStale(t *testing.T) {
	w := newWorld(t, inventory.Options{Clock: hasty{start: time.Now(), times: 20}})
	w.namespace("inv-o")
	w.object("ConfigMap", "inv-o", "one", "1")
	w.template("Maps", needs(" v1 ConfigMap"), `seen[x] { data.inventory.namespace["inv-o"].v1.ConfigMap.one; x := "one" }`)
	w.template("Spaces", needs(" v1 Namespace"), `seen[x] { data.inventory.cluster.v1.Namespace["inv-o"]; x := "inv-o" }`)
	w.await("the beginning", "Maps", "one")
	w.await("the other beginning", "Spaces", "inv-o")
	scope := func(kind string) engine.AuditScope {
		for _, s := range w.engine.AuditScopes() {
			if s.Kind == kind {
				return s
			}
		}
		t.Fatalf("there is no constraint of %s", kind)
		return engine.AuditScope{}
	}
	before := scope("Maps")
	if before.Stale != "" {
		t.Errorf("what is followed counts as stale: %s", before.Stale)
	}
	w.grant("namespaces")
	w.wire.cut("/configmaps", false)
	await(t, "the loss to be told", func() error {
		for _, word := range []string{"ConfigMap of v1 is as of ", "forbidden"} {
			if got := scope("Maps").Stale; !strings.Contains(got, word) {
				return fmt.Errorf("got %q, want %q in it", got, word)
			}
		}
		return nil
	})
	if got := scope("Maps"); got.Revision != before.Revision || got.Withheld != nil {
		t.Errorf("got revision %d and withheld %v, want %d and nil", got.Revision, got.Withheld, before.Revision)
	}
	if got := scope("Spaces").Stale; got != "" {
		t.Errorf("what reads another kind counts as stale: %s", got)
	}
	w.await("what is known stays", "Maps", "one")
	if s, _ := w.inventory.State("maps"); !s.Complete || s.Message != scope("Maps").Stale {
		t.Errorf("got state %+v", s)
	}
	w.grant("*")
	await(t, "the watch again", func() error {
		if got := scope("Maps").Stale; got != "" {
			return errors.New(got)
		}
		return nil
	})
}

// observe looks after every step of the data, and returns how many there were
// and in how many of them a line was missing.
func (w *world) observe(kind, line string) (seen func() (steps, gaps int)) {
	steps, gaps := 0, 0
	var mu sync.Mutex
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		steps++
		if !slices.Contains(w.sees(kind), line) {
			gaps++
		}
	}
	w.after.Store(&look)
	return func() (int, int) {
		w.after.Store(nil)
		mu.Lock()
		defer mu.Unlock()
		return steps, gaps
	}
}

// TestTold checks that constraints which read what has changed are judged again,
// and others are not.
func TestTold(t *testing.T) {
	w := newWorld(t, inventory.Options{})
	w.namespace("inv-t")
	w.object("ConfigMap", "inv-t", "one", "1")
	w.template("Maps", needs(" v1 ConfigMap"), `seen[x] { data.inventory.namespace[_].v1.ConfigMap[x] }`)
	w.template("Spaces", needs(" v1 Namespace"), `seen[x] { data.inventory.cluster["v1"]["Namespace"][x] }`)
	data := func() (out [2]uint64) {
		for _, s := range w.engine.AuditScopes() {
			if s.Withheld != nil {
				return [2]uint64{}
			}
			out[map[string]int{"Maps": 0, "Spaces": 1}[s.Kind]] = s.Data
		}
		return out
	}
	await(t, "both told of what there is", func() error {
		if got := data(); got[0] == 0 || got[1] == 0 {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	before := data()
	w.object("ConfigMap", "inv-t", "one", "2")
	await(t, "a change to be told", func() error {
		if got := data(); got[0] == before[0] || got[1] != before[1] {
			return fmt.Errorf("got %v after %v, want the first changed", got, before)
		}
		return nil
	})
	list, err := w.admin.Resource(configMaps).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the number of objects", func() error {
		return w.metric("fusegate_inventory_objects", "ConfigMap", float64(len(list.Items)))
	})
}
