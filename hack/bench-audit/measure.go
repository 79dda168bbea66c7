package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/hack/rig"
)

// settledFor is how long nothing that was begun before may have been done for a
// process to be idle.
const settledFor = 30 * time.Second

// process is a running fusegate.
type process struct {
	*rig.Process
	metrics string
}

// serve starts the controller, which audits.
func (s *stage) serve(ctx context.Context) (*process, error) {
	return s.start(ctx, "--roles=controller")
}

// start starts a process of fusegate serve.
func (s *stage) start(ctx context.Context, args ...string) (*process, error) {
	address, err := rig.Address()
	if err != nil {
		return nil, err
	}
	args = append([]string{"--log-level=" + s.logLevel, "--health-listen=0", "--metrics-listen", address}, args...)
	p, err := rig.Serve(ctx, s.binary, s.plane, args...)
	return &process{p, address}, err
}

// measure prints the figures.
func (s *stage) measure(ctx context.Context) error {
	// The constraints' kinds are made by a first process, which is not measured.
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	err = s.policies(ctx)
	if err = errors.Join(err, p.Stop()); err != nil {
		return err
	}
	if err := s.forgetStatus(ctx); err != nil {
		return err
	}
	if p, err = s.serve(ctx); err != nil {
		return err
	}
	return errors.Join(s.figures(ctx, p), p.Stop())
}

func (s *stage) figures(ctx context.Context, p *process) error {
	fmt.Fprintln(os.Stderr, "first pass")
	s.server.reset()
	if err := s.await(ctx, s.audited); err != nil {
		return err
	}
	first := time.Since(p.Started)
	m, err := p.Memory()
	if err != nil {
		return err
	}
	cpu, err := p.CPU()
	if err != nil {
		return err
	}
	server := s.server.since()
	requests, violations := p.sum("fusegate_audit_requests_total"), p.sum("fusegate_audit_violations")
	fmt.Printf("first pass: %.1f s from the start of the process, which took %.1f s of CPU, and the API server %.1f s; %d requests, %d reviews, %d violations, peak RSS %d MB\n",
		first.Seconds(), cpu.Seconds(), server.Seconds(), requests, p.sum("fusegate_audit_objects_reviewed_total"), violations, m.VmHWM>>20)
	// The process that made the kinds has left its entries in the status of
	// templates, as any that ends does. They are removed once, 20 s after its
	// successor began: that is something happening.
	if err := wait.PollUntilContextTimeout(ctx, 2*time.Second, rig.Patience, true, s.swept(1)); err != nil {
		return err
	}
	idle, err := s.idleFor(ctx, p, "idle")
	if err != nil {
		return err
	}
	change, err := s.change(ctx, p)
	if err != nil {
		return err
	}
	if err := s.idleArmed(ctx, p); err != nil {
		return err
	}
	if m, err = p.Memory(); err != nil {
		return err
	}
	fmt.Printf("first-pass: %.1f s  rss: %d MB  change: %.1f s  idle: %.2f %% of a core\n", first.Seconds(), m.VmHWM>>20, change.Seconds(), idle)
	return nil
}

// idleFor looks at what it costs when nothing happens, in percent of a core.
func (s *stage) idleFor(ctx context.Context, p *process, what string) (percent float64, err error) {
	if err := s.settled(ctx, p); err != nil {
		return 0, err
	}
	timer := time.NewTimer(s.idle)
	defer timer.Stop()
	used := clock{pid: p.PID()}
	used.reset()
	versions, requests := s.versions(ctx), p.sum("fusegate_audit_requests_total")
	all := p.sum("rest_client_requests_total")
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-timer.C:
	}
	percent = 100 * used.since().Seconds() / s.idle.Seconds()
	written := 0
	for key, version := range s.versions(ctx) {
		if versions[key] != version {
			written++
		}
	}
	fmt.Printf("%s: %.2f %% of one core, %d statuses written, %d audit requests in %v, %.0f requests of any sort a minute\n", what,
		percent, written, p.sum("fusegate_audit_requests_total")-requests, s.idle,
		float64(p.sum("rest_client_requests_total")-all)/s.idle.Minutes())
	return percent, nil
}

// settled waits until the report, which is the last thing that an audit writes,
// was written long ago, and no verdict of it has been checked for a while: that is
// done bit by bit in spare time, one in a hundred.
func (s *stage) settled(ctx context.Context, p *process) error {
	checks, since := -1, time.Now()
	return s.await(ctx, func(context.Context) (bool, error) {
		if now := p.sum("fusegate_evaluator_checks_total"); now != checks {
			checks, since = now, time.Now()
		}
		return time.Since(since) > settledFor, nil
	})
}

