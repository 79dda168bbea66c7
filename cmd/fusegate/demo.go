package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/pkg/controlplane"
	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/templates"
)

// demoTimeout bounds the demo, the start of the control plane included.
const demoTimeout = 5 * time.Minute

func newDemo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show Fusegate at work on a real control plane of its own",
		Long: `Starts etcd, kube-apiserver and kube-controller-manager on loopback ports,
installs Fusegate, applies policies with kubectl, and shows an object denied,
one warned of and one allowed. Everything is stopped and removed in the end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it running until interrupted, and print a kubeconfig")
	return cmd
}

// stage is what the demo plays on.
type stage struct {
	out    io.Writer
	cp     *controlplane.ControlPlane
	dir    string // files that kubectl reads
	listen string // the webhook's address
}

func demo(ctx context.Context, out io.Writer, keep bool) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	playing, done := context.WithTimeout(ctx, demoTimeout)
	defer done()
	_, _ = fmt.Fprintln(out, "Starting a control plane of its own ...")
	cp, err := controlplane.Start(playing, controlplane.Options{ControllerManager: true, Log: out})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Stop()) }()
	s, err := newStage(out, cp)
	if err != nil {
		return err
	}
	if err := s.run(playing, "install", "--webhook-url", "https://"+s.listen+webhook.Path,
		"--ca-file", filepath.Join(s.dir, "ca.crt"), "--kubeconfig", cp.Kubeconfig(controlplane.Admin)); err != nil {
		return err
	}
	stopped, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, <-stopped)
	}()
	if err := s.play(playing); err != nil {
		return fmt.Errorf("%w (the log of fusegate serve ends: %s)", err, tail(filepath.Join(s.dir, "serve.log")))
	}
	if !keep {
		_, _ = fmt.Fprintln(out, "\nThat was it; stopping everything. To look around: make demo KEEP=1")
		return nil
	}
	_, _ = fmt.Fprintf(out, "\nIt keeps running until you press Ctrl-C. In another terminal:\n\n  export KUBECONFIG=%s\n  export PATH=%s:$PATH\n  kubectl get constraints\n\n",
		cp.Kubeconfig(controlplane.Admin), filepath.Dir(kubectlPath()))
	<-ctx.Done()
	return nil
}

func kubectlPath() string {
	assets, err := controlplane.Binaries()
	if err != nil {
		return ""
	}
	return assets.Kubectl
}

// tail is the end of a log, for an error's text.
func tail(file string) string {
	const most = 2000
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// newStage makes the certificate and the files that kubectl will apply.
func newStage(out io.Writer, cp *controlplane.ControlPlane) (*stage, error) {
	s := &stage{out: out, cp: cp, dir: filepath.Join(cp.Dir(), "demo")}
	if err := os.CopyFS(s.dir, templates.FS); err != nil {
		return nil, fmt.Errorf("writing the policy library: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.listen = fmt.Sprintf("127.0.0.1:%d", port)
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	for file, data := range map[string][]byte{"tls.crt": crt, "tls.key": key, "ca.crt": crt} {
		if err := os.WriteFile(filepath.Join(s.dir, file), data, 0o600); err != nil {
			return nil, fmt.Errorf("writing a certificate: %w", err)
		}
	}
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// run shows and runs a command of this binary.
func (s *stage) run(ctx context.Context, args ...string) error {
	s.show("fusegate " + strings.Join(args, " "))
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(s.out)
	return root.ExecuteContext(ctx)
}

func (s *stage) show(command string) { _, _ = fmt.Fprintf(s.out, "\n$ %s\n", command) }

func (s *stage) say(text string) { _, _ = fmt.Fprintf(s.out, "\n# %s\n", text) }

// serve starts the webhook and the controllers in this process and returns
// what receives their error once they have stopped.
func (s *stage) serve(ctx context.Context) (<-chan error, error) {
	file, err := os.Create(filepath.Join(s.dir, "serve.log"))
	if err != nil {
		return nil, fmt.Errorf("creating the log: %w", err)
	}
	s.show("fusegate serve --roles webhook,controller --listen " + s.listen + " --cert-dir " + s.dir)
	set := settings{
		Kubeconfig: s.cp.Kubeconfig(controlplane.Admin), Roles: []string{roleWebhook, roleController},
		Listen: s.listen, CertDir: s.dir, MetricsListen: "0", HealthListen: "0", LogFormat: "console",
	}
	stopped := make(chan error, 1)
	go func() {
		defer file.Close()
		stopped <- serve(ctx, set, file)
	}()
	return stopped, nil
}

// play is the demonstration.
func (s *stage) play(ctx context.Context) error {
	names, err := fs.Glob(templates.FS, "*/template.yaml")
	if err != nil {
		return err
	}
	s.say("Policies are ordinary ConstraintTemplates ...")
	for _, name := range names {
		if err := s.kubectl(ctx, "apply", "-f", name); err != nil {
			return err
		}
	}
	if err := s.kubectl(ctx, "wait", "--for=condition=Ready", "constrainttemplates", "--all", "--timeout=60s"); err != nil {
		return err
	}
	s.say("... and constraints: one denies, one warns, one only reports")
	for _, name := range names {
		if err := s.kubectl(ctx, "apply", "-f", filepath.Join(filepath.Dir(name), "samples", "constraint.yaml")); err != nil {
			return err
		}
	}
	if err := s.kubectl(ctx, "create", "namespace", "team-a"); err != nil {
		return err
	}
	if err := s.awaitEnforcement(ctx); err != nil {
		return err
	}
	return s.acts(ctx)
}

// awaitEnforcement returns once the API server denies what the first
// constraint forbids.
func (s *stage) awaitEnforcement(ctx context.Context) error {
	for _, sample := range []struct{ name, mark string }{
		{"requiredlabels", "denied the request"}, {"allowedregistries", "Warning: [images-from-our-registry]"},
	} {
		var last string
		err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			_, stderr, _ := s.cp.Kubectl(ctx, controlplane.Admin, "", "create", "--dry-run=server", "-f", s.sample(sample.name, "disallowed"))
			last = stderr
			return strings.Contains(stderr, sample.mark), nil
		})
		if err != nil {
			return fmt.Errorf("policies are not enforced; the API server last said %q: %w", last, err)
		}
	}
	return nil
}

func (s *stage) sample(template, name string) string {
	return filepath.Join(s.dir, template, "samples", name+".yaml")
}

func (s *stage) acts(ctx context.Context) error {
	s.say("An object that breaks the rule is denied")
	if err := s.refused(ctx, "requiredlabels", "disallowed"); err != nil {
		return err
	}
	s.say("One that breaks the rule that only warns is let through with a warning")
	if err := s.kubectl(ctx, "create", "-f", "allowedregistries/samples/disallowed.yaml"); err != nil {
		return err
	}
	s.say("One that keeps the rules is simply let through")
	if err := s.kubectl(ctx, "create", "-f", "requiredlabels/samples/allowed.yaml"); err != nil {
		return err
	}
	s.say("The control plane's own namespaces are never judged")
	if err := s.kubectl(ctx, "create", "configmap", "no-owner", "--namespace", "kube-system"); err != nil {
		return err
	}
	return s.kubectl(ctx, "get", "constraints")
}

// kubectl shows and runs the real kubectl in the folder of the library.
func (s *stage) kubectl(ctx context.Context, args ...string) error {
	s.show("kubectl " + strings.Join(args, " "))
	stdout, stderr, err := s.cp.Kubectl(ctx, controlplane.Admin, "", s.files(args)...)
	_, _ = fmt.Fprint(s.out, stderr, stdout)
	return err
}

// refused runs kubectl create and wants it to fail.
func (s *stage) refused(ctx context.Context, template, name string) error {
	s.show("kubectl create -f " + filepath.Join(template, "samples", name+".yaml"))
	_, stderr, err := s.cp.Kubectl(ctx, controlplane.Admin, "", "create", "-f", s.sample(template, name))
	_, _ = fmt.Fprint(s.out, stderr)
	if err == nil {
		return fmt.Errorf("%s was let through", name)
	}
	return nil
}

// files makes the files among args absolute.
func (s *stage) files(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if strings.HasSuffix(a, ".yaml") {
			out[i] = filepath.Join(s.dir, a)
		}
	}
	return out
}
