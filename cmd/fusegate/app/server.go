package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/fusegate/fusegate/pkg/servingcert"
	"github.com/fusegate/fusegate/pkg/webhook"
)

// How long a client of the webhook may take. An API server that connects has a
// request to send; the body has a deadline of its own, by the request's.
const (
	headerTimeout = 5 * time.Second // of the TLS handshake too
	idleTimeout   = 90 * time.Second
	maxHeader     = 16 << 10
	// finish is how long requests have to be answered when the server stops.
	finish = time.Minute
)

// patientServer starts its server once there is a certificate.
type patientServer struct {
	address     string
	handler     http.Handler
	certificate *servingcert.Files
	log         logr.Logger
	leaving     *leaving
	refused     prometheus.Counter
	// askClients has clients present a certificate, if they have one.
	askClients bool
}

func newServer(host string, port int, certDir string, h *leaving, log logr.Logger) *patientServer {
	// Its own server has no limits of connections; its mux measures what it serves.
	measured := ctrlwebhook.NewServer(ctrlwebhook.Options{})
	measured.Register(webhook.Path, h)
	return &patientServer{
		address: net.JoinHostPort(host, strconv.Itoa(port)), handler: measured.WebhookMux(),
		certificate: servingcert.NewFiles(certDir, log), log: log, leaving: h,
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fusegate_admission_connections_refused_total",
			Help: "Connections to the webhook that were closed at once, as there were too many of their address.",
		}),
	}
}

// NeedLeaderElection is false: every replica answers.
func (s *patientServer) NeedLeaderElection() bool { return false }

func (s *patientServer) Start(ctx context.Context) error {
	if err := s.certificate.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	late, stop := s.leaving.after(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	following.Go(func() {
		if err := s.certificate.Start(late); err != nil {
			s.log.Error(err, "the serving certificate is not followed")
		}
	})
	return s.serve(late)
}

// serve answers until ctx ends, and then until what is in progress is answered.
func (s *patientServer) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening for the webhook: %w", err)
	}
	server := s.server(ctx)
	stopped := make(chan error, 1)
	release := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), finish)
		defer cancel()
		stopped <- server.Shutdown(ending)
	})
	s.log.Info("serving webhook", "address", s.address)
	err = server.ServeTLS(newFairListener(listener, s.refused), "", "")
	if !errors.Is(err, http.ErrServerClosed) {
		release()
		return fmt.Errorf("serving the webhook: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stopping the webhook: %w", err)
	}
	return nil
}

func (s *patientServer) server(ctx context.Context) *http.Server {
	config := &tls.Config{GetCertificate: s.certificate.GetCertificate, MinVersion: tls.VersionTLS12}
	if s.askClients {
		config.ClientAuth = tls.RequestClientCert // the handler verifies it: who has none is answered too
	}
	// API servers use HTTP/2 for a webhook on their own host only. On its connections
	// requests wait for each other's bodies, and the limits of connections say nothing.
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s.handler,
		Protocols:         protocols,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		TLSConfig:         config,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(connectionLog{s.log.V(1)}, "", 0),
	}
}

// connectionLog logs what the server says of connections, which anybody can make, for those
// who look for it.
type connectionLog struct{ log logr.Logger }

// Write implements io.Writer.
func (q connectionLog) Write(line []byte) (int, error) {
	q.log.Info("connection to the webhook failed", "reason", string(line))
	return len(line), nil
}
