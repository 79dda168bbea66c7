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

// TestUnknownAuthority upgrades, rolls back to a version that makes an authority of
// its own, and upgrades again, with an authority that is valid all the while.
func TestUnknownAuthority(t *testing.T) {
	w := newWorld(t)
	first := newFormer(t, w.clock.Now())
	w.put(w.o.Serving, first.secret)
	w.tamper(first.secret["ca.crt"])
	w.reconcile()
	w.clock.Step(time.Minute)
	w.reconcile()
	w.inOrder()
	own := w.authority()

	w.clock.Step(24 * time.Hour)
	other := newFormer(t, w.clock.Now())
	w.put(w.o.Serving, other.secret)
	w.tamper(other.secret["ca.crt"])
	w.presented = []*x509.Certificate{other.leaf, other.own}

	w.clock.Step(24 * time.Hour)
	w.writes = 0 // pods see that version's key until their Secret is written
	w.succeed()
	w.reconcile()
	if got := w.trusted(); len(got) != 3 || !got[0].Equal(own) || !got[1].Equal(other.authority) || !got[2].Equal(first.authority) {
		t.Errorf("got %d authorities in the caBundle, want the own, the other and the first", len(got))
	}
	w.clock.Step(59 * time.Second)
	if next := w.reconcile(); next != time.Second || !w.leaf().Equal(other.leaf) {
		t.Errorf("after 59 s: replaced %t, the next look in %s", !w.leaf().Equal(other.leaf), next)
	}
	w.clock.Step(time.Second)
	w.succeed() // which knows of the other by what is stored
	w.reconcile()
	w.clock.Step(time.Minute)
	w.reconcile()
	w.inOrder()
	w.clock.SetTime(other.own.NotAfter)
	w.reconcile()
	w.inOrder()
	w.clock.Step(72 * time.Hour)
	w.reconcile()
	w.inOrder()
	if got := w.trusted(); !w.authority().Equal(own) || len(got) != 1 {
		t.Errorf("got %d authorities in the caBundle when all of the others' has expired, want the own", len(got))
	}
}

// TestBackup restores the pods' Secret of a time before the authority, with and
// without the certificate that vouches for it.
func TestBackup(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	own := w.authority()
	w.clock.Step(24 * time.Hour)
	old := newFormer(t, w.clock.Now())
	w.o.Client = w.Client // API servers do not trust what was put back, until the Rotator looks
	w.succeed()
	w.put(w.o.Serving, old.secret)
	w.reconcile()
	if got := w.trusted(); len(got) != 2 || !got[0].Equal(own) || !got[1].Equal(old.authority) {
		t.Errorf("got %d authorities in the caBundle, want the own and that of the backup", len(got))
	}
	w.remain()
	w.clock.Step(time.Minute)
	w.reconcile()
	w.check()
	w.inOrder()

	w.put(w.o.Serving, newFormer(t, w.clock.Now()).secret)
	w.put(w.o.Serving, map[string][]byte{"ca.crt": old.secret["ca.crt"]})
	w.reconcile()
	w.inOrder()
	if got := w.trusted(); len(got) != 2 {
		t.Errorf("got %d authorities in the caBundle, want no other for a certificate that none vouches for", len(got))
	}
}
