package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/test/controlplane"

	"github.com/fusegate/fusegate/hack/rig"
)

const (
	// settledFor is how long a process must have done next to nothing for its
	// memory to count as settled.
	settledFor = 15 * time.Second
	// settledCPU is what it may take meanwhile.
	settledCPU = 750 * time.Millisecond
	// settledAnyway is when it counts even if the process is still at work.
	settledAnyway = 3 * settledFor
)

// serving prints what memory `fusegate serve` needs with many templates and
// constraints: first the process that both serves and controls, which sees them
// come one after another, and then a webhook, which finds them there.
func serving(ctx context.Context, binary string) (err error) {
	plane, err := controlplane.Start(ctx, controlplane.Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	c, err := newCluster(ctx, plane)
	if err != nil {
		return err
	}
	body := pods()[0].admission()
	both := []string{"--roles=webhook,controller"}
	if err := c.measure(ctx, "webhook and controller, all of them added meanwhile", binary, both, body, c.populate); err != nil {
		return err
	}
	return c.measure(ctx, "webhook, all of them there", binary, []string{"--roles=webhook"}, body, c.found)
}

// measure starts a process, has it meet the policies, and prints its memory.
func (c *cluster) measure(ctx context.Context, title, binary string, args []string, body []byte, meet func(context.Context, *served) error) error {
	p, err := c.start(ctx, binary, args)
	if err != nil {
		return err
	}
	return errors.Join(c.figures(ctx, title, p, body, meet), p.Stop())
}

func (c *cluster) figures(ctx context.Context, title string, p *served, body []byte, meet func(context.Context, *served) error) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	if err := meet(ctx, p); err != nil {
		return err
	}
	took := time.Since(p.Started)
	cpu, err := p.CPU()
	if err != nil {
		return err
	}
	m, err := p.settle(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s: %d templates, %d constraints, after %.1f s and %.1f s of CPU\n", title, manyTemplates, manyConstraints, took.Seconds(), cpu.Seconds())
	fmt.Printf("rss: %d MB settled (%d anonymous, %d of files), %d MB at most\n", megabytes(m.VmRSS), megabytes(m.RssAnon), megabytes(m.RssFile), megabytes(m.VmHWM))
	if p.url == "" {
		return nil
	}
	if err := p.burst(ctx, body); err != nil {
		return err
	}
	if m, err = p.settle(ctx); err != nil {
		return err
	}
	fmt.Printf("rss: %d MB settled after them, %d MB at most\n", megabytes(m.VmRSS), megabytes(m.VmHWM))
	return nil
}

// burst prints how soon the process answers.
func (p *served) burst(ctx context.Context, body []byte) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // our own, made below
	times, err := send(ctx, client, p.url, body)
	if err != nil {
		return err
	}
	fmt.Printf("%d reviews, one after the other: p50 %s, p99 %s\n", len(times),
		percentile(times, 50).Round(time.Microsecond), percentile(times, 99).Round(time.Microsecond))
	return nil
}

// served is a running fusegate.
type served struct {
	*rig.Process
	health string
	url    string // of the webhook; empty if it serves none
}

func (c *cluster) start(ctx context.Context, binary string, args []string) (*served, error) {
	health, err := rig.Address()
	if err != nil {
		return nil, err
	}
	p := &served{health: health}
	args = append([]string{"--log-level=error", "--metrics-listen=0", "--health-listen", health}, args...)
	if strings.Contains(args[len(args)-1], "webhook") {
		listen, err := rig.Address()
		if err != nil {
			return nil, err
		}
		p.url = "https://" + listen + webhook.Path
		args = append(args, "--listen", listen, "--cert-dir", c.certs)
	}
	p.Process, err = rig.Serve(ctx, binary, c.plane, args...)
	return p, err
}

// ready waits until the process has ingested what was there when it started.
func (p *served) ready(ctx context.Context) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, rig.Patience, true, func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.health+"/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil // it does not listen yet
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
}

// settle waits until the process has next to nothing to do, or long enough, and
// returns what memory it takes then.
func (p *served) settle(ctx context.Context) (procfs.ProcStatus, error) {
	start := time.Now()
	before, err := p.CPU()
	if err != nil {
		return procfs.ProcStatus{}, err
	}
	err = wait.PollUntilContextTimeout(ctx, settledFor, rig.Patience, false, func(context.Context) (bool, error) {
		now, err := p.CPU()
		little := now-before < settledCPU
		before = now
		return little || time.Since(start) >= settledAnyway, err
	})
	if err != nil {
		return procfs.ProcStatus{}, err
	}
	return p.Memory()
}

func megabytes(bytes uint64) uint64 { return bytes / 1e6 }