// idleArmed is idleFor with a webhook in another process that is asked, so that
// the guard has something to guard and canaries are sent.
func (s *stage) idleArmed(ctx context.Context, p *process) error {
	hook, err := s.webhook(ctx)
	if err != nil {
		return err
	}
	err = s.arm(ctx, p, hook)
	if err == nil {
		_, err = s.idleFor(ctx, p, "idle, armed")
	}
	return errors.Join(err, hook.Stop())
}

// swept tells whether no template and no constraint has entries of more than so
// many processes.
func (s *stage) swept(most int) wait.ConditionWithContextFunc {
	return func(ctx context.Context) (bool, error) {
		entries, err := s.entries(ctx)
		return entries <= most, err
	}
}

// entries is how many processes have entries in the status of the same template
// or constraint.
func (s *stage) entries(ctx context.Context) (most int, err error) {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("templates.gatekeeper.sh/v1")
	list.SetKind("ConstraintTemplateList")
	if err := s.admin.List(ctx, list); err != nil {
		return 0, err
	}
	for _, c := range s.constraints {
		u := c.DeepCopy()
		if err := s.admin.Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
			return 0, err
		}
		list.Items = append(list.Items, *u)
	}
	for _, u := range list.Items {
		entries, _, _ := unstructured.NestedSlice(u.Object, "status", "byPod")
		most = max(most, len(entries))
	}
	return most, nil
}

// change gives a hundredth of the Pods an image without a version, and waits
// until the constraint that minds says so.
func (s *stage) change(ctx context.Context, p *process) (time.Duration, error) {
	before := p.sum("fusegate_audit_violations")
	watched := s.constraintOf("DisallowedTags")
	total, err := s.total(ctx, watched)
	if err != nil {
		return 0, err
	}
	n := 0
	for i, key := range s.names {
		if i%100 != 1 {
			continue
		}
		n++
		patch := []byte(`{"spec": {"containers": [{"name": "c0", "image": "registry.example.com/app:latest"}]}}`)
		if _, err := s.pods.CoreV1().Pods(key.Namespace).Patch(ctx, key.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	err = s.await(ctx, func(ctx context.Context) (bool, error) {
		now, err := s.total(ctx, watched)
		return now >= total+int64(n), err
	})
	took := time.Since(began)
	fmt.Printf("change: %d Pods in %.1f s, %d violations more\n", n, took.Seconds(), p.sum("fusegate_audit_violations")-before)
	return took, err
}

func (s *stage) constraintOf(kind string) *unstructured.Unstructured {
	for _, c := range s.constraints {
		if strings.HasSuffix(c.GetKind(), kind) {
			return c
		}
	}
	return s.constraints[0]
}

func (s *stage) total(ctx context.Context, c *unstructured.Unstructured) (int64, error) {
	u := c.DeepCopy()
	if err := s.admin.Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
		return 0, err
	}
	n, _, err := unstructured.NestedInt64(u.Object, "status", "totalViolations")
	return n, err
}

func (s *stage) await(ctx context.Context, try wait.ConditionWithContextFunc) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, rig.Patience, true, try)
}

// audited tells whether every constraint has a total.
func (s *stage) audited(ctx context.Context) (bool, error) {
	return s.each(ctx, func(c *unstructured.Unstructured) bool {
		_, found, _ := unstructured.NestedInt64(c.Object, "status", "totalViolations")
		return found
	})
}

// each tells whether something is so of every constraint as it is now.
func (s *stage) each(ctx context.Context, is func(*unstructured.Unstructured) bool) (bool, error) {
	for _, c := range s.constraints {
		u := c.DeepCopy()
		if err := s.admin.Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
			return false, err
		}
		if !is(u) {
			return false, nil
		}
	}
	return true, nil
}

// forgetStatus removes what the first process has written.
func (s *stage) forgetStatus(ctx context.Context) error {
	for _, c := range s.constraints {
		u := c.DeepCopy()
		patch := client.RawPatch(types.MergePatchType, []byte(`{"status": null}`))
		if err := s.admin.Status().Patch(ctx, u, patch); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) versions(ctx context.Context) map[string]string {
	out := map[string]string{}
	for _, c := range s.constraints {
		u := c.DeepCopy()
		if s.admin.Get(ctx, client.ObjectKeyFromObject(u), u) == nil {
			out[u.GetKind()+"/"+u.GetName()] = u.GetResourceVersion()
		}
	}
	return out
}

// clock is the time that a process has had since it was last reset. One that has
// ended has had none.
type clock struct {
	pid  int
	from time.Duration
}

func (c *clock) reset() { c.from, _ = rig.CPU(c.pid) }

func (c *clock) since() time.Duration {
	now, _ := rig.CPU(c.pid)
	return max(0, now-c.from)
}

// sum adds up the samples of a metric.
func (p *process) sum(name string) int {
	resp, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	total := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		value, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		total += value
	}
	return int(total)
}
