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

// TestSettle has API servers learn of a new authority twice: the certificate waits
// a minute from the second time.
func TestSettle(t *testing.T) {
	for name, tc := range map[string]struct {
		reason       string
		first, later func(w *world, before []byte)
	}{
		"authority taken out of the caBundle": {
			reason: "API servers have forgotten it by now",
			first:  func(*world, []byte) {},
			later:  func(w *world, before []byte) { w.tamper(before) },
		},
		"configuration later": {
			reason: "while there is none, no API server learns of anything",
			first: func(w *world, _ []byte) {
				if err := w.Delete(t.Context(), w.live()); err != nil {
					t.Fatal(err)
				}
			},
			later: func(w *world, before []byte) { w.configure(before) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.reconcile()
			leaf, before := w.remain(), w.bundles()[0]
			tc.first(w, before)
			w.put(w.o.Authority, map[string][]byte{"ca.crt": nil, "ca.key": nil})
			w.o.Client = w.Client // there may be no caBundle to check
			w.succeed()
			w.reconcile()
			w.clock.Step(59 * time.Second)
			tc.later(w, before)
			w.reconcile()
			w.check()
			w.clock.Step(59 * time.Second)
			if next := w.reconcile(); next != time.Second || !w.leaf().Equal(leaf) {
				t.Errorf("%s: after 59 s: replaced %t, the next look in %s", tc.reason, !w.leaf().Equal(leaf), next)
			}
			w.clock.Step(time.Second)
			w.reconcile()
			w.check()
			w.inOrder()
		})
	}
}

// TestRenewalInFight has somebody take the authority out of the caBundle at all
// times: that does not keep a certificate of it from being renewed.
func TestRenewalInFight(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	first := w.remain()
	w.clock.SetTime(first.NotBefore.Add(first.NotAfter.Sub(first.NotBefore) / 3 * 2))
	w.tamper(nil)
	if w.reconcile(); w.leaf().Equal(first) {
		t.Error("it was not replaced when it was due")
	}
	w.inOrder()
}
