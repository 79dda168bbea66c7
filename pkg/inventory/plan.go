package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/fusegate/fusegate/pkg/engine"
)

// secretKinds are those whose objects are secrets. RBAC usually lets few read
// them; in the inventory every policy can.
var secretKinds = map[schema.GroupKind]bool{{Kind: "Secret"}: true}

var errSecret = errors.New("it holds secrets, which are not read for policies unless the setting inventorySecrets is true")

// plan brings what is followed in line with what is needed, and says of each
// template whether its data is complete, and still followed. It returns when to
// look again.
func (i *Inventory) plan(ctx context.Context) time.Duration {
	configured, unknown := i.syncs.configured()
	needs := i.o.Engine.InventoryNeeds()
	slices.SortFunc(needs, func(a, b engine.Need) int { return cmp.Compare(a.Template, b.Template) })
	wanted := map[schema.GroupVersionKind]bool{}
	for gvk := range configured {
		wanted[gvk] = true
	}
	next := settled
	for _, n := range needs {
		for _, alternatives := range n.Requires {
			chosen, served := i.choose(ctx, n, alternatives, configured)
			wanted[chosen] = true
			if !served {
				next = i.o.Timings.InventoryRetry
			}
		}
	}
	i.follows(ctx, wanted)
	i.say(needs, configured, unknown)
	return min(next, i.untilStale())
}

// choose returns which of the kinds that can stand for each other to follow: one
// that is followed for another reason, else the first in the template's order
// that is served, in its latest version. served is false if none is.
func (i *Inventory) choose(ctx context.Context, n engine.Need, alternatives []schema.GroupVersionKind, configured map[schema.GroupVersionKind]bool) (chosen schema.GroupVersionKind, served bool) {
	candidates := slices.DeleteFunc(slices.Clone(alternatives), func(gvk schema.GroupVersionKind) bool { return !n.MayRead(gvk) })
	if len(candidates) == 0 {
		candidates = alternatives
	}
	for _, gvk := range candidates {
		if configured[gvk] || i.isComplete(gvk) {
			return gvk, true
		}
	}
	chosen = candidates[0]
	for _, gvk := range candidates {
		_, err := i.served.find(ctx, gvk)
		better := !served || gvk.GroupKind() == chosen.GroupKind() &&
			version.CompareKubeAwareVersionStrings(gvk.Version, chosen.Version) > 0
		if err == nil && better {
			chosen, served = gvk, true
		}
	}
	return chosen, served
}

func (i *Inventory) isComplete(gvk schema.GroupVersionKind) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kinds[gvk] != nil && i.kinds[gvk].complete
}

// follows starts and stops to follow kinds, each by itself.
func (i *Inventory) follows(ctx context.Context, wanted map[schema.GroupVersionKind]bool) {
	var gone, come []*kind
	i.mu.Lock()
	for gvk, k := range i.kinds {
		if !wanted[gvk] {
			gone = append(gone, k)
			delete(i.kinds, gvk)
		}
	}
	for gvk := range wanted {
		if i.kinds[gvk] == nil {
			i.kinds[gvk] = newKind(i, gvk)
			come = append(come, i.kinds[gvk])
		}
	}
	i.mu.Unlock()
	for _, k := range gone {
		k.stop()
	}
	for _, k := range come {
		if secretKinds[k.gvk.GroupKind()] && !i.o.Secrets {
			k.withhold(errSecret)
			continue
		}
		k.start(ctx)
	}
}

// say tells the engine which templates' data is complete, and which of it is not
// followed any more, and keeps that.
func (i *Inventory) say(needs []engine.Need, configured map[schema.GroupVersionKind]bool, unknown error) {
	states := map[string]State{}
	why, stale := map[string]error{}, map[string]string{}
	i.mu.Lock()
	for _, n := range needs {
		why[n.Template], stale[n.Template] = i.missing(n, configured, unknown), i.stale(n)
		states[n.Template] = stateOf(n, why[n.Template], stale[n.Template])
	}
	before := i.states
	i.states = states
	i.mu.Unlock()
	for _, n := range needs {
		differs := before[n.Template] != states[n.Template]
		i.o.Engine.SetInventoryStale(n, stale[n.Template])
		if i.o.Engine.SetInventory(n, why[n.Template]) || differs {
			i.o.Log.Info("data of a template", "template", n.Template, "complete", states[n.Template].Complete, "message", states[n.Template].Message)
			i.o.Changed(n.Template)
		}
	}
	for template := range before {
		if _, still := states[template]; !still {
			i.o.Changed(template)
		}
	}
}

