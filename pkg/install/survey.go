package install

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/intercept"
	"github.com/fusegate/fusegate/pkg/match"
)

// samples are the requests by which it is known whether a constraint's reach the
// webhook. They are made once, until what they are made from changes.
type samples struct {
	basis   [sha256.Size]byte // of what is served, the namespaces and the perimeter
	sampler *intercept.Sampler
	known   map[Identity]sample
	// version is the live configuration that the verdicts are about.
	version string
}

type sample struct {
	requests []intercept.Request
	coverage intercept.Coverage
	verdict  *Interception
}

// surveyTimeout bounds the simulation of all samples: somebody may have added a
// condition that is expensive to evaluate.
const surveyTimeout = 10 * time.Second

// survey finds out for every constraint whether its requests are sent, by the
// configuration as it is, and publishes the State.
func (g *Guard) survey(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, config config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	view, err := g.look(ctx, live, config)
	if err != nil {
		return g.unarmed(err)
	}
	if g.samples.version != live.ResourceVersion {
		g.samples.version = live.ResourceVersion
		for id, s := range g.samples.known {
			s.verdict = nil
			g.samples.known[id] = s
		}
	}
	state := &State{Armed: true, Revision: revisionIn(entryOf(live, exempt.PolicyEntry)), verdicts: map[Identity]Interception{}}
	for _, subject := range g.Subjects() {
		if g.left[identityOf(subject)] {
			state.verdicts[identityOf(subject)] = tooLarge
			continue
		}
		state.verdicts[identityOf(subject)] = g.verdict(ctx, view, subject)
	}
	g.forget(state)
	g.report(state, view)
	g.become(state)
	return nil
}

// view is the live policy entry and what somebody added to it.
type view struct {
	live      *admissionregistrationv1.ValidatingWebhookConfiguration
	simulator *intercept.Simulator
	// added are conditions and selectors of others, whatever they keep away.
	added []intercept.Reason
	// leftOut are the namespaces that a selector of others leaves out.
	leftOut []intercept.Namespace
}

func (g *Guard) look(ctx context.Context, live *admissionregistrationv1.ValidatingWebhookConfiguration, config config.Config) (*view, error) {
	perimeter, err := config.Perimeter()
	if err != nil {
		return nil, err
	}
	namespaces, err := g.sampler(ctx, config, perimeter)
	if err != nil {
		return nil, err
	}
	entry := entryOf(live, exempt.PolicyEntry)
	// The perimeter leaves out the reviews that newer API servers send to no
	// webhook: there is no sample for which their version matters.
	simulator, err := intercept.NewSimulator(*entry, intercept.Server{})
	if err != nil {
		return nil, fmt.Errorf("simulating entry %s: %w", entry.Name, err)
	}
	out := &view{live: live, simulator: simulator}
	want := *entryOf(webhookConfiguration(config, perimeter), exempt.PolicyEntry)
	want.MatchConditions = append(want.MatchConditions, exempt.RevisionCondition(revisionIn(entry)))
	for _, r := range simulator.Added(want) {
		// What a selector of namespaces leaves out is known exactly.
		if r.Cause == intercept.Added && r.Field != fieldOf(entry.Name, "namespaceSelector") {
			out.added = append(out.added, r)
		}
	}
	names := simulator.LeftOut(namespaces, perimeter)
	out.leftOut = slices.DeleteFunc(slices.Clone(namespaces), func(n intercept.Namespace) bool { return !slices.Contains(names, n.Name) })
	return out, nil
}

// revisionIn is the revision that the live entry holds.
func revisionIn(entry *admissionregistrationv1.ValidatingWebhook) string {
	for _, c := range entry.MatchConditions {
		if revision, ok := exempt.RevisionOf(c); ok {
			return revision
		}
	}
	return ""
}

