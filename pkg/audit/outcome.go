package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// outcomes returns those of all constraints whose kinds have been read since
// they are as they are, sorted. Others keep what they have until then.
func (a *Auditor) outcomes() []*Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tellBlind()
	changed := map[*constraint]*lists{}
	for c := range a.dirty {
		if known, _ := a.readable(c); known && (c.past.recalled || a.once) {
			changed[c] = &lists{enforceable: lowest{limit: a.o.Limit}, exempt: lowest{limit: a.o.Limit}, costly: lowest{limit: maxCostly}}
		}
	}
	a.lowest(changed)
	var out []*Outcome
	for c, l := range changed {
		c.cached = a.outcome(c, l)
		if c.scope.Withheld == nil {
			c.last = c.cached
			c.settle(a.unreadBy(c) == nil)
		}
		delete(a.dirty, c)
	}
	for _, c := range a.known {
		if c.cached != nil {
			out = append(out, c.cached)
		}
	}
	out = append(out, a.absentOutcomes()...)
	slices.SortFunc(out, func(x, y *Outcome) int { return compareConstraints(x.Constraint, y.Constraint) })
	return out
}

// readable tells whether all is known of a constraint that can be, and the
// gaps of it.
func (a *Auditor) readable(c *constraint) (known bool, gaps []string) {
	for group, err := range a.unserved {
		if group == everyGroup || c.mayConcern(group) {
			gaps = append(gaps, fmt.Sprintf("it is not known what group %q serves: %v", group, err))
		}
	}
	for _, k := range a.kinds {
		switch {
		case !k.constraints[c]:
		case k.gap():
			gaps = append(gaps, k.problem.Error())
		case k.swept < c.since:
			return false, nil
		}
	}
	slices.Sort(gaps)
	return true, gaps
}

// outcome is what there is to say about c. The caller holds the lock.
func (a *Auditor) outcome(c *constraint, l *lists) *Outcome {
	out := &Outcome{
		Constraint: c.scope.Constraint, UID: c.scope.UID, Generation: c.scope.Generation, At: a.o.Clock.Now(), Read: a.readBy(c),
		Complete: true, Reason: v1alpha1.ReasonAudited,
	}
	faults, kept := a.count(out, c, l)
	_, gaps := a.readable(c)
	switch {
	case !c.scope.Acts():
		out.Complete, out.Reason, out.Message = false, v1alpha1.ReasonNotAsked, "its actions ask for nothing at audit"
	case c.scope.Withheld != nil:
		out.take(c.past.before)
		out.Complete, out.Reason = false, v1alpha1.ReasonInventoryIncomplete
		out.Message = "nothing is judged by it: " + c.scope.Withheld.Error()
	default:
		out.explain(c, gaps, a.unsettled(c), faults, l)
		if kept > 0 {
			out.Message += fmt.Sprintf("; %d violations of what was not read were found before that", kept)
		}
	}
	if x := a.absence(c); x != nil {
		out.absent(x.NotInForce)
	}
	return out
}

// count fills in what was found by c, and of kinds that have not been read what
// was found before. It returns how often the policy failed, and how much was
// found before.
func (a *Auditor) count(out *Outcome, c *constraint, l *lists) (faults, kept int64) {
	var unread counts
	var violations, exempt []foundIn // in kinds that were read
	for _, k := range a.kinds {
		n := k.counts[c]
		if n == nil || !k.constraints[c] {
			continue
		}
		faults += n.faults
		if k.unread(c) {
			unread.violations, unread.exempt, unread.costly = unread.violations+n.violations, unread.exempt+n.exempt, unread.costly+n.costly
			continue
		}
		violations, exempt = append(violations, foundIn{k.gvk, n.violations}), append(exempt, foundIn{k.gvk, n.exempt})
		out.Total, out.Exempt, out.Costly = out.Total+n.violations, out.Exempt+n.exempt, out.Costly+n.costly
	}
	out.Violations, out.ExemptViolations = l.enforceable.entries(c), l.exempt.entries(c)
	out.CostlyObjects = l.costly.objects()
	if only := a.unreadBy(c); only != nil {
		b := c.past.before
		list, total := carry(b.Violations, b.Total, violations, only)
		apart, exempts := carry(b.ExemptViolations, b.Exempt, exempt, only)
		out.Violations, out.ExemptViolations = merge(out.Violations, list, a.o.Limit), merge(out.ExemptViolations, apart, a.o.Limit)
		unread.violations, unread.exempt = max(unread.violations, total), max(unread.exempt, exempts)
		kept = total + exempts
		unread.costly = max(unread.costly, out.keepCostly(b.CostlyObjects, only))
	}
	out.Total, out.Exempt, out.Costly = out.Total+unread.violations, out.Exempt+unread.exempt, out.Costly+unread.costly
	return faults, kept
}

