package servingcert_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/servingcert"
	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env"
)

// TestFirst starts with what is installed: empty Secrets and no caBundle.
func TestFirst(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	w.inOrder()
	own, leaf := w.authority(), w.leaf()
	for c, life := range map[*x509.Certificate]time.Duration{own: servingcert.AuthorityLife, leaf: servingcert.LeafLife} {
		now := w.clock.Now().Truncate(time.Second).UTC()
		if !c.NotBefore.Equal(now.Add(-time.Hour)) || !c.NotAfter.Equal(now.Add(life)) {
			t.Errorf("%s: valid from %s to %s, want from an hour ago for %s", c.Subject, c.NotBefore, c.NotAfter, life)
		}
	}
	if got := w.trusted(); len(got) != 1 || !got[0].Equal(own) {
		t.Errorf("got %d authorities in the caBundle, want the one", len(got))
	}
	for _, entry := range w.live().Webhooks {
		if entry.Name == "stranger.example.com" && len(entry.ClientConfig.CABundle) > 0 {
			t.Error("the entry of somebody else got a caBundle")
		}
	}
	if !w.announced("AuthorityReplaced") || !w.announced("CertificateIssued") {
		t.Errorf("got the Events %q", w.events)
	}
}

// TestOwner has the rotator own the caBundle, of its own entries, and no more:
// the guard applies the rest, and neither takes from the other.
func TestOwner(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	for _, m := range w.live().ManagedFields {
		if m.Manager != servingcert.FieldManager || m.Operation != "Apply" {
			continue
		}
		const want = `{"f:webhooks":{` +
			`"k:{\"name\":\"policy.fusegate.dev\"}":{".":{},"f:clientConfig":{"f:caBundle":{}},"f:name":{}},` +
			`"k:{\"name\":\"probe.fusegate.dev\"}":{".":{},"f:clientConfig":{"f:caBundle":{}},"f:name":{}}}}`
		if got := m.FieldsV1.GetRawString(); got != want {
			t.Errorf("got the fields %s, want %s", got, want)
		}
		return
	}
	t.Error("nothing was applied as " + servingcert.FieldManager)
}

// TestRenewal replaces a certificate when two thirds of its life have passed, and
// not sooner, by one of the same authority.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	own, first := w.authority(), w.remain()
	due := first.NotBefore.Add(first.NotAfter.Sub(first.NotBefore) / 3 * 2)
	w.clock.SetTime(due.Add(-time.Second))
	if w.reconcile(); !w.leaf().Equal(first) {
		t.Error("it was replaced too soon")
	}
	w.clock.SetTime(due)
	if w.reconcile(); w.leaf().Equal(first) {
		t.Error("it was not replaced when it was due")
	}
	w.inOrder()
	if !w.authority().Equal(own) || len(w.trusted()) != 1 {
		t.Error("a new certificate is no reason for a new authority")
	}
}

// TestAuthorityRenewal goes through the life of an authority and, once there is
// another, through that of the last certificate that it signed.
func TestAuthorityRenewal(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	first := w.authority()
	for w.authority().Equal(first) {
		if w.clock.Now().After(first.NotAfter) {
			t.Fatal("it was not replaced")
		}
		w.clock.Step(30 * 24 * time.Hour)
		w.reconcile()
	}
	if passed := w.clock.Since(first.NotBefore); passed < servingcert.AuthorityLife/3*2 || passed > servingcert.AuthorityLife/3*2+31*24*time.Hour {
		t.Errorf("it was replaced after %s", passed)
	}
	last, replaced := w.remain(), w.clock.Now()
	if err := last.CheckSignatureFrom(first); err != nil {
		t.Errorf("the new authority's certificate was handed out before API servers could know: %v", err)
	}
	if got := w.trusted(); len(got) != 2 || !got[0].Equal(w.authority()) || !got[1].Equal(first) {
		t.Errorf("got %d authorities in the caBundle, want both", len(got))
	}
	w.clock.Step(59 * time.Second)
	if next := w.reconcile(); next != time.Second || !w.leaf().Equal(last) {
		t.Errorf("after 59 s: replaced %t, the next look in %s", !w.leaf().Equal(last), next)
	}
	w.clock.Step(time.Second)
	w.reconcile()
	w.inOrder()
	for w.clock.Now().Before(last.NotAfter) {
		if got := w.trusted(); len(got) != 2 {
			t.Fatal("the first is not trusted any more, while pods may present a certificate of it")
		}
		w.clock.Step(30 * 24 * time.Hour)
		w.reconcile()
	}
	w.clock.SetTime(replaced.Add(servingcert.LeafLife + 25*time.Hour))
	w.reconcile()
	w.inOrder()
	if got := w.trusted(); len(got) != 1 {
		t.Errorf("got %d authorities in the caBundle long after the first was replaced", len(got))
	}
	if _, ok := w.data(w.o.Authority)["retired.crt"]; ok {
		t.Error("the Secret still names the first")
	}
}

