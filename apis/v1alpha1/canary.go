package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CanaryKind is the kind by which Fusegate asks an API server, in dry runs,
// whether it sends requests to the webhook.
const CanaryKind = "Canary"

// Canary is a question to the webhook, by way of the API server. It is never stored:
// Fusegate creates it with dryRun, to learn from the answer whether an API server sends
// requests to the webhook and how long that takes. A built-in policy denies every one
// of them.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
type Canary struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec CanarySpec `json:"spec,omitempty"`
}

// CanarySpec is what a Canary asks.
type CanarySpec struct {
	// Nonce is what the denial repeats, so that it is known to be an answer to this
	// canary.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Nonce string `json:"nonce"`
	// Revision of the rules that the API server is expected to go by. Where it goes by
	// another one, it lets the canary through.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Revision string `json:"revision"`
}

// CanaryList is a list of Canaries, which is always empty.
//
// +kubebuilder:object:root=true
type CanaryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Canary `json:"items"`
}
