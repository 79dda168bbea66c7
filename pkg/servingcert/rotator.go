package servingcert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/timing"
)

// FieldManager owns the caBundle and the data of the Secrets.
const FieldManager = "fusegate-cert"

// The keys of the Secrets.
const (
	authorityCertificate = "ca.crt"
	authorityKey         = "ca.key"
	retiredAuthorities   = "retired.crt"
	servingCertificate   = corev1.TLSCertKey
	servingKey           = corev1.TLSPrivateKeyKey
	servingBundle        = "ca.crt"
)

const (
	// settle is how long API servers have to learn of a new caBundle before a
	// certificate is handed out that they would not have trusted without it.
	settle = time.Minute
	// remake is the shortest time between two authorities, for pods to get a
	// certificate of the one before the next: a Secret that somebody keeps
	// emptying must not make them faster than that.
	remake = 5 * time.Minute
	// trustAfter is how long a replaced authority stays trusted: what another
	// leader may have signed with it meanwhile has then expired, too.
	trustAfter = LeafLife + 24*time.Hour
)

// RotatorOptions are what a Rotator needs; Touched, Announce, Timings and Clock may
// be left out.
type RotatorOptions struct {
	// Client writes, and Live reads past any cache.
	Client client.Client
	Live   client.Reader
	// Authority and Serving are the Secrets: the authority with its key, which
	// only the controller may read, and what the webhook's pods mount. Both exist.
	Authority, Serving types.NamespacedName
	// Configuration is the ValidatingWebhookConfiguration; the caBundle of those of
	// its Entries that exist is the Rotator's.
	Configuration string
	Entries       []string
	// Names are the DNS names to certify: at least one.
	Names []string
	// Touched receives when the configuration may have changed.
	Touched <-chan struct{}
	// Announce emits an Event. It must not block.
	Announce func(warning bool, reason, message string)
	Timings  timing.Timings
	Clock    clock.Clock
	Log      logr.Logger
}

// Rotator keeps the authority, the caBundle and the serving certificate. It runs
// on the leader; a successor goes on from what is stored.
type Rotator struct {
	RotatorOptions

	// The fields below belong to the loop.
	made    time.Time   // when this process made an authority last
	trusted trustedFrom // since when API servers could know the authority
	said    string      // the problem that was told last
}

// trustedFrom says since when an authority was found in the caBundle at every look.
type trustedFrom struct {
	certificate []byte
	since       time.Time
}

// NewRotator returns a Rotator.
func NewRotator(o RotatorOptions) *Rotator {
	if o.Announce == nil {
		o.Announce = func(bool, string, string) {}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	o.Timings = o.Timings.Filled()
	return &Rotator{RotatorOptions: o}
}

// NeedLeaderElection is true: two authorities at a time would undo each other.
func (r *Rotator) NeedLeaderElection() bool { return true }

// Start keeps everything up to date until ctx ends.
func (r *Rotator) Start(ctx context.Context) error {
	timer := r.Clock.NewTimer(0)
	defer timer.Stop()
	for pause := r.Timings.CertificateRetry; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-r.Touched:
		case <-timer.C():
		}
		next, err := r.Reconcile(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.report(err)
		if err == nil {
			pause = r.Timings.CertificateRetry
		} else {
			next, pause = pause, min(2*pause, r.Timings.Certificate)
		}
		// Where somebody keeps changing the caBundle, it is not put back more often.
		select {
		case <-ctx.Done():
			return nil
		case <-r.Clock.After(min(next, r.Timings.CertificateRetry)):
		}
		timer.Reset(next)
	}
}

// report tells a problem once, however often it is met. That somebody wrote an
// object meanwhile is none.
func (r *Rotator) report(err error) {
	if apierrors.IsConflict(err) {
		r.Log.V(1).Info("certificates changed meanwhile; trying again", "reason", err.Error())
		return
	}
	if err == nil {
		r.said = ""
		return
	}
	if r.said == err.Error() {
		return
	}
	r.said = err.Error()
	r.Log.Error(err, "certificates not brought up to date")
	r.Announce(true, "CertificateError", "the certificates of the webhook are not up to date: "+err.Error())
}

