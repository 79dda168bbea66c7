package inventory_test

import "testing"

// compact makes etcd forget all but the present.
func compact(t *testing.T) {
	t.Helper()
	if err := shared.Get(t).Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
}
