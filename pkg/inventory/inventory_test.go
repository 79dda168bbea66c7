package inventory_test

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/inventory"
)

const needsConfigMaps = `"[[{"groups": [""], "versions": ["v1"], "kinds": ["ConfigMap"]}]]"`

// TestLife follows what a policy sees through the life of objects, of several
// kinds, in namespaces and outside.
func TestLife(t *testing.T) {
	w := newWorld(t, inventory.Options{})
	w.namespace("inv-a")
	w.namespace("inv-b")
	w.object("ConfigMap", "inv-a", "one", "1")
	w.template("Maps", needsConfigMaps, everything)
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
}