// TestUpgrade comes from a version that made RSA keys and left the authority's
// where pods mount it. Its pods run on and present its certificates.
func TestUpgrade(t *testing.T) {
	w := newWorld(t)
	old := newFormer(t, w.clock.Now())
	w.put(w.o.Serving, old.secret)
	w.tamper(old.secret["ca.crt"])
	w.presented = []*x509.Certificate{old.leaf, old.own}
	w.reconcile()
	data := w.data(w.o.Serving)
	if len(data["ca.key"]) > 0 {
		t.Error("pods still see the key of the old authority, which is not needed any more")
	}
	if !bytes.Equal(data["tls.crt"], old.secret["tls.crt"]) {
		t.Error("API servers had no time to learn of the new authority")
	}
	if got := w.trusted(); len(got) != 2 || !got[1].Equal(old.authority) {
		t.Errorf("got %d authorities in the caBundle, want the new and the old", len(got))
	}
	w.clock.Step(time.Minute)
	w.reconcile()
	w.inOrder()
	w.clock.SetTime(old.leaf.NotAfter.Add(25 * time.Hour))
	w.reconcile()
	w.inOrder()
	if got := w.trusted(); len(got) != 1 {
		t.Errorf("got %d authorities in the caBundle after the old certificate expired, want one", len(got))
	}
}

// TestCrash has each write of a rotation fail, and a successor go on.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	for failAt := 1; failAt <= 4; failAt++ {
		w.remain()
		w.put(w.o.Authority, map[string][]byte{"ca.crt": nil, "ca.key": nil})
		w.succeed()
		w.writes, w.failAt = 0, failAt
		failed := false
		for range 4 {
			if _, err := w.rotator.Reconcile(t.Context()); errors.Is(err, errDown) {
				failed = true
				w.succeed()
			} else if err != nil {
				t.Fatal(err)
			}
			w.clock.Step(time.Minute)
		}
		if !failed {
			t.Errorf("there is no write %d, or it went on when that failed", failAt)
		}
		w.inOrder()
		if got := len(w.trusted()); got != failAt+1 {
			t.Errorf("write %d failed: got %d authorities in the caBundle, want %d", failAt, got, failAt+1)
		}
	}
}

