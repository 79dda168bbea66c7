// Package webhook is the admission door: it turns an AdmissionReview into a
// policy.Review, has it judged, and words the decision as an
// AdmissionResponse.
//
// Whatever goes wrong on the way is answered with an HTTP status of 4xx or
// 5xx, never with allowed: false, so that the API server applies the webhook's
// failurePolicy. That is why controller-runtime's admission.Webhook, which
// answers such errors with a denial, is not used.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/gap"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

// Path is where the handler is served.
const Path = "/v1/admit"

const (
	// maxTimeout is how long a review may take at most. The API server says how long
	// it waits in the query parameter timeout. A sixth of it is left for what it takes
	// to encode and send the request before it arrives here, and for the answer to
	// travel: on a machine that is overloaded that is long.
	maxTimeout = 3 * time.Second
	// answering is what is left of the rest for wording and sending the answer.
	// Its text is bounded, so that this does not depend on the object.
	answering = 100 * time.Millisecond
)

// Reviewer judges a review by all constraints.
type Reviewer interface {
	Review(ctx context.Context, r *policy.Review) policy.Result
}

// Validator checks templates and constraints when they are applied.
type Validator interface {
	// Validate returns what is wrong with object, which is r's new object,
	// and what its author should be warned of.
	Validate(ctx context.Context, r *policy.Review) (warnings []string, err error)
}

// Namespaces finds the namespace that an object lives in.
type Namespaces interface {
	Namespace(ctx context.Context, name string) policy.Namespace
}

// FaultRecorder remembers constraints that could not be judged.
type FaultRecorder interface {
	Record(r *policy.Review, f policy.Fault)
}

// GapRecorder remembers requests that were left unjudged, with the address that they
// came from.
type GapRecorder interface {
	Record(source string, p gap.Passed)
}

// Options of a Handler. The zero value works.
type Options struct {
	// Log receives faults, failures and, if LogDenies is set, violations.
	Log       logr.Logger
	LogDenies bool
	// Metrics is where the handler's metrics are registered; nil for none.
	Metrics prometheus.Registerer
	// Faults is told of every constraint that could not be judged; it must
	// not block. Nil for nobody.
	Faults FaultRecorder
	// Parents reads what a request changes in the guise of another object. Without it
	// Bindings that bring metadata are errors, and Scales are judged as Scales alone.
	Parents Parents
	// Gaps is told of every request that was left unjudged; it must not block. Nil
	// for nobody.
	Gaps GapRecorder
	// Clients tells API servers by their client certificates; nil if they have none.
	Clients *Clients
	// Ready returns why the reviewer does not know all policies yet. Until it
	// returns nil, reviews are answered 503: that counts as failed open, while
	// an answer of "allowed" would hide that nothing was judged. Nil means
	// always ready.
	Ready func() error
	// Sizes are those up to which objects are judged, and Matcher tells where they
	// count; nil for nowhere.
	Sizes   Sizes
	Matcher Matcher
}

// Handler serves Path.
type Handler struct {
	perimeter  exempt.Perimeter
	reviewer   Reviewer
	validator  Validator
	namespaces Namespaces
	log        logr.Logger
	logDenies  bool
	metrics    *metrics
	ready      func() error
	faults     FaultRecorder
	gaps       GapRecorder
	limits     *limits
	sizes      Sizes
	matcher    Matcher
	parents    Parents
}

// answered is how a request is answered, as what it counts, and what is to be
// logged once the answer is sent; nil for nothing.
type answered struct {
	response *admissionv1.AdmissionResponse
	label    string
	log      func()
	// missed tells that the request is not denied, and that a constraint which might
	// have denied it came to no verdict; late that it ran out of time.
	missed, late bool
}

// New returns a handler that judges what lies outside the perimeter.
func New(p exempt.Perimeter, r Reviewer, v Validator, n Namespaces, o Options) (*Handler, error) {
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the webhook's metrics: %w", err)
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	return &Handler{
		perimeter: p, reviewer: r, validator: v, namespaces: n,
		log: o.Log, logDenies: o.LogDenies, metrics: m, ready: o.Ready, faults: o.Faults, gaps: o.Gaps,
		limits: newLimits(p, o.Clients), sizes: o.Sizes, matcher: o.Matcher, parents: o.Parents,
	}, nil
}

