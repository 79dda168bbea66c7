package intercept

import (
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/admission"
)

// Server is what depends on the version of the API server that is simulated. The
// zero value is that of an API server before Kubernetes 1.37.
type Server struct {
	// KeepsReviews is set where the API server sends reviews of authentication and
	// authorization to no webhook. From Kubernetes 1.37 on it does not, unless its
	// feature gate ExcludeAdmissionWebhookVirtualResources (beta, on by default) is
	// turned off, which no client can see.
	KeepsReviews bool
}

// ServerOf is the Server that says this of its version. An API server that emulates
// an older version behaves like that one. A version that cannot be read counts as
// old.
func ServerOf(v version.Info) Server {
	major, minor := v.Major, v.Minor
	if v.EmulationMajor != "" {
		major, minor = v.EmulationMajor, v.EmulationMinor
	}
	ma, err := strconv.Atoi(major)
	if err != nil {
		return Server{}
	}
	mi, err := strconv.Atoi(strings.TrimRight(minor, "+")) // providers mark their own builds
	if err != nil {
		return Server{}
	}
	return Server{KeepsReviews: ma > 1 || ma == 1 && mi >= 37}
}

// reviews are the resources that KeepsReviews is about (Kubernetes
// pkg/kubeapiserver/admission/exclusion, excluded).
var reviews = []schema.GroupResource{
	{Group: "authentication.k8s.io", Resource: "selfsubjectreviews"},
	{Group: "authentication.k8s.io", Resource: "tokenreviews"},
	{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"},
	{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"},
	{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews"},
	{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
}

// keeps reports whether the API server sends the request to no webhook.
func (s Server) keeps(a admission.Attributes) bool {
	return s.KeepsReviews && slices.Contains(reviews, a.GetResource().GroupResource())
}
