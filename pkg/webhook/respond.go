package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

// codeAllowedWithWarnings is what Gatekeeper answers when it only warns.
const codeAllowedWithWarnings = 299

// answer words a decision as Gatekeeper does.
func answer(uid string, d policy.Decision) *admissionv1.AdmissionResponse {
	resp := &admissionv1.AdmissionResponse{
		UID:      types.UID(uid),
		Allowed:  d.Allowed,
		Warnings: d.Warnings,
		Result:   &metav1.Status{Code: http.StatusOK},
	}
	if len(d.CutOff) > 0 {
		resp.AuditAnnotations = map[string]string{AnnotationCutOff: names(d.CutOff)}
	}
	switch {
	case !d.Allowed:
		resp.Result.Code = http.StatusForbidden
		resp.Result.Reason = metav1.StatusReasonForbidden
		resp.Result.Message = d.Message
	case len(d.Warnings) > 0:
		resp.Result.Code = codeAllowedWithWarnings
	}
	return resp
}

// tooMany denies a request that was not judged for what its own namespace or user has
// in progress. It has no details: with retryAfterSeconds in them client-go would send
// the request ten times again without a word (k8s.io/client-go rest/with_retry.go).
func tooMany(e *excess) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{
		UID: types.UID(e.uid),
		Result: &metav1.Status{
			Code:    http.StatusTooManyRequests,
			Reason:  metav1.StatusReasonTooManyRequests,
			Message: e.Error(),
		},
	}
}

// AnnotationCutOff is the audit annotation of a denial that names constraints
// which were not judged to the end. In an audit event its key follows the name of
// the entry, as in "validation.fusegate.dev/cut-off".
const AnnotationCutOff = "cut-off"

// maxNames is how long a list of constraints is, in bytes.
const maxNames = 1 << 10

// names lists constraints, and counts those that there is no room for.
func names(constraints []policy.Constraint) string {
	var b strings.Builder
	for i, c := range constraints {
		if b.Len()+len(c.String()) > maxNames {
			fmt.Fprintf(&b, ", and %d more", len(constraints)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.String())
	}
	return b.String()
}

// refuse answers that a template or constraint is not valid.
func refuse(uid string, err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{
		UID: types.UID(uid),
		Result: &metav1.Status{
			Code:    http.StatusUnprocessableEntity,
			Reason:  metav1.StatusReasonInvalid,
			Message: err.Error(),
		},
	}
}

// clean makes what people read of a response printable, and bounds it: messages of
// policies quote objects, and so do refusals. Decisions are so already. A warning is
// one line, since it becomes an HTTP header: the API server drops one that holds
// control characters (k8s.io/apimachinery pkg/util/net, NewWarningHeader), and a
// warning that nobody sees is a violation lost.
func clean(resp *admissionv1.AdmissionResponse) {
	if resp.Result != nil {
		resp.Result.Message = printable.TextMax(resp.Result.Message, policy.MaxAnswerText)
	}
	for i, warning := range resp.Warnings {
		resp.Warnings[i] = printable.LineMax(warning, policy.MaxText)
	}
	for key, text := range resp.AuditAnnotations {
		resp.AuditAnnotations[key] = printable.Line(text)
	}
}

// write sends the response, and not only when the handler ends: logging is not to
// keep it. Marshalling happens before the header is sent, so that an error can
// still be answered as one.
func write(w http.ResponseWriter, resp *admissionv1.AdmissionResponse) error {
	clean(resp)
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: resp,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err = w.Write(body); err != nil {
		return err
	}
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
