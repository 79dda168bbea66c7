package servingcert_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/servingcert"
)

// interrupted has something happen after so many reads.
type interrupted struct {
	client.Reader
	left int
	then func()
}

func (i *interrupted) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	err := i.Reader.Get(ctx, key, o, opts...)
	if i.left--; i.left == 0 {
		i.then()
	}
	return err
}

// TestReplacedLeader has a successor replace the authority while a leader reads
// that does not know yet that it is none. It then writes nothing.
func TestReplacedLeader(t *testing.T) {
	for reads := 1; reads <= 3; reads++ {
		w := newWorld(t)
		w.reconcile()
		var bundles [][]byte
		var leaf *x509.Certificate
		successor, o := servingcert.NewRotator(w.o), w.o
		o.Live = &interrupted{w.o.Live, reads, func() {
			w.put(w.o.Authority, map[string][]byte{"ca.crt": nil, "ca.key": nil})
			for range 2 {
				if _, err := successor.Reconcile(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.clock.Step(time.Minute)
			}
			bundles, leaf = w.bundles(), w.leaf()
		}}
		if _, err := servingcert.NewRotator(o).Reconcile(t.Context()); err != nil && !apierrors.IsConflict(err) {
			t.Errorf("replaced after %d reads: got %v, want a conflict at most", reads, err)
		}
		if got := w.bundles(); !bytes.Equal(got[0], bundles[0]) || !w.leaf().Equal(leaf) {
			t.Errorf("replaced after %d reads: it undid the work of its successor", reads)
		}
		w.inOrder()
	}
}
