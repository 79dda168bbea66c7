package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestLimited has kinds of objects share one limit, and not those who have another
// client.
func TestLimited(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	mapper := apimeta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), apimeta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), apimeta.RESTScopeNamespace)
	cfg := &rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	made := func(cfg *rest.Config) client.Client {
		c, err := client.New(cfg, client.Options{Scheme: clientgoscheme.Scheme, Mapper: mapper})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	bounded, other := made(limited(cfg, 0.001, 3)), made(cfg)
	read := func(c client.Client, o client.Object) error {
		// It would have to wait for a quarter of an hour, which it knows at once.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return c.Get(ctx, client.ObjectKey{Namespace: "default", Name: "a"}, o)
	}
	for n := range 3 {
		var o client.Object = &corev1.ConfigMap{}
		if n%2 > 0 {
			o = &corev1.Secret{}
		}
		if err := read(bounded, o); err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	for _, o := range []client.Object{&corev1.ConfigMap{}, &corev1.Secret{}} {
		if read(bounded, o) == nil {
			t.Errorf("%T: one more than the limit was sent", o)
		}
		if err := read(other, o); err != nil {
			t.Errorf("%T: another client is limited, too: %v", o, err)
		}
	}
}