// missing is why a template's data is not complete, nil if it is. The caller
// holds the lock.
func (i *Inventory) missing(n engine.Need, configured map[schema.GroupVersionKind]bool, unknown error) error {
	var problems []string
	for _, alternatives := range n.Requires {
		if !slices.ContainsFunc(alternatives, func(gvk schema.GroupVersionKind) bool { return i.kinds[gvk] != nil && i.kinds[gvk].complete }) {
			problems = append(problems, i.unread(alternatives)...)
		}
	}
	if len(n.Requires) == 0 {
		problems = i.missingUnnamed(n, configured, unknown)
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return fmt.Errorf("data that the policy reads is not complete: %s", strings.Join(slices.Compact(problems), "; "))
}

// missingUnnamed is what is missing for a template that does not say what it
// needs: all that is named elsewhere and that it may read, and of every kind
// that its code names at least one version.
func (i *Inventory) missingUnnamed(n engine.Need, configured map[schema.GroupVersionKind]bool, unknown error) []string {
	if unknown != nil {
		return []string{unknown.Error()}
	}
	var out []string
	covered := map[string]bool{}
	for gvk := range configured {
		if !n.MayRead(gvk) {
			continue
		}
		covered[gvk.Kind], covered[""] = true, true
		if !i.kinds[gvk].complete {
			out = append(out, i.unread([]schema.GroupVersionKind{gvk})...)
		}
	}
	for _, r := range n.Reads {
		if !covered[r.Kind] {
			out = append(out, fmt.Sprintf("nothing says that %s is to be read: name it in the template's annotation %s, or in a SyncSet",
				cmp.Or(r.Kind, "what it reads"), engine.AnnotationRequires))
		}
	}
	return out
}

// unread says why kinds are not read to the end.
func (i *Inventory) unread(alternatives []schema.GroupVersionKind) []string {
	var out []string
	for _, gvk := range alternatives {
		k := i.kinds[gvk]
		switch {
		case k == nil:
		case k.obstacle != nil:
			out = append(out, display(gvk)+": "+k.obstacle.Error())
		default:
			out = append(out, display(gvk)+": being read")
		}
	}
	return out
}

// stateOf is what there is to say of a template, whose data is not complete
// because of why, and not followed any more as stale says.
func stateOf(n engine.Need, why error, stale string) State {
	if why != nil {
		return State{Message: problemFirst(n, why.Error())}
	}
	return State{Complete: true, Message: problemFirst(n, stale)}
}

// lost tells whether the kind was read to the end and is not watched any more.
// The caller holds the lock.
func (k *kind) lost() bool { return k.complete && k.obstacle != nil }

// stale says which kinds that a template may read have not been watched for a
// while, and since when. The caller holds the lock.
func (i *Inventory) stale(n engine.Need) string {
	var late []string
	for gvk, k := range i.kinds {
		if k.lost() && n.MayRead(gvk) && i.o.Clock.Since(k.since) >= staleAfter {
			late = append(late, fmt.Sprintf("%s is as of %s: %v", display(gvk), k.since.UTC().Format(time.RFC3339), k.obstacle))
		}
	}
	slices.Sort(late)
	return strings.Join(late, "; ")
}

// untilStale is how long it is until a kind that is not watched counts as stale.
func (i *Inventory) untilStale() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	next := settled
	for _, k := range i.kinds {
		if left := staleAfter - i.o.Clock.Since(k.since); k.lost() && left > 0 {
			next = min(next, left)
		}
	}
	return next
}

// problemFirst puts what is wrong with the template's annotation before a
// message.
func problemFirst(n engine.Need, message string) string {
	if n.Problem == nil {
		return message
	}
	return strings.TrimSuffix(n.Problem.Error()+"; "+message, "; ")
}
