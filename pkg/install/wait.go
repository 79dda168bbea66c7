package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// DefaultWaitTimeout is how long Plan.Wait waits unless told otherwise.
const DefaultWaitTimeout = 5 * time.Minute

// waitFirst and waitLast are the pauses between two looks at what is waited for.
const waitFirst, waitLast = 100 * time.Millisecond, time.Second

// WaitOptions of Plan.Wait. The zero value works.
type WaitOptions struct {
	// Timeout of zero means DefaultWaitTimeout.
	Timeout time.Duration
	// Progress receives a line whenever what is waited for changes; it may be
	// nil.
	Progress func(string)
}

// target is one thing to wait for. lacks returns what is still missing, or ""
// once it is there.
type target struct {
	name  string
	lacks func(ctx context.Context) (string, error)
}

// Wait waits for an applied plan to be in force: for the Deployments to be
// rolled out, or for the backend at WebhookURL to answer as an API server would
// ask it, and for the controller to have armed the webhook with rules of this
// plan's perimeter. c must not read from a cache.
//
// At the deadline the error names all that is missing, and so it does when ctx
// ends. Errors of the API server are waited out; they are part of that name.
func (p Plan) Wait(ctx context.Context, c client.Reader, o WaitOptions) error {
	if o.Timeout == 0 {
		o.Timeout = DefaultWaitTimeout
	}
	w := &waiter{targets: p.targets(c), last: map[string]string{}, progress: o.Progress}
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	err := poll(limited, waitFirst, waitLast, w.look)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("waiting was interrupted; missing: %s", w.missing())
	case wait.Interrupted(err):
		return fmt.Errorf("waiting for %v was not enough; missing: %s", o.Timeout, w.missing())
	}
	return err
}

// waiter looks at the targets and remembers what they lack.
type waiter struct {
	targets  []target
	last     map[string]string
	progress func(string)
}

func (w *waiter) look(ctx context.Context) (bool, error) {
	done := true
	for _, t := range w.targets {
		missing, err := t.lacks(ctx)
		if ctx.Err() != nil {
			return false, nil // what was seen last is better than that time is up
		}
		if err != nil {
			missing = err.Error()
		}
		done = done && missing == ""
		w.note(t.name, missing)
	}
	return done, nil
}

func (w *waiter) note(name, missing string) {
	if was, seen := w.last[name]; seen && was == missing {
		return
	}
	w.last[name] = missing
	if w.progress == nil {
		return
	}
	if missing == "" {
		w.progress(name + ": done")
		return
	}
	w.progress(name + ": " + missing)
}

// missing names what is not there yet.
func (w *waiter) missing() string {
	var out []string
	for _, t := range w.targets {
		if missing, seen := w.last[t.name]; missing != "" || !seen {
			out = append(out, strings.TrimSuffix(t.name+": "+missing, ": "))
		}
	}
	return strings.Join(out, "; ")
}

// targets are in the order in which they are reached.
func (p Plan) targets(c client.Reader) []target {
	var out []target
	for _, u := range p.Objects {
		if ref := refOf(u); runsPods(u) {
			out = append(out, target{ref.String(), func(ctx context.Context) (string, error) { return rollout(ctx, c, ref) }})
		}
	}
	if !p.Config.InCluster() {
		out = append(out, target{"webhook at " + webhookURL(p.Config), func(ctx context.Context) (string, error) { return "", p.ask(ctx, c) }})
	}
	return append(out, target{webhookKind + " " + ConfigurationName, func(ctx context.Context) (string, error) { return p.unarmed(ctx, c) }})
}

// rollout says what a Deployment lacks: pods of its newest template, all of
// them available, and no others.
func rollout(ctx context.Context, c client.Reader, ref Ref) (string, error) {
	d := &appsv1.Deployment{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, d); err != nil {
		return "", fmt.Errorf("reading it: %w", err)
	}
	want, s := int32(1), d.Status
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	switch {
	case s.ObservedGeneration < d.Generation:
		return "what was applied has not been looked at yet", nil
	case s.UpdatedReplicas < want:
		return fmt.Sprintf("%d of %d pods created", s.UpdatedReplicas, want) + stuck(d), nil
	case s.AvailableReplicas < want:
		return fmt.Sprintf("%d of %d pods available", s.AvailableReplicas, want) + stuck(d), nil
	case s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("%d old pods are still there", s.Replicas-s.UpdatedReplicas), nil
	}
	return "", nil
}

// stuck is what the Deployment says of itself when it does not come on.
func stuck(d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == "True" || c.Type == appsv1.DeploymentProgressing && c.Status == "False" {
			return " (" + c.Message + ")"
		}
	}
	return ""
}

// ask asks the backend at WebhookURL, as the guard does before it arms.
func (p Plan) ask(ctx context.Context, c client.Reader) error {
	return (&Guard{GuardOptions: GuardOptions{Live: c}}).answers(ctx, clientConfig(p.Config))
}

// unarmed says what the live webhook configuration lacks to be in force: rules
// in every entry and, in that of policy, the canaries' revision for these rules
// and this plan's perimeter.
func (p Plan) unarmed(ctx context.Context, c client.Reader) (string, error) {
	perimeter, err := p.Config.Perimeter()
	if err != nil {
		return "", err
	}
	live := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := c.Get(ctx, client.ObjectKey{Name: ConfigurationName}, live); err != nil {
		return "", fmt.Errorf("reading it: %w", err)
	}
	const waits = "; the controller arms it once the webhook answers"
	var errs []error
	for _, name := range installedEntries {
		if w := entryOf(live, name); w == nil || len(w.Rules) == 0 {
			errs = append(errs, fmt.Errorf("entry %s has no rules yet", name))
		}
	}
	if len(errs) > 0 {
		return strings.ReplaceAll(errors.Join(errs...).Error(), "\n", ", ") + waits, nil
	}
	policies := entryOf(live, exempt.PolicyEntry)
	revision, err := rules{exempt.PolicyEntry: policies.Rules}.revision(perimeter)
	if err != nil {
		return "", err
	}
	if !slices.Contains(policies.MatchConditions, exempt.RevisionCondition(revision)) {
		return "the rules are those of an earlier configuration" + waits, nil
	}
	return "", nil
}
