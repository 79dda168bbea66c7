package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/util/cert"

	"github.com/fusegate/fusegate/pkg/webhook"
	"github.com/fusegate/fusegate/templates"
	"github.com/fusegate/fusegate/test/controlplane"
)

// demoTemplates are the templates of the library that the demo shows.
var demoTemplates = []string{"allowedregistries", "replicalimits", "requiredlabels"}

// serveLog is where fusegate serve logs to, in the stage's folder.
const serveLog = "serve.log"

// stage is what the demo plays on.
type stage struct {
	out         io.Writer
	cp          *controlplane.ControlPlane
	binary      string // fusegate
	kubectlPath string
	dir         string // the files that the commands name relative to it
	listen      string // the webhook's address
}

// newStage makes the certificate and the files that kubectl will apply.
func newStage(out io.Writer, cp *controlplane.ControlPlane, binary string) (*stage, error) {
	s := &stage{out: out, cp: cp, binary: binary, dir: filepath.Join(cp.Dir(), "demo")}
	var err error
	if s.kubectlPath, err = controlplane.KubectlPath(); err != nil {
		return nil, err
	}
	if err := os.CopyFS(s.file("templates"), templates.FS); err != nil {
		return nil, fmt.Errorf("writing the policy library: %w", err)
	}
	if err := s.certify(); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.listen = fmt.Sprintf("127.0.0.1:%d", port)
	s.show("cd " + s.dir)
	s.show("export KUBECONFIG=" + cp.Kubeconfig(controlplane.Admin))
	return s, nil
}

func (s *stage) certify() error {
	if err := os.Mkdir(s.file("certs"), 0o700); err != nil {
		return fmt.Errorf("making a folder for certificates: %w", err)
	}
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return fmt.Errorf("making a certificate: %w", err)
	}
	for file, data := range map[string][]byte{"tls.crt": crt, "tls.key": key} {
		if err := os.WriteFile(s.file("certs/"+file), data, 0o600); err != nil {
			return fmt.Errorf("writing a certificate: %w", err)
		}
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// file is the path of something in the stage's folder.
func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

// located are the arguments with those that name a file in the stage's folder
// made absolute: to the reader the commands run there, in fact they do not.
func (s *stage) located(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if _, err := os.Stat(s.file(a)); err == nil && strings.Contains(a, "/") {
			out[i] = s.file(a)
		}
	}
	return out
}

func (s *stage) show(command string) { _, _ = fmt.Fprintf(s.out, "\n$ %s\n", command) }

func (s *stage) say(text string) { _, _ = fmt.Fprintf(s.out, "\n# %s\n", text) }

// print writes what a command printed, with files named as in the command.
func (s *stage) print(text string) {
	_, _ = io.WriteString(s.out, strings.ReplaceAll(text, s.dir+"/", ""))
}

func (s *stage) install(ctx context.Context) error {
	args := []string{"install", "--webhook-url", "https://" + s.listen + webhook.Path, "--ca-file", "certs/tls.crt"}
	s.show("fusegate " + quoted(args))
	run, err := launch(s.fusegate(s.out, s.out, args...))
	if err != nil {
		return err
	}
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), run.stop())
	}
}

