package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/pkg/controlplane"
	"github.com/fusegate/fusegate/pkg/webhook"
)

const (
	// settledFor is how long a process must have done next to nothing for its
	// memory to count as settled.
	settledFor = 15 * time.Second
	// settledCPU is what it may take meanwhile.
	settledCPU = 750 * time.Millisecond
	// settledAnyway is when it counts even if the process is still at work.
	settledAnyway = 3 * settledFor
	// servingTimeout bounds each wait for a process or the API server.
	servingTimeout = 5 * time.Minute
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
	return errors.Join(c.figures(ctx, title, p, body, meet), p.stop())
}

func (c *cluster) figures(ctx context.Context, title string, p *served, body []byte, meet func(context.Context, *served) error) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	if err := meet(ctx, p); err != nil {
		return err
	}
	took, cpu := time.Since(p.started), p.cpu()
	if err := p.settle(ctx); err != nil {
		return err
	}
	fmt.Printf("\n%s: %d templates, %d constraints, after %.1f s and %.1f s of CPU\n", title, manyTemplates, manyConstraints, took.Seconds(), cpu.Seconds())
	fmt.Printf("rss: %d MB settled (%d anonymous, %d of files), %d MB at most\n", p.megabytes("VmRSS"), p.megabytes("RssAnon"), p.megabytes("RssFile"), p.megabytes("VmHWM"))
	if p.url == "" {
		return nil
	}
	if err := p.burst(ctx, body); err != nil {
		return err
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	fmt.Printf("rss: %d MB settled after them, %d MB at most\n", p.megabytes("VmRSS"), p.megabytes("VmHWM"))
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
	cmd     *exec.Cmd
	started time.Time
	health  string
	url     string // of the webhook; empty if it serves none
}

func (c *cluster) start(ctx context.Context, binary string, args []string) (*served, error) {
	health, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p := &served{health: health, started: time.Now()}
	args = append([]string{"serve", "--log-level=error", "--metrics-listen=0", "--health-listen", health}, args...)
	if strings.Contains(args[len(args)-1], "webhook") {
		listen, err := freeAddress()
		if err != nil {
			return nil, err
		}
		p.url = "https://" + listen + webhook.Path
		args = append(args, "--listen", listen, "--cert-dir", c.certs)
	}
	p.cmd = exec.CommandContext(ctx, binary, args...)
	p.cmd.Env = append(os.Environ(), "KUBECONFIG="+c.plane.Kubeconfig(controlplane.Admin))
	p.cmd.Stderr = os.Stderr
	return p, p.cmd.Start()
}

func (p *served) stop() error {
	return errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait())
}

// ready waits until the process has ingested what was there when it started.
func (p *served) ready(ctx context.Context) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, servingTimeout, true, func(ctx context.Context) (bool, error) {
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

// settle waits until the process has next to nothing to do, or long enough.
func (p *served) settle(ctx context.Context) error {
	start, before := time.Now(), p.cpu()
	return wait.PollUntilContextTimeout(ctx, settledFor, servingTimeout, false, func(context.Context) (bool, error) {
		since := before
		before = p.cpu()
		return before-since < settledCPU || time.Since(start) >= settledAnyway, nil
	})
}

// megabytes is a line of /proc/PID/status, which counts in KiB.
func (p *served) megabytes(field string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n * 1024 / 1e6
		}
	}
	return 0
}

// cpu is the time that the process has had, at 100 ticks a second.
func (p *served) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// certify makes a certificate for the webhook, and returns its folder.
func certify(parent string) (string, error) {
	dir := filepath.Join(parent, "certs")
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return "", err
	}
	return dir, errors.Join(os.Mkdir(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "tls.crt"), crt, 0o600), os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
}