// ServeHTTP answers one AdmissionReview.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, decision := time.Now(), decisionError
	count := sync.OnceFunc(func() {
		h.metrics.reviews.WithLabelValues(decision).Inc()
		h.metrics.duration.Observe(time.Since(start).Seconds())
	})
	defer func() {
		if p := recover(); p != nil {
			h.log.Error(fmt.Errorf("panic: %v", p), "admission handler panicked", "stack", string(debug.Stack()))
			http.Error(w, "internal error: the handler panicked", http.StatusInternalServerError)
		}
		count()
	}()
	got, err := h.serve(w, r)
	if err != nil {
		if got.log != nil {
			got.log()
		}
		h.fail(w, err)
		return
	}
	decision = got.label
	count() // before whoever asked can know
	if err := write(w, got.response); err != nil {
		h.log.Error(err, "sending the admission response", "uid", got.response.UID)
		return
	}
	if got.log != nil {
		got.log()
	}
}

func (h *Handler) fail(w http.ResponseWriter, err error) {
	h.log.Error(err, "admission request not decided")
	code := http.StatusInternalServerError
	var he *httpError
	if errors.As(err, &he) {
		code = he.code
	}
	http.Error(w, printable.TextMax(err.Error(), policy.MaxAnswerText), code)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (out answered, err error) {
	start, limit := time.Now(), timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), limit-min(answering, limit/8))
	defer cancel()
	if err := checkTransport(r); err != nil {
		return answered{}, err
	}
	in, err := h.limits.take(ctx, w, r)
	defer in.release()
	defer func() { h.note(in, out.response != nil && !out.missed && r.Context().Err() == nil) }() // also when it panics
	if over := (*excess)(nil); errors.As(err, &over) {
		return answered{response: tooMany(over), label: decisionLimited}, nil
	}
	if err != nil {
		return answered{}, err
	}
	if in.review, err = decode(in.body); err != nil {
		return answered{}, err
	}
	in.forget()
	if engine.IsCanary(in.review) && strings.HasPrefix(in.review.Name, exempt.AnewCanaryPrefix) {
		w.Header().Set("Connection", "close")
	}
	in.review.Bounded, in.review.AnswerBy = true, start.Add(limit/2)
	out, err = h.decide(in.context(ctx), in.review)
	if (out.late || err != nil && ctx.Err() != nil) && in.crowded() {
		return answered{response: tooMany(in.excess()), label: decisionLimited, log: out.log}, nil
	}
	return out, err
}

// timeout is how long this request may take.
func timeout(r *http.Request) time.Duration {
	asked, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || asked <= 0 || asked > maxTimeout {
		asked = maxTimeout
	}
	return asked * 5 / 6
}

func (h *Handler) decide(ctx context.Context, r *policy.Review) (answered, error) {
	if isPolicyObject(r) {
		return h.decidePolicyObject(ctx, r)
	}
	if err := h.ready(); err != nil {
		return answered{}, &httpError{http.StatusServiceUnavailable, fmt.Errorf("not ready: %w", err)}
	}
	if _, ok := h.perimeter.Judge(r); ok {
		return answered{response: answer(r.UID, policy.Decision{Allowed: true}), label: exemptLabel(r)}, nil
	}
	if r.Namespace != "" && !r.IsNamespace() {
		r.NamespaceObject = h.namespaces.Namespace(ctx, r.Namespace)
	}
	if d, in, denied := h.oversized(r); denied {
		h.metrics.oversized.WithLabelValues(in).Inc()
		return answered{response: answer(r.UID, d), label: decisionDeny}, nil
	}
	result, err := h.judge(ctx, r)
	if errors.Is(err, errGone) {
		return answered{response: notFound(r.UID, err), label: decisionDeny}, nil
	}
	if err != nil {
		return answered{}, err
	}
	h.metrics.cutOff.Add(float64(len(result.CutOff)))
	d := policy.Decide(result)
	out := answered{label: decisionCanary}
	if !engine.IsCanary(r) {
		h.record(ctx, r, result)
		out.label, out.log = label(d), func() { h.tell(r, result) }
	}
	if d.Allowed || d.Err != nil {
		out.missed, out.late = missed(result)
	}
	if d.Err != nil {
		return out, d.Err
	}
	out.response = answer(r.UID, d)
	return out, nil
}

// missed tells whether a constraint that denies came to no verdict though neither its
// policy nor the object is to blame, and whether it ran out of time. One that waits
// for its inventory is not missed: its status says that it is not enforced.
func missed(result policy.Result) (missed, late bool) {
	for _, f := range result.Faults {
		if f.Constraint.Name != "" && !f.Constraint.Has(policy.Deny) {
			continue
		}
		late = late || f.Cause == policy.CauseTimeout
		missed = missed || late || f.Cause == policy.CauseMatch || f.Cause == policy.CauseInternal
	}
	return missed, late
}

