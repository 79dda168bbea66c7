// Package report writes what audit finds as report objects, which the tools of
// others read: one per object with violations, in the API of OpenReports, of
// PolicyReport (wgpolicyk8s.io), or both. It is a sink of pkg/audit, and works
// only where it was asked for.
//
// A report bears the UID of its object in its name and is owned by it, so that
// the cluster collects it as garbage. What is written is compared by content,
// so that a restart writes nothing; what is there and stands for nothing any
// more is deleted once its kind has been read.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/policy"
)

// Format is an API in which reports are written.
type Format string

// The formats.
const (
	// OpenReports is openreports.io/v1alpha1, Report and ClusterReport.
	OpenReports Format = "openreports"
	// PolicyReport is wgpolicyk8s.io/v1alpha2, PolicyReport and
	// ClusterPolicyReport.
	PolicyReport Format = "policyreport"
)

const (
	// DefaultLimit is how many reports there are at most of each format.
	DefaultLimit = config.DefaultReportLimit
	// writers is how many reports are written at a time.
	writers = 4
	// retry is how long to wait where reports cannot be written.
	retry = 30 * time.Second
	// reload is how often the reports that are there are read again, so that
	// what others did to them is put right.
	reload = time.Hour
	// timeout bounds one request.
	timeout = 10 * time.Second
)

// Description is what the annotations of a constraint, or of its template, say.
type Description struct {
	Category, Severity string
}

// Options are what a Reporter needs; Client and Formats are required.
type Options struct {
	// Client is used with its own rate limit.
	Client  dynamic.Interface
	Formats []Format
	// Limit is how many reports are written at most in each format; zero means
	// DefaultLimit.
	Limit int
	// Describe looks a constraint up; nil describes none.
	Describe func(context.Context, policy.Constraint) Description
	Clock    clock.PassiveClock
	Metrics  prometheus.Registerer
	Log      logr.Logger
}

// Reporter is an audit.ObjectSink that writes reports.
type Reporter struct {
	o       Options
	metrics *metrics
	stores  []*store

	mu sync.Mutex
	// current are the objects that were found to be in violation, with the UID
	// that their report is named by.
	current map[objectKey]types.UID
	// described are the constraints of the findings that were seen.
	described map[policyKey]described
}

type objectKey struct {
	kind            schema.GroupKind
	namespace, name string
}

type policyKey struct{ kind, name string }

type described struct {
	constraint policy.Constraint
	Description
}

// CheckFormats returns an error that names what is no format.
func CheckFormats(formats []string) error {
	known := slices.Sorted(maps.Keys(apis))
	for _, f := range formats {
		if _, ok := apis[Format(f)]; !ok {
			return fmt.Errorf("%q is not a format of reports: use %s", f, strings.Join(namesOf(known), ", "))
		}
	}
	return nil
}

func namesOf(formats []Format) []string {
	out := make([]string, len(formats))
	for i, f := range formats {
		out[i] = string(f)
	}
	return out
}

// New returns a Reporter. The error is that of an unknown format, or of
// registering its metrics.
func New(o Options) (*Reporter, error) {
	if o.Client == nil || len(o.Formats) == 0 {
		return nil, errors.New("a reporter needs a Client and a format")
	}
	if err := CheckFormats(namesOf(o.Formats)); err != nil {
		return nil, err
	}
	o.Limit = cmp.Or(o.Limit, DefaultLimit)
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Describe == nil {
		o.Describe = func(context.Context, policy.Constraint) Description { return Description{} }
	}
	r := &Reporter{o: o, current: map[objectKey]types.UID{}, described: map[policyKey]described{}}
	var err error
	if r.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("registering the metrics of reports: %w", err)
	}
	for _, f := range slices.Compact(slices.Sorted(slices.Values(o.Formats))) {
		r.stores = append(r.stores, newStore(r, f))
	}
	return r, nil
}

// Objects implements audit.ObjectSink.
func (r *Reporter) Objects(ctx context.Context, batch audit.ObjectBatch) (again bool) {
	read := map[*store]bool{}
	for _, s := range r.stores {
		read[s] = s.refresh(ctx)
		again = again || read[s]
	}
	again = r.redescribe(ctx) || again
	objects := make(chan *audit.Object)
	var tasks sync.WaitGroup
	for range min(writers, len(batch.Objects)) {
		tasks.Go(func() {
			for o := range objects {
				r.object(ctx, o)
			}
		})
	}
	for i := range batch.Objects {
		objects <- &batch.Objects[i]
	}
	close(objects)
	tasks.Wait()
	for _, s := range r.stores {
		if !read[s] { // else the objects that were given before are given again
			s.prune(ctx, batch.Settled)
		}
		again = s.finish() || again
	}
	return again && ctx.Err() == nil
}

// redescribe looks the constraints up again, and tells whether one has other
// annotations than it had.
func (r *Reporter) redescribe(ctx context.Context) (changed bool) {
	for key, was := range r.described {
		if now := r.o.Describe(ctx, was.constraint); now != was.Description {
			r.described[key] = described{was.constraint, now}
			changed = true
		}
	}
	return changed
}

func (r *Reporter) describe(ctx context.Context, c policy.Constraint) Description {
	key := policyKey{c.Kind, c.Name}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.described[key]; ok {
		return known.Description
	}
	out := r.o.Describe(ctx, c)
	r.described[key] = described{c, out}
	return out
}

// object brings the reports of one object in line with what was found.
func (r *Reporter) object(ctx context.Context, o *audit.Object) {
	if ctx.Err() != nil || reports(o.Kind.Group) {
		return
	}
	key := objectKey{o.Kind.GroupKind(), o.Namespace, o.Name}
	was := r.exchange(key, o.UID)
	for _, s := range r.stores {
		if was != "" && was != o.UID {
			s.remove(ctx, reportKey{o.Namespace, nameFor(was)})
		}
		if o.UID != "" {
			s.object(ctx, o)
		}
	}
}

// reports tells whether objects of a group are reports themselves, of which
// none is made: there would be no end to it.
func reports(group string) bool {
	for _, api := range apis {
		if api.group == group {
			return true
		}
	}
	return false
}

// exchange notes which object bears the name now, and returns which did.
func (r *Reporter) exchange(key objectKey, uid types.UID) types.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.current[key]
	if uid == "" {
		delete(r.current, key)
	} else {
		r.current[key] = uid
	}
	return was
}