// found is what the cluster holds; configuration is nil if there is none.
type found struct {
	authority, serving *corev1.Secret
	configuration      *admissionregistrationv1.ValidatingWebhookConfiguration
}

// trust is the authority that signs, and those that signed before.
type trust struct {
	authority *Authority
	retired   []retired
}

// bundle is what API servers have to trust. It is never empty.
func (t trust) bundle() []byte {
	out := t.authority.CertificatePEM()
	for _, r := range t.retired {
		out = append(out, encode(r.certificate)...)
	}
	return out
}

// missing says that a Secret is gone, which only an installation puts back.
func missing(secret types.NamespacedName) error {
	return fmt.Errorf("no Secret %s: run fusegate install again", secret)
}

// Reconcile brings everything up to date once: the authority, the caBundle, and
// only then the serving certificate. It returns when to look again. Start calls it.
func (r *Rotator) Reconcile(ctx context.Context) (next time.Duration, err error) {
	f, err := r.read(ctx)
	if err != nil {
		return 0, err
	}
	if f.authority == nil {
		return 0, errors.Join(missing(r.Authority), r.keepBundle(ctx, f))
	}
	t, err := r.ensureAuthority(ctx, f)
	if err != nil {
		return 0, err
	}
	own := t.authority.Certificate.Raw
	if !r.trusts(f.configuration, t.authority.Certificate) {
		r.trusted = trustedFrom{} // even if it cannot be put back now
	}
	if err := r.ensureBundle(ctx, f.configuration, t.bundle()); err != nil {
		return 0, err
	}
	if !bytes.Equal(r.trusted.certificate, own) {
		r.trusted = trustedFrom{own, r.Clock.Now()}
	}
	if f.serving == nil {
		return 0, missing(r.Serving)
	}
	return r.ensureServing(ctx, f, t)
}

// read takes what is missing for nil: the configuration may come later, or have
// been deleted to switch enforcement off. The authority comes last: what was read
// before a successor replaced it cannot be written any more, as it was changed.
func (r *Rotator) read(ctx context.Context) (found, error) {
	f := found{&corev1.Secret{}, &corev1.Secret{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}}
	if err := r.Live.Get(ctx, types.NamespacedName{Name: r.Configuration}, f.configuration); apierrors.IsNotFound(err) {
		f.configuration = nil
	} else if err != nil {
		return f, fmt.Errorf("reading ValidatingWebhookConfiguration %s: %w", r.Configuration, err)
	}
	if err := r.Live.Get(ctx, r.Serving, f.serving); apierrors.IsNotFound(err) {
		f.serving = nil
	} else if err != nil {
		return f, fmt.Errorf("reading Secret %s: %w", r.Serving, err)
	}
	if err := r.Live.Get(ctx, r.Authority, f.authority); apierrors.IsNotFound(err) {
		f.authority = nil
	} else if err != nil {
		return f, fmt.Errorf("reading Secret %s: %w", r.Authority, err)
	}
	return f, nil
}

// ensureAuthority returns the stored authority, or stores a new one if that one
// cannot sign.
func (r *Rotator) ensureAuthority(ctx context.Context, f found) (trust, error) {
	now, data := r.Clock.Now(), f.authority.Data
	t := trust{retired: parseRetired(data[retiredAuthorities], now)}
	var problem string
	if t.authority, problem = loadAuthority(data[authorityCertificate], data[authorityKey], now); problem == "" {
		if other := t.unknown(f.serving, r.Names[:1], now); len(other) > 0 {
			t.retired = retire(t.retired, other, signedUntil(f.serving, now), now)
		}
		return t, r.storeRetired(ctx, f.authority, t.retired)
	}
	if since := now.Sub(r.made); since >= 0 && since < remake {
		often := fmt.Errorf("the authority in Secret %s has to be replaced (%s), and was made less than %s ago: who changes the Secret?", r.Authority, problem, remake)
		return t, errors.Join(often, r.keepBundle(ctx, f))
	}
	return r.replaceAuthority(ctx, f, t.retired, problem)
}