// TestRepair breaks what there is. Pods go on presenting what they had.
func TestRepair(t *testing.T) {
	other := func(w *world) *servingcert.Authority {
		a, err := servingcert.NewAuthority(w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	issue := func(w *world, a *servingcert.Authority, name string) map[string][]byte {
		crt, key, err := a.Issue([]string{name}, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{"tls.crt": crt, "tls.key": key}
	}
	for name, tc := range map[string]struct {
		reason string
		breaks func(w *world)
		event  string
	}{
		"authority emptied": {
			reason: "this is how a new one is asked for", event: "AuthorityReplaced: made a new authority",
			breaks: func(w *world) { w.put(w.o.Authority, map[string][]byte{"ca.crt": nil, "ca.key": nil}) },
		},
		"authority unreadable": {
			reason: "not PEM", event: "the one before cannot be read",
			breaks: func(w *world) { w.put(w.o.Authority, map[string][]byte{"ca.crt": []byte("x"), "ca.key": {0xff}}) },
		},
		"authority without its key": {
			reason: "it cannot sign", event: "the one before cannot be read",
			breaks: func(w *world) { w.put(w.o.Authority, map[string][]byte{"ca.key": nil}) },
		},
		"key of another": {
			reason: "what it signs nobody trusts", event: "private key does not match public key",
			breaks: func(w *world) { w.put(w.o.Authority, map[string][]byte{"ca.key": issue(w, other(w), host)["tls.key"]}) },
		},
		"RSA authority": {
			reason: "ECDSA throughout", event: "the key of the one before is not ECDSA P-256",
			breaks: func(w *world) {
				old := newFormer(t, w.clock.Now()).secret
				w.put(w.o.Authority, map[string][]byte{"ca.crt": old["ca.crt"], "ca.key": old["ca.key"]})
			},
		},
		"no authority": {
			reason: "a server's certificate vouches for none", event: "the one before may not sign certificates",
			breaks: func(w *world) {
				leaf := w.data(w.o.Serving)
				w.put(w.o.Authority, map[string][]byte{"ca.crt": leaf["tls.crt"], "ca.key": leaf["tls.key"]})
			},
		},
		"all expired": {
			reason: "nobody renewed for eleven years", event: "the one before has expired",
			breaks: func(w *world) { w.clock.Step(11 * year) },
		},
		"clock put back": {
			reason: "nobody takes what is not valid yet", event: "the one before is not valid yet",
			breaks: func(w *world) { w.clock.Step(-48 * time.Hour) },
		},
		"certificate emptied": {
			reason: "new pods have none", event: "CertificateIssued",
			breaks: func(w *world) { w.put(w.o.Serving, map[string][]byte{"tls.crt": nil, "tls.key": nil, "ca.crt": nil}) },
		},
		"certificate unreadable": {
			reason: "new pods would end", event: "CertificateIssued",
			breaks: func(w *world) {
				w.put(w.o.Serving, map[string][]byte{"tls.crt": []byte("-----BEGIN CERTIFICATE-----")})
			},
		},
		"certificate's key of another": {
			reason: "new pods would end", event: "private key does not match public key",
			breaks: func(w *world) { w.put(w.o.Serving, map[string][]byte{"tls.key": issue(w, other(w), host)["tls.key"]}) },
		},
		"certificate of another authority": {
			reason: "no API server trusts it", event: "signed by unknown authority",
			breaks: func(w *world) { w.put(w.o.Serving, issue(w, other(w), host)) },
		},
		"authority's key among the pods' files": {
			reason: "pods never see one",
			breaks: func(w *world) { w.put(w.o.Serving, map[string][]byte{"ca.key": w.data(w.o.Authority)["ca.key"]}) },
		},
		"caBundle of another": {
			reason: "API servers would turn to the webhook in vain", event: "CABundleUpdated",
			breaks: func(w *world) { w.tamper(other(w).CertificatePEM()) },
		},
		"caBundle with another": {
			reason: "whose key is somebody else's", event: "CABundleUpdated",
			breaks: func(w *world) { w.tamper(append(w.bundles()[0], other(w).CertificatePEM()...)) },
		},
		"caBundle empty": {
			reason: "API servers would trust public authorities only", event: "CABundleUpdated",
			breaks: func(w *world) { w.tamper(nil) },
		},
		"authority and caBundle emptied": {
			reason: "of the authority before, the pods' Secret knows", event: "AuthorityReplaced",
			breaks: func(w *world) {
				w.put(w.o.Authority, map[string][]byte{"ca.crt": nil, "ca.key": nil})
				w.tamper(nil)
			},
		},
		"both Secrets new, authorities unknown but to the caBundle": {
			reason: "somebody deleted the namespace's Secrets and ran install again", event: "AuthorityReplaced",
			breaks: func(w *world) {
				for _, name := range []client.ObjectKey{w.o.Authority, w.o.Serving} {
					w.delete(name)
					w.create(name)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.reconcile()
			before := w.remain()
			w.clock.Step(10 * time.Minute)
			w.events = nil
			tc.breaks(w)
			w.reconcile()
			w.clock.Step(time.Minute)
			w.reconcile()
			w.inOrder()
			if tc.event != "" && !w.announced(tc.event) {
				t.Errorf("%s: got the Events %q, want one with %q", tc.reason, w.events, tc.event)
			}
			if last := before.NotAfter.Add(-time.Second); w.clock.Now().Before(last) {
				w.clock.SetTime(last)
				w.reconcile()
				w.check()
			}
		})
	}
}

// TestMissing takes away what the rotator cannot make.
func TestMissing(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	first := w.remain()
	want := w.bundles()[0]

	w.delete(w.o.Authority)
	w.tamper(nil)
	_, err := w.rotator.Reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no Secret "+w.o.Authority.String()+": run fusegate install again") {
		t.Errorf("no authority's Secret: got %v", err)
	}
	if got := w.bundles()[0]; !bytes.Equal(got, want) {
		t.Errorf("no authority's Secret: got the caBundle %q, want that of before", got)
	}

	w.clock.Step(10 * time.Minute)
	w.create(w.o.Authority)
	w.delete(w.o.Serving)
	_, err = w.rotator.Reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no Secret "+w.o.Serving.String()+": run fusegate install again") {
		t.Errorf("no certificate's Secret: got %v", err)
	}
	w.create(w.o.Serving)
	w.reconcile()
	w.inOrder()
	if got := w.trusted(); len(got) != 2 || first.CheckSignatureFrom(got[1]) != nil {
		t.Errorf("got %d authorities in the caBundle, want the new and that of what pods still present", len(got))
	}
}

// TestConfigurationLater has the webhook configuration come last, as install
// applies it.
func TestConfigurationLater(t *testing.T) {
	w := newWorld(t)
	if err := w.Delete(t.Context(), w.live()); err != nil {
		t.Fatal(err)
	}
	w.o.Client = w.Client // there is no caBundle to check
	w.succeed()
	w.reconcile()
	first := w.leaf()
	w.configure(nil)
	w.reconcile()
	w.inOrder()
	if !w.leaf().Equal(first) {
		t.Error("a configuration is no reason for another certificate")
	}
}

// TestFight has somebody empty the authority's Secret again and again: authorities
// are not made faster than pods get certificates of them, nor without limit.
func TestFight(t *testing.T) {
	w := newWorld(t)
	w.reconcile()
	empty := map[string][]byte{"ca.crt": nil, "ca.key": nil, "retired.crt": nil}
	w.put(w.o.Authority, empty)
	w.tamper(nil)
	_, err := w.rotator.Reconcile(t.Context())
	if err == nil || !strings.Contains(err.Error(), "who changes the Secret?") {
		t.Errorf("a second authority at once: got %v", err)
	}
	if len(w.bundles()[0]) == 0 {
		t.Error("the caBundle was not put back meanwhile")
	}
	for range 25 {
		w.remain()
		w.presented = w.presented[max(0, len(w.presented)-2):] // what pods may not have replaced yet
		w.put(w.o.Authority, empty)
		w.clock.Step(5 * time.Minute)
		w.reconcile()
		w.clock.Step(time.Minute)
		w.reconcile()
	}
	w.inOrder()
	if got := len(w.trusted()); got != 21 {
		t.Errorf("got %d authorities in the caBundle, want 21 at most", got)
	}
}

// TestForbidden runs without the rights: nothing changes, and one Event says so.
func TestForbidden(t *testing.T) {
	w := newWorld(t)
	c, err := client.New(shared.Get(t).Config(controlplane.Tenant), client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	w.o.Client, w.o.Live = c, c
	w.succeed()
	if _, err := w.rotator.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("got %v, want that reading the Secret is forbidden", err)
	}
	if len(w.data(w.o.Authority)) > 0 || len(w.bundles()[0]) > 0 {
		t.Error("it changed something")
	}
}

// counting counts what is read.
type counting struct {
	client.Reader
	n atomic.Int64
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	c.n.Add(1)
	return c.Reader.Get(ctx, key, o, opts...)
}

// TestStart runs the loop: it starts by itself, says a problem once and tries
// again, and is told of changes.
func TestStart(t *testing.T) {
	w := newWorld(t)
	touched, told := make(chan struct{}, 1), make(chan string, 100)
	reads := &counting{Reader: w.Client}
	w.o.Client, w.o.Live, w.o.Clock, w.o.Touched = w.Client, reads, nil, touched
	w.o.Timings.CertificateRetry = 50 * time.Millisecond
	w.o.Announce = func(_ bool, reason, _ string) { told <- reason }
	w.delete(w.o.Authority)
	w.succeed()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.rotator.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	until := func(reason string) (others int) {
		t.Helper()
		deadline, cancel := context.WithTimeout(t.Context(), env.Patience)
		defer cancel()
		for {
			select {
			case got := <-told:
				if got == reason {
					return others
				}
				others++
			case <-deadline.Done():
				t.Fatalf("there was no Event %s", reason)
			}
		}
	}
	until("CertificateError")
	seen := reads.n.Load()
	env.Await(t, "it to try again", func() error {
		if reads.n.Load() < seen+4 { // more than what one try reads
			return errors.New("not yet")
		}
		return nil
	})
	w.create(w.o.Authority)
	if n := until("AuthorityReplaced"); n > 0 {
		t.Errorf("the same problem was told %d times more", n)
	}
	until("CertificateIssued")
	want, err := cert.ParseCertsPEM(w.bundles()[0])
	if err != nil {
		t.Fatal(err)
	}
	w.tamper(nil)
	touched <- struct{}{}
	until("CABundleUpdated")
	if got := w.trusted(); len(got) != 1 || !got[0].Equal(want[0]) {
		t.Errorf("got %d authorities in the caBundle, want the one of before", len(got))
	}
}