// serve starts the webhook and the controllers.
func (s *stage) serve() (*server, error) {
	args := []string{
		"serve", "--listen", s.listen, "--cert-dir", "certs/", "--metrics-listen", "0", "--health-listen", "0", "--log-format", "console",
	}
	s.show("fusegate " + quoted(args) + " 2>" + serveLog + " &")
	log, err := os.Create(s.file(serveLog))
	if err != nil {
		return nil, fmt.Errorf("creating the log: %w", err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	return launch(s.fusegate(log, log, args...))
}

// play is the demonstration.
func (s *stage) play(ctx context.Context) error {
	for _, act := range []func(context.Context) error{s.policies, s.objects, s.system} {
		if err := act(ctx); err != nil {
			return because(ctx, err)
		}
	}
	return nil
}

// because adds why the context ended, if that is what went wrong.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

func (s *stage) policies(ctx context.Context) error {
	s.say("Policies are ordinary ConstraintTemplates ...")
	for _, name := range demoTemplates {
		if err := s.kubectl(ctx, "apply", "-f", "templates/"+name+"/template.yaml"); err != nil {
			return err
		}
	}
	if err := s.kubectl(ctx, "wait", "--for=condition=Ready", "constrainttemplates", "--all", "--timeout=60s"); err != nil {
		return err
	}
	s.say("... and constraints: one denies, one warns, one is a dry run that only audit will report")
	for _, name := range demoTemplates {
		if err := s.kubectl(ctx, "apply", "-f", "templates/"+name+"/samples/constraint.yaml"); err != nil {
			return err
		}
	}
	s.say("From here on the next request is judged, whichever API server gets it")
	if err := s.enforced(ctx, "allowedregistries/images-from-our-registry", "requiredlabels/configmaps-have-an-owner"); err != nil {
		return err
	}
	if err := s.kubectl(ctx, "get", "constraints"); err != nil {
		return err
	}
	return s.kubectl(ctx, "create", "namespace", "team-a")
}

func (s *stage) objects(ctx context.Context) error {
	const labels, registries = "templates/requiredlabels/samples/", "templates/allowedregistries/samples/"
	s.say("An object that breaks the rule is denied")
	if err := s.refused(ctx, "create", "-f", labels+"disallowed.yaml"); err != nil {
		return err
	}
	s.say("One that breaks the rule that only warns is let through with a warning")
	if err := s.kubectl(ctx, "create", "-f", registries+"disallowed.yaml"); err != nil {
		return err
	}
	s.say("One that keeps the rules is simply let through")
	return s.kubectl(ctx, "create", "-f", labels+"allowed.yaml")
}

func (s *stage) system(ctx context.Context) error {
	s.say("Even a rule for all namespaces leaves those of the control plane alone")
	if err := s.kubectl(ctx, "patch", "requiredlabels", "configmaps-have-an-owner", "--type=json",
		`--patch=[{"op":"remove","path":"/spec/match/namespaces"}]`); err != nil {
		return err
	}
	if err := s.enforced(ctx, "requiredlabels/configmaps-have-an-owner"); err != nil {
		return err
	}
	if err := s.refused(ctx, "create", "configmap", "nobodys", "--namespace=default"); err != nil {
		return err
	}
	return s.kubectl(ctx, "create", "configmap", "nobodys", "--namespace=kube-system")
}

// enforced waits until constraints are enforced.
func (s *stage) enforced(ctx context.Context, constraints ...string) error {
	return s.kubectl(ctx, append([]string{"wait", "--for=condition=Enforced", "--timeout=60s"}, constraints...)...)
}

// kubectl shows and runs the real kubectl.
func (s *stage) kubectl(ctx context.Context, args ...string) error {
	s.show("kubectl " + quoted(args))
	stdout, stderr, err := s.cp.Kubectl(ctx, controlplane.Admin, "", s.located(args)...)
	s.print(stderr + stdout)
	return err
}

// refused runs kubectl and wants the webhook to say no.
func (s *stage) refused(ctx context.Context, args ...string) error {
	s.show("kubectl " + quoted(args))
	_, stderr, err := s.cp.Kubectl(ctx, controlplane.Admin, "", s.located(args)...)
	s.print(stderr)
	if err == nil || !strings.Contains(stderr, "denied the request") {
		return fmt.Errorf("kubectl %s was not denied, but should have been", quoted(args))
	}
	return nil
}

// quoted joins arguments as a shell takes them.
func quoted(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if strings.ContainsAny(a, `[]{}"`) {
			out[i] = "'" + a + "'"
		}
	}
	return strings.Join(out, " ")
}
