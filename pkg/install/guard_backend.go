package install

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/pkg/exempt"
)

const (
	// probeTimeout bounds one question to the backend.
	probeTimeout = 2 * time.Second
	// probeLimit bounds the answer, in bytes.
	probeLimit = 64 << 10
)

// answers asks the backend as the API server would: at the address and with the
// certificate authority of the live configuration.
func (g *Guard) answers(ctx context.Context, cc admissionregistrationv1.WebhookClientConfig) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	target, dial, err := g.route(ctx, cc)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cc.CABundle) {
		return errors.New("the configuration has no caBundle yet")
	}
	transport := &http.Transport{
		DialContext:       dial,
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	uid := uuid.NewUUID()
	body, err := json.Marshal(probeReview(uid))
	if err != nil {
		return fmt.Errorf("encoding the probe: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the probe: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	hc := &http.Client{Transport: transport, CheckRedirect: noRedirect}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return checkAnswer(resp, uid)
}

// noRedirect follows no redirect: an answer from elsewhere says nothing of the
// backend.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// dialer is the type of net.Dialer.DialContext.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// route is the URL of the backend and how to reach it. A Service is dialled at
// its cluster IP, as the API server does, so that arming does not wait for the
// cluster's DNS; its certificate is still checked against its name.
func (g *Guard) route(ctx context.Context, cc admissionregistrationv1.WebhookClientConfig) (string, dialer, error) {
	direct := (&net.Dialer{}).DialContext
	if cc.URL != nil {
		return *cc.URL, direct, nil
	}
	ref := cc.Service
	if ref == nil {
		return "", nil, errors.New("the configuration names neither a service nor a url")
	}
	service := &corev1.Service{}
	if err := g.Live.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, service); err != nil {
		return "", nil, fmt.Errorf("reading Service %s/%s: %w", ref.Namespace, ref.Name, err)
	}
	port := strconv.Itoa(int(ptr.Deref(ref.Port, 443)))
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(ref.Name+"."+ref.Namespace+".svc", port), Path: ptr.Deref(ref.Path, "")}
	if ip := service.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
		return u.String(), func(ctx context.Context, network, _ string) (net.Conn, error) {
			return direct(ctx, network, net.JoinHostPort(ip, port))
		}, nil
	}
	return u.String(), direct, nil
}

// probeObject is what the probe pretends to create.
const probeObject = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + exempt.ProbeName + `","namespace":"` + metav1.NamespaceSystem + `"}}`

// probeReview is a request inside the perimeter: a backend that works allows it
// without asking any policy.
func probeReview(uid types.UID) admissionv1.AdmissionReview {
	return admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:       uid,
			Kind:      metav1.GroupVersionKind{Version: "v1", Kind: "ConfigMap"},
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "configmaps"},
			Name:      exempt.ProbeName,
			Namespace: metav1.NamespaceSystem,
			Operation: admissionv1.Create,
			Object:    runtime.RawExtension{Raw: []byte(probeObject)},
			UserInfo:  authenticationv1.UserInfo{Username: "system:apiserver"},
		},
	}
}

func checkAnswer(resp *http.Response, uid types.UID) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeLimit))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if review.Response == nil || review.Response.UID != uid || !review.Response.Allowed {
		return errors.New("it did not answer the probe as Fusegate does")
	}
	return nil
}
