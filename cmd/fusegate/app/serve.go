package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/fusegate/fusegate/pkg/config"
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
	addSettings(cmd.Flags(), config.Serve)
	return cmd
}

func serve(ctx context.Context, s settings, logs io.Writer) error {
	if err := s.ValidateProcess(); err != nil {
		return err
	}
	log := stopped(ctx, logger(s, logs))
	limitMemory(log)
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	if s.PodName == "" {
		name, err := podName()
		if err != nil {
			return err
		}
		s.PodName = name
	}
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
	c := ownCompiler(compilerMemory(), log.WithName("compiler"))
	defer c.Close()
	if err := c.Start(); err != nil {
		return err // without it no template would ever be in force
	}
	mgr, err := newManager(s, timingsOf(ctx), c, log)
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// logger writes to out as the settings say, which are valid.
func logger(s settings, out io.Writer) logr.Logger {
	level := map[string]zapcore.Level{"error": zapcore.ErrorLevel, "debug": zapcore.DebugLevel}[s.LogLevel] // else info, which is zero
	opts := []zap.Opts{zap.Level(level), zap.WriteTo(out), zap.StacktraceLevel(zapcore.PanicLevel)}
	encoder := zap.JSONEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.RFC3339NanoTimeEncoder })
	if s.LogFormat == "console" {
		encoder = zap.ConsoleEncoder(func(c *zapcore.EncoderConfig) { c.EncodeTime = zapcore.ISO8601TimeEncoder })
	}
	return zap.New(append(opts, encoder, printableLog)...)
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
