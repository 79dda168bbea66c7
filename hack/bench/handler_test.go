package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/webhook"
)

// BenchmarkHandler sends the subjects to the webhook's handler over TLS, one after
// another.
func BenchmarkHandler(b *testing.B) {
	o := libraryOf(b)
	h, err := webhook.New(exempt.Perimeter{}, o.Engine, webhook.NewPolicyValidator(o.Engine, exempt.Perimeter{}), namespaces{}, webhook.Options{})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewTLSServer(h)
	defer server.Close()
	for _, s := range pods() {
		body := s.admission()
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := server.Client().Post(server.URL+webhook.Path, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Fatal(resp.StatusCode)
				}
			}
		})
	}
}