// sampler makes the samples anew if what they are made from has changed.
func (g *Guard) sampler(ctx context.Context, config config.Config, perimeter exempt.Perimeter) ([]intercept.Namespace, error) {
	namespaces, err := g.Namespaces(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	slices.SortFunc(namespaces, func(a, b intercept.Namespace) int { return strings.Compare(a.Name, b.Name) })
	basis, err := json.Marshal([]any{g.catalog.served, namespaces, config.Exempt})
	if err != nil {
		return nil, fmt.Errorf("comparing what samples are made from: %w", err)
	}
	if sum := sha256.Sum256(basis); sum != g.samples.basis {
		g.samples = samples{
			basis: sum, sampler: intercept.NewSampler(g.catalog.served, namespaces, perimeter), known: map[Identity]sample{},
		}
	}
	return namespaces, nil
}

func (g *Guard) verdict(ctx context.Context, v *view, subject match.Need) Interception {
	known, ok := g.samples.known[identityOf(subject)]
	if !ok {
		known.requests, known.coverage = g.samples.sampler.Samples(subject)
	}
	if known.verdict == nil {
		out := v.interception(subject, v.simulator.Verdict(ctx, known.requests), known.coverage)
		known.verdict = &out
	}
	g.samples.known[identityOf(subject)] = known
	return *known.verdict
}

// interception words a verdict.
func (v *view) interception(subject match.Need, found intercept.Verdict, c intercept.Coverage) Interception {
	if found.State == intercept.Unclear && found.Sent == 0 && len(found.Missed) == 0 {
		if reason, message := uncovered(c); reason != "" {
			return Interception{Reason: reason, Message: message}
		}
	}
	switch {
	case len(v.added) > 0:
		return v.narrowedBy(slices.Concat(v.added, failing(found.Reasons())), "")
	case found.State == intercept.Narrowed, found.State == intercept.Partly:
		return v.narrowedBy(found.Reasons(), fmt.Sprintf("; for example %s is not sent to the webhook", found.Missed[0].Request))
	case found.State == intercept.Disarmed:
		return Interception{Reason: v1alpha1.ReasonFuseOpen, Message: "the fuse is open: requests are let through without asking the webhook"}
	}
	if names := v.leaves(subject); len(names) > 0 {
		selector := intercept.Reason{Field: fieldOf(string(exempt.PolicyEntry), "namespaceSelector"), Text: "it leaves out namespaces " + shorten(names)}
		return v.narrowedBy([]intercept.Reason{selector}, "; add them to exempt.namespaces if they are not for policy")
	}
	return Interception{Intercepted: true, Message: partly(found, c)}
}

// failing are the conditions that cannot be evaluated, which is worth knowing
// beside that somebody added them.
func failing(reasons []intercept.Reason) []intercept.Reason {
	return slices.DeleteFunc(reasons, func(r intercept.Reason) bool { return r.Cause != intercept.ConditionError })
}

// leaves names the namespaces which the constraint selects and the entry does
// not.
func (v *view) leaves(subject match.Need) []string {
	var out []string
	m := subject.Match
	if m.Scope() == match.ScopeCluster {
		return nil
	}
	for _, n := range v.leftOut {
		if m.SelectsNamespace(n.Name, n.Labels) {
			out = append(out, n.Name)
		}
	}
	return out
}

func shorten(names []string) string {
	const some = 5
	if len(names) <= some {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:some], ", "), len(names)-some)
}

// narrowedBy names the fields that keep requests from the webhook and who set
// them.
func (v *view) narrowedBy(reasons []intercept.Reason, more string) Interception {
	var out []string
	for _, r := range reasons {
		who := ownerOf(v.live, r.Field)
		if who == "" {
			who = "an unknown writer"
		}
		out = append(out, fmt.Sprintf("%s by %s (%s)", r.Field, who, r.Text))
	}
	return Interception{Reason: v1alpha1.ReasonNarrowedBy, Message: strings.Join(out, ", ") + more}
}

// uncovered says why there is no request to look for.
func uncovered(c intercept.Coverage) (reason, message string) {
	switch {
	case len(c.Exempt) > 0:
		return v1alpha1.ReasonExempt, "all that it matches lies outside policy, in namespaces " + shorten(c.Exempt) + "; it is audited"
	case len(c.NotInterceptable) > 0:
		return v1alpha1.ReasonNotInterceptable, "requests for " + shorten(c.NotInterceptable) + " are never sent to a webhook of Fusegate, since the cluster depends on them; they are audited"
	case len(c.NotServed) > 0:
		return v1alpha1.ReasonNotServed, "the cluster does not serve " + shorten(c.NotServed)
	}
	return "", ""
}

// autoscaler is who scales for HorizontalPodAutoscalers.
const autoscaler = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

// partly says what is not enforced, or not known to be, of a constraint that is.
func partly(v intercept.Verdict, c intercept.Coverage) string {
	var out []string
	for text, names := range map[string][]string{
		"not served are ": c.NotServed, "never intercepted are ": c.NotInterceptable, "not checked: ": c.Unknown,
	} {
		if len(names) > 0 {
			out = append(out, text+shorten(names))
		}
	}
	if c.Autoscaled {
		out = append(out, "not enforced is what a HorizontalPodAutoscaler scales, since "+autoscaler+" is outside policy; it is audited")
	}
	if v.State == intercept.Unclear {
		for _, r := range v.Reasons() {
			out = append(out, "not checked: "+r.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// forget drops the samples of constraints that are gone.
func (g *Guard) forget(s *State) {
	for id := range g.samples.known {
		if _, known := s.verdicts[id]; !known {
			delete(g.samples.known, id)
		}
	}
}

// report counts and announces what is narrowed.
func (g *Guard) report(s *State, v *view) {
	count, example := 0, ""
	for _, v := range s.verdicts {
		if v.Reason != v1alpha1.ReasonNarrowedBy {
			continue
		}
		count++
		if example == "" || v.Message < example {
			example = v.Message
		}
	}
	g.metrics.armed.Set(1)
	g.metrics.narrowed.Set(float64(count))
	g.tell("contested", false, "", "")
	message := ""
	switch {
	case count > 0:
		message = fmt.Sprintf("%d constraints are not enforced for all they match: %s", count, example)
	case len(v.added) > 0:
		message = v.narrowedBy(v.added, "").Message
	}
	g.tell("narrowed", true, v1alpha1.ReasonNarrowedBy, message)
}