// readBy is when all that c matches was last read as a whole, zero if some of it
// never was.
func (a *Auditor) readBy(c *constraint) time.Time {
	oldest := a.firstPlan
	none := true
	for _, k := range a.kinds {
		if !k.constraints[c] {
			continue
		}
		read := k.sweptAt
		if k.readAt[c].After(read) {
			read = k.readAt[c]
		}
		if none || read.Before(oldest) {
			oldest, none = read, false
		}
	}
	return oldest
}

// unsettled says where objects came and went without being seen, "" if nowhere.
func (a *Auditor) unsettled(c *constraint) string {
	if missed := a.namespacesMissed(); missed != "" && c.readsNamespace() {
		return missed
	}
	for _, k := range a.sortedKinds() {
		switch {
		case !k.constraints[c]:
		case k.blindSaid:
			return fmt.Sprintf("since %s changes of %s have been missed, and all of them are being read again", k.blind.UTC().Format(time.RFC3339), k.gvr.GroupResource())
		case k.refused != nil:
			return fmt.Sprintf("%s cannot be watched and are only read now and then: %v", k.gvr.GroupResource(), k.refused)
		case a.once && k.ragged:
			return k.cameAndWent()
		}
	}
	return ""
}

// tellBlind has the outcomes say where changes have been missed for a while: a
// watch that is made anew at once is nothing to tell.
// The caller holds the lock.
func (a *Auditor) tellBlind() {
	for _, k := range a.kinds {
		if !k.blind.IsZero() && !k.blindSaid && a.o.Clock.Since(k.blind) > a.o.Timings.AuditMissed {
			k.blindSaid = true
			k.touchAll()
		}
	}
	if n := a.namespaces; n.blindFor(a.o.Timings.AuditMissed) && !n.blindSaid {
		n.blindSaid = true
		a.touchReaders()
	}
}

func (o *Outcome) explain(c *constraint, gaps []string, unsettled string, faults int64, l *lists) {
	request := c.scope.Reads.Request
	extent, operations := c.extent()
	switch {
	case len(gaps) > 0:
		o.Complete, o.Reason = false, v1alpha1.ReasonGap
		o.Message = "the counts are lower bounds: " + strings.Join(gaps[:min(len(gaps), 3)], "; ")
		if more := len(gaps) - 3; more > 0 {
			o.Message += fmt.Sprintf("; and %d more", more)
		}
	case unsettled != "":
		o.Complete, o.Reason, o.Message = false, v1alpha1.ReasonReading, "the counts are lower bounds: "+unsettled
	case faults > 0:
		o.Complete, o.Reason = false, v1alpha1.ReasonFaults
		o.Message = fmt.Sprintf("the counts are lower bounds: the policy failed on %d objects, first on %s", faults, l.fault)
	case c.stale():
		o.Complete, o.Reason = false, v1alpha1.ReasonInventoryStale
		o.Message = "the counts may be wrong, since the policy reads what is not followed any more: " + c.scope.Stale
	case extent == v1alpha1.ExtentFull:
		o.Complete, o.Reason = false, v1alpha1.ReasonNotAuditable
		o.Message = fmt.Sprintf("the template is for %s only, which leave nothing to look at: the counts say nothing about them", strings.Join(operations, " and "))
	case len(request) > 0:
		o.Complete, o.Reason = false, v1alpha1.ReasonNotAuditable
		o.Message = fmt.Sprintf("the policy reads %s of a request, which what exists does not have: the counts may be wrong", strings.Join(request, ", "))
	default:
		o.Message = "every object that it matches is reviewed"
		if o.Costly > 0 {
			o.Message += fmt.Sprintf("; it uses over half of its budget on %d of them", o.Costly)
		}
		if extent == v1alpha1.ExtentPart {
			o.Message += fmt.Sprintf("; %s is judged at admission only", strings.Join(operations, " and "))
		}
	}
}

