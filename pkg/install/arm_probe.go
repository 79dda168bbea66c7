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
	"net/http"
	"net/url"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"

	"github.com/fusegate/fusegate/pkg/exempt"
)

const (
	// probeTimeout bounds one question to the backend.
	probeTimeout = 2 * time.Second
	// probeLimit bounds the answer, in bytes.
	probeLimit = 64 << 10
)

// answers asks the backend as the API server would, at the address and with
// the certificate authority of the live configuration.
func answers(ctx context.Context, cc admissionregistrationv1.WebhookClientConfig) error {
	target, err := address(cc)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cc.CABundle) {
		return errors.New("the configuration has no caBundle yet")
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
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
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return checkAnswer(resp, uid)
}

func address(cc admissionregistrationv1.WebhookClientConfig) (string, error) {
	if cc.URL != nil {
		return *cc.URL, nil
	}
	s := cc.Service
	if s == nil {
		return "", errors.New("the configuration names neither a service nor a url")
	}
	u := url.URL{
		Scheme: "https",
		Host:   fmt.Sprintf("%s.%s.svc:%d", s.Name, s.Namespace, ptr.Deref(s.Port, 443)),
		Path:   ptr.Deref(s.Path, ""),
	}
	return u.String(), nil
}

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