// replaceAuthority goes on trusting all that was trusted by then: the Secret may
// be a new one, and pods present certificates of an authority that only the
// caBundle still knows.
func (r *Rotator) replaceAuthority(ctx context.Context, f found, known []retired, problem string) (trust, error) {
	now := r.Clock.Now()
	texts := [][]byte{f.authority.Data[authorityCertificate]}
	if f.serving != nil {
		texts = append(texts, f.serving.Data[servingBundle])
	}
	texts = append(texts, r.bundles(f.configuration)...)
	a, err := NewAuthority(now)
	if err != nil {
		return trust{}, err
	}
	keyPEM, err := a.keyPEM()
	if err != nil {
		return trust{}, err
	}
	t := trust{a, retire(known, parse(texts...), signedUntil(f.serving, now), now)}
	data := map[string][]byte{authorityCertificate: a.CertificatePEM(), authorityKey: keyPEM}
	if len(t.retired) > 0 {
		data[retiredAuthorities] = encodeRetired(t.retired)
	}
	if err := r.store(ctx, f.authority, data); err != nil {
		return trust{}, err
	}
	r.made = now
	r.tell("AuthorityReplaced", "made a new authority for the webhook's certificates", problem, a.Certificate.NotAfter)
	return t, nil
}

// storeRetired stores the retired authorities if they are others than before: some
// expired, or one was found.
func (r *Rotator) storeRetired(ctx context.Context, s *corev1.Secret, list []retired) error {
	text := encodeRetired(list)
	if bytes.Equal(text, s.Data[retiredAuthorities]) {
		return nil
	}
	data := maps.Clone(s.Data)
	if data[retiredAuthorities] = text; len(text) == 0 {
		delete(data, retiredAuthorities)
	}
	return r.store(ctx, s, data)
}

// ensureServing hands out a certificate of the authority if the one that there is
// will not do. One that clients take for a retired authority's sake is not replaced
// before all of them have had time to learn of the new one.
func (r *Rotator) ensureServing(ctx context.Context, f found, t trust) (next time.Duration, err error) {
	now, have := r.Clock.Now(), f.serving.Data
	data := map[string][]byte{servingBundle: t.bundle(), servingCertificate: have[servingCertificate], servingKey: have[servingKey]}
	problem := leafProblem(have[servingCertificate], have[servingKey], t.authority, r.Names, now)
	next = r.Timings.Certificate
	if wait := r.trusted.since.Add(settle).Sub(now); problem != "" && wait > 0 &&
		servable(have[servingCertificate], have[servingKey], parse(t.bundle())[1:], r.Names[:1], now) {
		next, problem = min(wait, r.Timings.Certificate), ""
	}
	var end time.Time
	if problem != "" {
		if data[servingCertificate], data[servingKey], err = t.authority.Issue(r.Names, now); err != nil {
			return 0, err
		}
		end = parse(data[servingCertificate])[0].NotAfter
	}
	// Earlier versions kept the authority's key here; it goes, whatever happens to
	// the certificate.
	if maps.EqualFunc(data, have, bytes.Equal) {
		return next, nil
	}
	if err := r.store(ctx, f.serving, data); err != nil {
		return 0, err
	}
	if problem != "" {
		r.tell("CertificateIssued", "issued a serving certificate for the webhook", problem, end)
	}
	return next, nil
}

// store replaces the data of a Secret, unless somebody else wrote it meanwhile.
func (r *Rotator) store(ctx context.Context, s *corev1.Secret, data map[string][]byte) error {
	next := s.DeepCopy()
	next.Data = data
	if err := r.Client.Update(ctx, next, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	return nil
}

// tell says what was done, and why.
func (r *Rotator) tell(reason, what, why string, end time.Time) {
	r.Log.Info(what, "reason", why, "notAfter", end)
	r.Announce(false, reason, fmt.Sprintf("%s, valid until %s, because %s", what, end.UTC().Format(time.RFC3339), why))
}
