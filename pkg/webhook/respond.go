package webhook

import (
	"encoding/json"
	"net/http"

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

// clean makes what people read of a response printable: messages of policies quote
// objects. A warning is one line, since it becomes an HTTP header: the API server drops
// one that holds control characters (k8s.io/apimachinery pkg/util/net,
// NewWarningHeader), and a warning that nobody sees is a violation lost.
func clean(resp *admissionv1.AdmissionResponse) {
	if resp.Result != nil {
		resp.Result.Message = printable.Text(resp.Result.Message)
	}
	for i, warning := range resp.Warnings {
		resp.Warnings[i] = printable.Line(warning)
	}
}

// write sends the response; marshalling happens before the header is sent, so
// that an error can still be answered as one.
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
	_, err = w.Write(body)
	return err
}
