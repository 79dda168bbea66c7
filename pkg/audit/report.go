package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/policy"
)

// maxGaps bounds the gaps that a report names one by one.
const maxGaps = 100

// Report says what was audited and what was not. Its conditions have no
// transition times.
//
// It is made anew when something has changed, and once a minute.
func (a *Auditor) Report() v1alpha1.AuditReportStatus {
	uid := a.namespaces.clusterUID()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stirred || a.o.Clock.Since(a.reported) > time.Minute {
		a.latest, a.reported, a.stirred = a.report(uid), a.o.Clock.Now(), false
	}
	return a.latest
}

func (a *Auditor) report(uid string) v1alpha1.AuditReportStatus {
	out := v1alpha1.AuditReportStatus{ClusterUID: uid, LagMilliseconds: a.lag.Milliseconds()}
	var waiting int
	oldest, none := a.firstPlan, true
	for _, k := range a.sortedKinds() {
		out.Kinds = append(out.Kinds, k.report(&out))
		if k.swept < k.wanted || k.sweptAt.IsZero() || !k.blind.IsZero() {
			waiting++
		}
		if none || k.sweptAt.Before(oldest) { // never is before everything
			oldest, none = k.sweptAt, false
		}
	}
	a.total(&out)
	if !oldest.IsZero() {
		at := metav1.NewTime(oldest.UTC().Truncate(time.Second))
		out.LastFullPass = &at
	}
	out.Gaps = a.gaps()
	out.NotAuditable = a.notAuditable()
	out.Conditions = []metav1.Condition{complete(out, waiting, a.overlooked()), a.current(waiting)}
	a.metrics.show(a, out, oldest)
	return out
}

// total adds up what is said of the constraints, so that what was found before
// counts until it is known what is there now.
func (a *Auditor) total(out *v1alpha1.AuditReportStatus) {
	add := func(total, exempt int64) {
		out.Constraints++
		out.TotalViolations += total
		out.ExemptViolations += exempt
	}
	for _, c := range a.known {
		switch {
		case c.cached != nil:
			add(c.cached.Total, c.cached.Exempt)
		case c.last != nil && c.scope.Withheld == nil:
			add(c.last.Total, c.last.Exempt)
		default:
			add(c.past.before.Total, c.past.before.Exempt)
		}
	}
	for n, x := range a.absent {
		if !a.covers(n, x) {
			add(x.past.before.Total, x.past.before.Exempt)
		}
	}
}

// unfollowed are the kinds that are meant to be read now and then only.
func (a *Auditor) unfollowed() []string {
	var out []string
	for _, k := range a.sortedKinds() {
		if !k.watched {
			out = append(out, k.gvk.GroupKind().String())
		}
	}
	return out
}

func (a *Auditor) sortedKinds() []*kind {
	out := make([]*kind, 0, len(a.kinds))
	for _, k := range a.kinds {
		out = append(out, k)
	}
	slices.SortFunc(out, func(x, y *kind) int {
		return cmp.Or(cmp.Compare(x.gvk.Group, y.gvk.Group), cmp.Compare(x.gvk.Kind, y.gvk.Kind))
	})
	return out
}

// report adds the kind's findings to the totals and returns its entry.
func (k *kind) report(totals *v1alpha1.AuditReportStatus) v1alpha1.AuditedKind {
	out := v1alpha1.AuditedKind{Group: k.gvk.Group, Version: k.gvk.Version, Kind: k.gvk.Kind, Objects: k.objects, Followed: k.followed}
	for c, n := range k.counts {
		if n.violations > 0 {
			if out.Violations == nil {
				out.Violations = map[string]int64{}
			}
			out.Violations[string(c.scope.Constraint.Strictest())] += n.violations
		}
		out.ExemptViolations += n.exempt
		totals.Faults += n.faults
	}
	return out
}

// gaps are what could not be seen, sorted, the first of them.
func (a *Auditor) gaps() []v1alpha1.AuditGap {
	var out []v1alpha1.AuditGap
	if err := a.namespaces.trouble(); err != nil {
		out = append(out, v1alpha1.AuditGap{Kind: "Namespace", Reason: "NotListed", Message: err.Error()})
	}
	for group, err := range a.unserved {
		out = append(out, v1alpha1.AuditGap{Group: group, Reason: "NotDiscovered", Message: err.Error()})
	}
	for _, k := range a.kinds {
		if k.problem != nil && (k.gvk.GroupKind() != namespaceKind || a.namespaces.trouble() == nil) {
			out = append(out, v1alpha1.AuditGap{Group: k.gvk.Group, Kind: k.gvk.Kind, Reason: "NotListed", Message: k.problem.Error()})
		}
		out = append(out, k.faulty()...)
	}
	out = append(out, a.absentGaps()...)
	for n, u := range a.unwritten {
		if u.told {
			out = append(out, v1alpha1.AuditGap{Constraint: n.kind + "/" + n.name, Reason: v1alpha1.ReasonNotWritten, Message: u.Err.Error()})
		}
	}
	for n, c := range a.known {
		if c.scope.Withheld != nil && c.scope.Acts() {
			out = append(out, v1alpha1.AuditGap{
				Constraint: n.kind + "/" + n.name, Reason: v1alpha1.ReasonInventoryIncomplete, Message: c.scope.Withheld.Error(),
			})
		} else if c.stale() {
			out = append(out, v1alpha1.AuditGap{Constraint: n.kind + "/" + n.name, Reason: v1alpha1.ReasonInventoryStale, Message: c.scope.Stale})
		}
	}
	slices.SortFunc(out, func(x, y v1alpha1.AuditGap) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Group, y.Group), cmp.Compare(x.Kind, y.Kind),
			cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Constraint, y.Constraint), cmp.Compare(x.Message, y.Message))
	})
	out = out[:min(len(out), maxGaps)]
	for i := range out {
		if rank(out[i]) > 0 {
			out[i].Message = cut(out[i].Message)
		}
	}
	return out
}