// exemptLabel tells Fusegate's own probes from requests that the webhook
// configuration should have kept away.
func exemptLabel(r *policy.Review) string {
	if r.Name == exempt.ProbeName {
		return decisionProbe
	}
	return decisionExempt
}

func label(d policy.Decision) string {
	switch {
	case !d.Allowed:
		return decisionDeny
	case len(d.Warnings) > 0:
		return decisionWarn
	}
	return decisionAllow
}

// isPolicyObject tells whether the request is about a template or constraint.
// Those are validated, never judged by constraints: a constraint that denies
// everything must not stand in the way of its own removal.
func isPolicyObject(r *policy.Review) bool {
	return r.Kind.Group == engine.TemplateGroup || r.Kind.Group == engine.ConstraintGroup
}

func (h *Handler) decidePolicyObject(ctx context.Context, r *policy.Review) (answered, error) {
	if _, ok := h.perimeter.Judge(r); ok || !needsValidation(r) {
		return answered{response: answer(r.UID, policy.Decision{Allowed: true}), label: decisionExempt}, nil
	}
	warnings, err := h.validator.Validate(ctx, r)
	if err != nil {
		return answered{response: refuse(r.UID, err), label: decisionDeny}, nil
	}
	d := policy.Decision{Allowed: true, Warnings: policy.Warnings(warnings)}
	return answered{response: answer(r.UID, d), label: label(d)}, nil
}

// needsValidation is false where a refusal would only be in the way: on
// deletion, while an object that is being deleted loses its finalizers, and
// for status.
func needsValidation(r *policy.Review) bool {
	if r.Operation != policy.Create && r.Operation != policy.Update {
		return false
	}
	meta, _ := r.Object["metadata"].(map[string]any)
	return r.SubResource == "" && meta["deletionTimestamp"] == nil
}

// record counts faults, and has them come into the status of their constraints.
func (h *Handler) record(ctx context.Context, r *policy.Review, result policy.Result) {
	for _, f := range result.Faults {
		h.metrics.faults.WithLabelValues(string(f.Cause)).Inc()
		if h.faults != nil && f.Cause != policy.CauseInventory {
			h.faults.Record(attested(ctx, r), f)
		}
	}
}

// tell logs faults and, if that is asked for, denials.
func (h *Handler) tell(r *policy.Review, result policy.Result) {
	for _, f := range result.Faults {
		if f.Cause == policy.CauseInventory {
			continue // the status of the constraint says so as long as it lasts
		}
		h.log.Error(errors.New(f.Summary()), "constraint not judged", append(about(r),
			"constraint_kind", f.Constraint.Kind, "constraint_name", f.Constraint.Name, "cause", f.Cause, "stack", stack(f.Err))...)
	}
	if !h.logDenies {
		return
	}
	for _, m := range result.More {
		if m.Constraint.Has(policy.Deny) && m.Count > 0 {
			h.log.Info("denied admission by more violations than are logged", append(about(r),
				"constraint_kind", m.Constraint.Kind, "constraint_name", m.Constraint.Name, "violations", m.Count)...)
		}
	}
	for _, v := range result.Violations[:min(len(result.Violations), maxLogged)] {
		if !v.Constraint.Has(policy.Deny) {
			continue
		}
		h.log.Info("denied admission: "+v.Message, append(about(r),
			"event_type", "violation", "constraint_group", v.Constraint.Group,
			"constraint_api_version", v.Constraint.Version, "constraint_kind", v.Constraint.Kind,
			"constraint_name", v.Constraint.Name, "constraint_action", v.Constraint.Action,
			"constraint_enforcement_actions", v.Constraint.ScopedActions, "details", v.Details)...)
	}
}

// maxLogged is how many violations of one request are logged.
const maxLogged = 256

// stack is where an error that began as a panic did so, empty for others.
func stack(err error) string {
	var s interface{ Stack() string }
	if errors.As(err, &s) {
		return s.Stack()
	}
	return ""
}

// about names a request in logs, with Gatekeeper's keys.
func about(r *policy.Review) []any {
	return []any{
		"process", "admission",
		"resource_group", r.Kind.Group, "resource_api_version", r.Kind.Version, "resource_kind", r.Kind.Kind,
		"resource_namespace", r.Namespace, "resource_name", r.Name, "request_username", r.UserInfo.Username,
	}
}