// maxCostly is how many objects are named on which a policy uses over half of its
// budget.
const maxCostly = 5

// lists are the lowest findings of one constraint, and the objects that cost it
// most.
type lists struct {
	enforceable, exempt lowest
	costly              lowest
	fault               string // the first
}

// lowest keeps the least entries, in order.
type lowest struct {
	limit int
	items []entry
}

type entry struct {
	kind    *kind
	key     objectKey
	message string
	percent int // of a cost, the highest first
}

func (l *lowest) add(e entry) {
	if l.limit > 0 && len(l.items) == l.limit && compareEntries(e, l.items[l.limit-1]) >= 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(l.items, e, compareEntries)
	l.items = slices.Insert(l.items, at, e)
	if l.limit > 0 {
		l.items = l.items[:min(len(l.items), l.limit)]
	}
}

func compareEntries(a, b entry) int {
	return cmp.Or(cmp.Compare(b.percent, a.percent),
		cmp.Compare(a.kind.gvk.Group, b.kind.gvk.Group), cmp.Compare(a.kind.gvk.Version, b.kind.gvk.Version),
		cmp.Compare(a.kind.gvk.Kind, b.kind.gvk.Kind),
		cmp.Compare(a.key.namespace, b.key.namespace), cmp.Compare(a.key.name, b.key.name), cmp.Compare(a.message, b.message))
}

func (l *lowest) entries(c *constraint) []v1alpha1.Violation {
	var out []v1alpha1.Violation
	for _, e := range l.items {
		v := v1alpha1.Violation{
			Group: e.kind.gvk.Group, Version: e.kind.gvk.Version, Kind: e.kind.gvk.Kind,
			Namespace: e.key.namespace, Name: e.key.name, Message: e.message,
			EnforcementAction: string(c.scope.Constraint.Action),
		}
		for _, a := range c.scope.Constraint.ScopedActions {
			v.EnforcementActions = append(v.EnforcementActions, string(a))
		}
		out = append(out, v)
	}
	return out
}

func (l *lowest) objects() (out []v1alpha1.CostlyObject) {
	for _, e := range l.items {
		out = append(out, v1alpha1.CostlyObject{
			Group: e.kind.gvk.Group, Version: e.kind.gvk.Version, Kind: e.kind.gvk.Kind,
			Namespace: e.key.namespace, Name: e.key.name, Percent: int64(e.percent),
		})
	}
	return out
}

// lowest goes through the records once and fills the lists.
func (a *Auditor) lowest(out map[*constraint]*lists) {
	for _, k := range a.kinds {
		if !k.concernsAny(out) {
			continue
		}
		for key, r := range k.records {
			for _, f := range r.findings {
				if l := out[f.by]; l != nil {
					l.add(entry{kind: k, key: key, message: f.message.Value()}, r.exempt, f.fault)
				}
			}
			for _, c := range r.costs {
				if l := out[c.by]; l != nil {
					l.costly.add(entry{kind: k, key: key, percent: c.percent})
				}
			}
		}
	}
}

func (k *kind) concernsAny(of map[*constraint]*lists) bool {
	for c := range of {
		if k.counts[c] != nil {
			return true
		}
	}
	return false
}

func (l *lists) add(e entry, exempt, fault bool) {
	switch {
	case fault:
		text := fmt.Sprintf("%s %s: %s", e.kind.gvk.Kind, e.key, e.message)
		if l.fault == "" || text < l.fault {
			l.fault = text
		}
	case exempt:
		l.exempt.add(e)
	default:
		l.enforceable.add(e)
	}
}

// String is the name as kubectl writes it, with its namespace if it has one.
func (k objectKey) String() string {
	if k.namespace == "" {
		return k.name
	}
	return k.namespace + "/" + k.name
}