// rank has what concerns kinds named before what concerns constraints, and that
// before objects, of which there may be any number.
func rank(g v1alpha1.AuditGap) int {
	switch {
	case g.Name != "":
		return 2
	case g.Constraint != "":
		return 1
	}
	return 0
}

// faulty are the objects for which a verdict is missing.
func (k *kind) faulty() []v1alpha1.AuditGap {
	if !slices.ContainsFunc(slices.Collect(maps.Values(k.counts)), func(c *counts) bool { return c.faults > 0 }) {
		return nil
	}
	var out []v1alpha1.AuditGap
	for key, r := range k.records {
		for _, f := range r.findings {
			if f.fault {
				out = append(out, v1alpha1.AuditGap{
					Group: k.gvk.Group, Kind: k.gvk.Kind, Namespace: key.namespace, Name: key.name,
					Constraint: f.by.name.kind + "/" + f.by.name.name, Reason: "Fault", Message: f.message.Value(),
				})
			}
		}
	}
	return out
}

func (a *Auditor) notAuditable() []v1alpha1.NotAuditable {
	var out []v1alpha1.NotAuditable
	for _, c := range a.known {
		extent, operations := c.extent()
		if extent == "" {
			continue
		}
		out = append(out, v1alpha1.NotAuditable{
			Constraint: c.name.kind + "/" + c.name.name, Extent: extent, Reads: c.scope.Reads.Request, Operations: operations,
		})
	}
	slices.SortFunc(out, func(x, y v1alpha1.NotAuditable) int { return cmp.Compare(x.Constraint, y.Constraint) })
	return out
}

// extent says how much of the constraint cannot be audited, "" if nothing, and
// which operations of its template leave nothing to look at.
func (c *constraint) extent() (extent string, operations []string) {
	leaves := len(c.scope.Operations) == 0
	for _, op := range c.scope.Operations {
		switch op {
		case policy.Delete, policy.Connect:
			if !slices.Contains(operations, string(op)) {
				operations = append(operations, string(op))
			}
		default:
			leaves = true
		}
	}
	switch {
	case !leaves:
		return v1alpha1.ExtentFull, operations
	case len(operations) > 0 || len(c.scope.Reads.Request) > 0:
		return v1alpha1.ExtentPart, operations
	}
	return "", nil
}

func complete(r v1alpha1.AuditReportStatus, waiting int, overlooked string) metav1.Condition {
	out := metav1.Condition{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionFalse}
	switch {
	case len(r.Gaps) > 0:
		out.Reason, out.Message = v1alpha1.ReasonGap, fmt.Sprintf("there are gaps (%d are named): the counts are lower bounds", len(r.Gaps))
	case waiting > 0:
		out.Reason, out.Message = v1alpha1.ReasonReading, fmt.Sprintf("%d of %d kinds have not been read to the end", waiting, len(r.Kinds))
	case overlooked != "":
		out.Reason, out.Message = v1alpha1.ReasonReading, "the counts are lower bounds: "+overlooked
	case len(r.NotAuditable) > 0:
		out.Reason, out.Message = v1alpha1.ReasonNotAuditable, fmt.Sprintf("%d constraints ask for what only a request has", len(r.NotAuditable))
	default:
		out.Status, out.Reason, out.Message = metav1.ConditionTrue, v1alpha1.ReasonAudited, "every object of every kind that a constraint matches is reviewed"
	}
	return out
}

// current tells whether changes show at once.
func (a *Auditor) current(waiting int) metav1.Condition {
	out := metav1.Condition{Type: v1alpha1.ConditionCurrent, Status: metav1.ConditionFalse}
	late, why := a.late()
	stale := 0
	for _, c := range a.known {
		if c.stale() {
			stale++
		}
	}
	switch {
	case a.once:
		out.Reason, out.Message = "ReadOnce", "everything was read once: what has changed since is not in it"
	case late > 0:
		out.Reason, out.Message = "NotWatched", fmt.Sprintf("%d kinds are not followed%s", late, why)
	case a.namespacesMissed() != "":
		out.Reason, out.Message = "NotWatched", a.namespacesMissed()
	case stale > 0:
		out.Reason, out.Message = v1alpha1.ReasonInventoryStale, fmt.Sprintf("what %d constraints read is not followed any more", stale)
	case waiting > 0:
		out.Reason, out.Message = v1alpha1.ReasonReading, fmt.Sprintf("%d kinds are being read", waiting)
	default:
		out.Status, out.Reason, out.Message = metav1.ConditionTrue, "Watching", "every kind is followed"
		if rare := a.unfollowed(); len(rare) > 0 {
			out.Message += fmt.Sprintf(" but %s, which are read every %v", strings.Join(rare, ", "), a.o.Resync)
		}
	}
	return out
}
