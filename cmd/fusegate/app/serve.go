package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/fusegate/fusegate/pkg/audit"
	"github.com/fusegate/fusegate/pkg/exempt"
)

// The roles that a process can serve.
const (
	roleWebhook    = "webhook"
	roleController = "controller"
)

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the webhook, the controllers, or both",
		Long: `Runs until it is told to stop. The role webhook answers admission requests; the
role controller publishes constraint CRDs, arms the webhook and tidies up, on
one process at a time.

Outside the cluster, give --cert-dir a directory with tls.crt and tls.key, and
install with --webhook-url and --ca-file.`,
		Example: `  fusegate serve --config fusegate.yaml
  fusegate serve --roles webhook,controller --kubeconfig admin.conf --cert-dir certs`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), s, cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	configFlag(fs)
	clusterFlags(fs)
	fs.StringSlice("roles", []string{roleWebhook, roleController}, "what to serve: webhook, controller")
	fs.String("namespace", "", "namespace of Fusegate's own objects (default fusegate-system)")
	fs.String("pod-name", "", "name of this process in status and Leases (default: the host's name and a random suffix)")
	fs.String("listen", ":9443", "`address` of the webhook")
	fs.String("cert-dir", "", "`directory` with tls.crt and tls.key for the webhook")
	fs.Bool("rotate-certs", false, "make and renew the serving certificate and its authority in their Secrets, and the configuration's caBundle (role controller, in a cluster)")
	fs.String("metrics-listen", ":8080", "`address` of /metrics; 0 for none")
	fs.String("health-listen", ":8081", "`address` of /healthz and /readyz; 0 for none")
	fs.StringSlice("api-servers", nil, "`URLs` of all API servers, each of which is asked whether it enforces (default: in a cluster those registered in default/kubernetes, else the kubeconfig's)")
	secretsFlag(fs)
	fs.Int32("audit-limit", audit.DefaultLimit, "how many violations are listed in the status of a constraint")
	fs.Duration("audit-resync", audit.DefaultResync, "how often audit reads everything anew; in between it follows changes")
	fs.Int32("audit-workers", audit.DefaultWorkers, "how many objects audit reviews at a time")
	fs.Int32("check-every", defaultCheckEvery, "judge one in so many reviews again by OPA's interpreter, in spare time, to compare; 0 for none")
	reportFlags(fs)
	fs.Bool("log-denies", false, "log every violation that denies a request")
	fs.String("log-level", "info", "log level: error, info, debug")
	fs.String("log-format", "json", "log format: json, console")
	return cmd
}

// check refuses settings that serve cannot run with.
func (s settings) check() error {
	if len(s.Roles) == 0 {
		return errors.New("--roles is empty: name webhook, controller or both")
	}
	for _, r := range s.Roles {
		if r != roleWebhook && r != roleController {
			return fmt.Errorf("--roles: %q is not a role: use webhook, controller or both", r)
		}
	}
	if s.serves(roleWebhook) && s.CertDir == "" {
		return errors.New("--cert-dir is empty: name the directory that holds tls.crt and tls.key")
	}
	if s.RotateCerts && !s.serves(roleController) {
		return errors.New("--rotate-certs needs the role controller")
	}
	_, err := s.Perimeter()
	return errors.Join(err, s.checkAddresses(), s.checkAudit(), s.checkChecks(), s.CheckReports())
}

func (s settings) checkAddresses() error {
	var errs []error
	if _, _, err := splitAddress(s.Listen); s.serves(roleWebhook) && err != nil {
		errs = append(errs, fmt.Errorf("--listen: %w", err))
	}
	if _, _, err := splitAddress(s.MetricsListen); s.MetricsListen != "0" && err != nil {
		errs = append(errs, fmt.Errorf("--metrics-listen: %w; 0 is for none", err))
	}
	if _, _, err := splitAddress(s.HealthListen); s.HealthListen != "0" && err != nil {
		errs = append(errs, fmt.Errorf("--health-listen: %w; 0 is for none", err))
	}
	return errors.Join(errs...)
}

func (s settings) serves(role string) bool { return slices.Contains(s.Roles, role) }

func serve(ctx context.Context, s settings, logs io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	log, err := logger(s, logs)
	if err != nil {
		return err
	}
	log = stopped(ctx, log)
	limitMemory(log)
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	if s.PodName == "" {
		if s.PodName, err = podName(); err != nil {
			return err
		}
	}
	s.Namespace = cmp.Or(s.Namespace, exempt.DefaultNamespace)
	log.Info("starting", "version", version, "roles", s.Roles, "pod", s.PodName, "namespace", s.Namespace)
	cfg, err := s.restConfig()
	if err != nil {
		return err
	}
	if err := awaitAPIServer(ctx, cfg, log.WithName("start")); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while it waited
		}
		return err
	}
	mgr, err := newManager(s, log)
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func logger(s settings, out io.Writer) (logr.Logger, error) {
	level := zapcore.InfoLevel
	switch s.LogLevel {
	case "error":
		level = zapcore.ErrorLevel
	case "info", "":
	case "debug":
		level = zapcore.DebugLevel
	default:
		return logr.Logger{}, fmt.Errorf("--log-level %q: want error, info or debug", s.LogLevel)
	}
	opts := []zap.Opts{zap.Level(level), zap.WriteTo(out), zap.StacktraceLevel(zapcore.PanicLevel)}
	switch s.LogFormat {
	case "json", "":
		opts = append(opts, zap.JSONEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.RFC3339NanoTimeEncoder }))
	case "console":
		opts = append(opts, zap.ConsoleEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.ISO8601TimeEncoder }))
	default:
		return logr.Logger{}, fmt.Errorf("--log-format %q: want json or console", s.LogFormat)
	}
	return zap.New(opts...), nil
}

// podName is for processes outside the cluster, which have no pod.
func podName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding the host's name: %w", err)
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	return host + "-" + rand.String(5), nil
}
