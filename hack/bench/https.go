package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/webhook"
)

// perClient is how many requests each client sends.
const perClient = 200

// namespaces knows every namespace, without labels.
type namespaces struct{}

func (namespaces) Namespace(_ context.Context, name string) policy.Namespace {
	return policy.Namespace{Known: true, Object: map[string]any{"metadata": map[string]any{"name": name}}}
}

// overHTTPS measures the webhook's handler behind TLS, as an API server meets
// it, at two numbers of clients.
func overHTTPS(ctx context.Context, o *ours, l library, s subject) error {
	h, err := webhook.New(exempt.Perimeter{}, o.Engine, webhook.NewPolicyValidator(o.Engine, exempt.Perimeter{}), namespaces{}, webhook.Options{})
	if err != nil {
		return err
	}
	server := httptest.NewTLSServer(h)
	defer server.Close()
	body := s.admission()
	fmt.Printf("\nwebhook over HTTPS, %q\n", s.name)
	for _, clients := range []int{1, 16} {
		if err := load(ctx, server, body, clients); err != nil {
			return err
		}
	}
	return churn(ctx, server, o, l, body)
}

func load(ctx context.Context, server *httptest.Server, body []byte, clients int) error {
	times, took, err := burst(ctx, server, body, clients)
	if err != nil {
		return err
	}
	fmt.Printf("%2d clients: %6.0f reviews/s  p50 %8s  p99 %8s\n", clients, float64(len(times))/took.Seconds(),
		percentile(times, 50).Round(time.Microsecond), percentile(times, 99).Round(time.Microsecond))
	return nil
}

// burst has every client send its requests.
func burst(ctx context.Context, server *httptest.Server, body []byte, clients int) (times []time.Duration, took time.Duration, failed error) {
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = clients
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := time.Now()
	for range clients {
		wg.Go(func() {
			mine, err := send(ctx, client, server.URL+webhook.Path, body)
			mu.Lock()
			defer mu.Unlock()
			times, failed = append(times, mine...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	return times, time.Since(start), failed
}

func send(ctx context.Context, client *http.Client, url string, body []byte) ([]time.Duration, error) {
	times := make([]time.Duration, 0, perClient)
	for range perClient {
		start := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the webhook answered %s", resp.Status)
		}
		times = append(times, time.Since(start))
	}
	return times, nil
}
